"""Models of inputs and signals: checks values against them, and describes them as JSON schemas.

A model is a pydantic model class or a dataclass. pydantic converts values and checks them. A
dataclass is called with the names of a mapping: what it has not, and what it lacks, is refused, and
nothing is converted.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from celery_durable.arguments import model_fields
from celery_durable.errors import InvalidWorkflow, PayloadError

Schema = dict[str, Any]

MOST_NESTED = 10
"""Levels of dataclasses in one another that a schema describes."""


def checked_model(owner: str, name: str, model: object) -> Any:
    """Return `model` if it can check values: a dataclass, a pydantic model or None."""
    if model is None:
        return None
    if isinstance(model, type) and (is_dataclass(model) or model_fields(model) is not None):
        return model
    raise InvalidWorkflow(
        f"{owner}: {name}= takes a dataclass or a pydantic model class, not {model!r}."
    )


def fitted(model: Any, value: object, what: str) -> object:
    """Return `value` as an instance of `model`, which may be None: then as it is.

    `what` is what errors call the value. Raises `PayloadError`, which names the fields that do not
    fit.
    """
    if model is None or isinstance(value, model):
        return value
    misfit = f"{what} is not a {model.__name__}"
    try:
        if model_fields(model) is not None:
            return model.model_validate(value)
        if isinstance(value, Mapping):
            return model(**value)
    except (TypeError, ValueError, RecursionError) as error:
        faults = _faults(error, model, value)
        told = "; ".join(f"{path}: {fault}" if path else fault for path, fault in faults.items())
        raise PayloadError(f"{misfit}: {told}", faults) from error
    raise PayloadError(f"{misfit} or a mapping, but {type(value).__name__}.")


def _faults(error: Exception, model: Any, value: object) -> Mapping[str, str]:
    """What does not fit, by the paths of the fields; under "" what no field is to blame for."""
    details: Callable[..., Sequence[Mapping[str, Any]]] | None = getattr(error, "errors", None)
    if details is not None and callable(details):
        found = details(include_url=False, include_context=False, include_input=False)
        return {".".join(map(str, one["loc"])): str(one["msg"]) for one in found}
    names = _wrong_names(model, value) if isinstance(error, TypeError) else {}
    return names or {"": str(error)}


def _wrong_names(model: Any, value: object) -> Mapping[str, str]:
    """The fields that a dataclass needs and a mapping lacks, and those that it has not."""
    if not isinstance(value, Mapping):
        return {}
    known = inspect.signature(model).parameters
    if any(one.kind is one.VAR_KEYWORD for one in known.values()):
        return {}
    lacking = {
        name: "Field required"
        for name, one in known.items()
        if one.default is one.empty and name not in value
    }
    return lacking | {str(name): "There is no such field" for name in value if name not in known}


def json_schema(model: Any) -> Schema | None:
    """Return the JSON schema of a model; None for None.

    `propertyOrder` keeps the order of the fields, which Postgres does not. A model that pydantic
    cannot describe has its title alone.
    """
    if model is None:
        return None
    if model_fields(model) is None:
        return _of_dataclass(model, MOST_NESTED)
    undescribed: Any = sys.modules["pydantic.errors"].PydanticUserError
    try:
        found: Schema = model.model_json_schema()
    except undescribed:
        return {"title": model.__name__}
    # It is plain JSON, and nothing of the model.
    ordered: Schema = json.loads(json.dumps(found, default=str), object_hook=_with_order)
    return ordered


def _with_order(schema: Schema) -> Schema:
    properties = schema.get("properties")
    if isinstance(properties, dict) and "propertyOrder" not in schema:
        return {**schema, "propertyOrder": [*properties]}
    return schema


def _of_dataclass(model: Any, depth: int) -> Schema:
    hints = _hints(model)
    taken = [one for one in dataclasses.fields(model) if one.init]
    return {
        "title": model.__name__,
        "type": "object",
        "properties": {
            one.name: _of_type(hints.get(one.name), depth - 1) | _default(one) for one in taken
        },
        "required": [one.name for one in taken if _is_required(one)],
        "propertyOrder": [one.name for one in taken],
    }


def _hints(model: Any) -> Mapping[str, Any]:
    """The types of the fields; none where a name in them is not found."""
    try:
        return get_type_hints(model)
    except (NameError, TypeError):
        return {}


def _is_required(one: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return one.default is missing and one.default_factory is missing


def _default(one: dataclasses.Field[Any]) -> Schema:
    value = one.default
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, datetime | date | time):
        value = value.isoformat()
    if isinstance(value, Decimal | UUID):
        value = str(value)
    is_json = value is None or isinstance(value, str | int | float | bool)
    return {"default": value} if is_json else {}


_SCALARS: Mapping[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    date: {"type": "string", "format": "date"},
    datetime: {"type": "string", "format": "date-time"},
    time: {"type": "string", "format": "time"},
    Decimal: {"type": "string", "format": "decimal"},
    UUID: {"type": "string", "format": "uuid"},
    type(None): {"type": "null"},
}


def _of_type(hint: Any, depth: int) -> Schema:  # noqa: PLR0911 - a table of cases
    """The schema of a field's type; an empty one, which any value fits, for others."""
    if (scalar := _SCALARS.get(hint)) is not None:
        return dict(scalar)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of_type(one, depth) for one in arguments]}
    if origin in (list, Sequence) and len(arguments) == 1:
        return {"type": "array", "items": _of_type(arguments[0], depth)}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [one.value for one in hint]}
    if isinstance(hint, type) and is_dataclass(hint) and depth > 0:
        return _of_dataclass(hint, depth)
    return {}

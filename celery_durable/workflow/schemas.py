"""Models of inputs and signals: checks values against them, and describes them as JSON schemas.

A model is a pydantic model class or a dataclass. pydantic converts values and checks them; for a
dataclass `filling` does.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import sys
import types
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

from celery_durable.arguments import model_fields
from celery_durable.errors import InvalidWorkflow, PayloadError
from celery_durable.workflow.filling import faults_of, filled, is_model
from celery_durable.workflow.hints import hints_of

Schema = dict[str, Any]

MOST_NESTED = 10
"""Levels of dataclasses in one another that a schema describes."""


def checked_model(owner: str, name: str, model: object) -> Any:
    """Return `model` if it can check values: a dataclass, a pydantic model or None."""
    if model is None:
        return None
    if isinstance(model, type) and is_model(model):
        return model
    raise InvalidWorkflow(
        f"{owner}: {name}= takes a dataclass or a pydantic model class, not {model!r}."
    )


def fitted(model: Any, value: object, what: str) -> object:
    """Return `value` as an instance of `model`, which may be None: then as it is.

    `what` is what errors call the value. Raises `PayloadError`, which names the fields that do not
    fit, whatever it is that the model's own code raises.
    """
    if model is None or isinstance(value, model):
        return value
    misfit = f"{what} is not a {model.__name__}"
    if model_fields(model) is None and not isinstance(value, Mapping):
        raise PayloadError(f"{misfit} or a mapping, but {type(value).__name__}.")
    try:
        return filled(model, value)
    except Exception as error:  # whatever a model raises is said of the value, and ends no task
        faults = faults_of(error)
        told = "; ".join(f"{path}: {fault}" if path else fault for path, fault in faults.items())
        raise PayloadError(f"{misfit}: {told}", faults) from error


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
        found: Schema = model.model_json_schema(schema_generator=_pydantic_generator())
    except undescribed:
        return {"title": model.__name__}
    # It is plain JSON, which has no infinity, and nothing of the model.
    text = json.dumps(found, default=str)
    ordered: Schema = json.loads(text, object_hook=_with_order, parse_constant=lambda _: None)
    return ordered


@cache
def _pydantic_generator() -> Any:
    """Return pydantic's own generator of schemas, which tells a Decimal from a float or a text."""
    from pydantic.json_schema import GenerateJsonSchema  # noqa: PLC0415 - it is not required

    class Generator(GenerateJsonSchema):
        def decimal_schema(self, schema: Any) -> Schema:
            return {**super().decimal_schema(schema), "format": "decimal"}

    return Generator


def _with_order(schema: Schema) -> Schema:
    properties = schema.get("properties")
    if isinstance(properties, dict) and "propertyOrder" not in schema:
        return {**schema, "propertyOrder": [*properties]}
    return schema


def _of_dataclass(model: Any, depth: int) -> Schema:
    hints = hints_of(model)
    taken = [one for one in dataclasses.fields(model) if one.init]
    return {
        "title": model.__name__,
        **_description(model),
        "type": "object",
        "properties": {
            one.name: _of_type(hints.get(one.name), depth - 1) | _default(one) for one in taken
        },
        "required": [one.name for one in taken if _is_required(one)],
        "propertyOrder": [one.name for one in taken],
    }


def _description(model: Any) -> Schema:
    """The docstring; not the signature that a dataclass without one has in its place."""
    text = inspect.getdoc(model) or ""
    is_made = text == f"{model.__name__}{str(inspect.signature(model)).replace(' -> None', '')}"
    return {} if is_made or not text else {"description": text}


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
    is_json = value is None or isinstance(value, str | int | bool)
    if isinstance(value, float):
        is_json = math.isfinite(value)
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


_LISTS = (list, Sequence, set, frozenset, AbstractSet)


def _of_type(hint: Any, depth: int) -> Schema:  # noqa: PLR0911 - a table of cases
    """The schema of a field's type; an empty one, which any value fits, for others."""
    if (scalar := _SCALARS.get(hint)) is not None:
        return dict(scalar)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": [one.value if isinstance(one, Enum) else one for one in arguments]}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of_type(one, depth) for one in arguments]}
    if (origin in _LISTS and len(arguments) == 1) or (origin is tuple and arguments[1:] == (...,)):
        return {"type": "array", "items": _of_type(arguments[0], depth)}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [one.value for one in hint]}
    if isinstance(hint, type) and is_dataclass(hint) and depth > 0:
        return _of_dataclass(hint, depth)
    return {}

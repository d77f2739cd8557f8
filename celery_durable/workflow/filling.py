"""Fills dataclasses from plain values, such as JSON has: what a model says is what a handler gets.

A value that is of its type already stays the very same. Dates, times, decimals and UUIDs are read
from text, members of an `Enum` from their values, dataclasses and pydantic models from mappings. No
other value is converted: a number in text is no number. Types that are not known here, such as Any
or a class of the user's own, take whatever comes. Pure.
"""

from __future__ import annotations

import inspect
import operator
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import InitVar, is_dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Literal, Union, cast, get_args, get_origin

from celery_durable.arguments import model_fields
from celery_durable.workflow.hints import hints_of
from celery_durable.workflow.scalars import SCALARS, Faults, Misfit, literal, member


def filled(hint: Any, value: object) -> Any:  # noqa: PLR0911 - a table of cases
    """Return `value` as one of the type `hint`.

    Raises `Misfit`, or what a model itself raises: see `faults_of`.
    """
    origin = get_origin(hint) or hint
    if isinstance(hint, InitVar):
        return filled(hint.type, value)
    if origin is Literal:
        return literal(hint, value)
    if origin in (Union, types.UnionType):
        return _of_union(get_args(hint), value)
    if not isinstance(origin, type):
        return value
    if (fill := SCALARS.get(origin)) is not None:
        return fill(value)
    if (fill_parts := _CONTAINERS.get(origin)) is not None:
        return fill_parts(get_args(hint), value)
    if issubclass(origin, Enum):
        return value if isinstance(value, origin) else member(origin, value)
    if is_model(origin):
        return value if isinstance(value, origin) else _instance(origin, value)
    return value


def is_model(kind: type) -> bool:
    """True if it is a dataclass or a pydantic model."""
    return is_dataclass(kind) or model_fields(kind) is not None


def faults_of(error: Exception) -> Faults:
    """What an exception of `filled` says, by paths; under "" what no part is to blame for."""
    if isinstance(error, Misfit):
        return error.faults
    pydantic, raised = sys.modules.get("pydantic_core"), cast("Any", error)
    if pydantic is not None and isinstance(raised, pydantic.ValidationError):
        found = raised.errors(include_url=False, include_context=False, include_input=False)
        return {".".join(map(str, one["loc"])): str(one["msg"]) for one in found}
    return {"": _said_by(error)}


def _said_by(error: Exception) -> str:
    """The message; with the exception's name, unless it is of those that models raise to refuse."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may fail as well
        return name
    if type(error) in (ValueError, TypeError) and text:
        return text
    return f"{name}: {text}" if text else name


def _instance(model: Any, value: object) -> Any:
    if model_fields(model) is not None:
        return model.model_validate(value)
    if not isinstance(value, Mapping):
        raise Misfit({"": f"This is no {model.__name__}"})
    if hasattr(model, "__pydantic_validator__"):  # a dataclass of pydantic's
        return model(**value)
    faults = dict(_wrong_names(model, value))
    hints = hints_of(model)
    parts = _filled_each(((name, hints.get(name), one) for name, one in value.items()), faults)
    return model(**dict(zip(value, parts, strict=True)))


def _wrong_names(model: Any, value: Mapping[Any, object]) -> Faults:
    """The fields that a dataclass needs and a mapping lacks, and those that it has not."""
    known = _parameters(model)
    lacking = {
        name: "Field required"
        for name, one in known.items()
        if one.default is one.empty and one.kind not in _OF_ANY_NUMBER and name not in value
    }
    if any(one.kind is one.VAR_KEYWORD for one in known.values()):
        return lacking
    return lacking | {str(name): "There is no such field" for name in value if name not in known}


@lru_cache(maxsize=1024)
def _parameters(model: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(model).parameters


_OF_ANY_NUMBER = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _filled_each(
    parts: Iterable[tuple[object, Any, object]], faults: dict[str, str] | None = None
) -> list[Any]:
    """Fill the parts of a value, each with its place and its type. Raises all that is wrong."""
    faults = {} if faults is None else faults
    found = []
    for place, hint, value in parts:
        try:
            found.append(filled(hint, value))
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            for path, fault in faults_of(error).items():
                faults.setdefault(f"{place}.{path}" if path else str(place), fault)
    if faults:
        raise Misfit(faults)
    return found


def _of_union(options: Sequence[Any], value: object) -> Any:
    """The value as it is if one of the options takes it so; else as the first makes it fit."""
    found: list[Any] = []
    faults: dict[str, Faults] = {}
    known = [one for one in options if _is_known(one)]
    for one in known:
        try:
            made = filled(one, value)
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            faults[_name(one)] = faults_of(error)
        else:
            if made is value:
                return value
            found.append(made)
    if found:
        return found[0]
    if len(known) < len(options):
        return value
    faults.pop("NoneType", None)
    # One that took the value's shape has found what is wrong in it.
    inside = [one for one in faults.values() if "" not in one]
    only = inside if len(inside) == 1 else [*faults.values()]
    if len(only) == 1:
        raise Misfit(only[0])
    raise Misfit({"": f"This is none of {', '.join(faults)}"})


def _is_known(hint: Any) -> bool:
    """True if not every value is one of the type, as far as is known here."""
    origin = get_origin(hint) or hint
    if not isinstance(origin, type) or origin is types.UnionType:
        return origin in (Literal, Union, types.UnionType)
    return (
        origin in SCALARS or origin in _CONTAINERS or issubclass(origin, Enum) or is_model(origin)
    )


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)


def _items(
    kind: type, made: Callable[[list[Any]], Any], takes: tuple[type, ...]
) -> Callable[[Sequence[Any], Any], Any]:
    """Make a function that fills lists or sets of one type, `made` unless it is of `kind`."""

    def fill(arguments: Sequence[Any], value: Any) -> Any:
        if isinstance(value, str | bytes) or not issubclass(type(value), takes):
            raise Misfit({"": "This is no list"})
        hint = arguments[0] if arguments else None
        items = _filled_each((place, hint, item) for place, item in enumerate(value))
        is_right = issubclass(type(value), kind) and all(map(operator.is_, items, value))
        return value if is_right else made(items)

    return fill


def _tuple(arguments: Sequence[Any], value: Any) -> Any:
    if len(arguments) == 0 or arguments[-1] is ...:
        return _items(tuple, tuple, _LISTS)(arguments[:1], value)
    if not isinstance(value, list | tuple) or len(value) != len(arguments):
        raise Misfit({"": f"This is no list of {len(arguments)}"})
    items = _filled_each((place, arguments[place], item) for place, item in enumerate(value))
    is_right = isinstance(value, tuple) and all(map(operator.is_, items, value))
    return value if is_right else tuple(items)


def _mapping(arguments: Sequence[Any], value: object) -> Any:
    if not isinstance(value, Mapping):
        raise Misfit({"": "This is no mapping"})
    if len(arguments) != 2:  # noqa: PLR2004 - of keys, of values
        return value
    keys = _filled_each((key, arguments[0], _key(arguments[0], key)) for key in value)
    values = _filled_each((key, arguments[1], one) for key, one in value.items())
    is_same = all(map(operator.is_, keys, value)) and all(map(operator.is_, values, value.values()))
    return value if is_same else dict(zip(keys, values, strict=True))


def _key(hint: Any, key: object) -> object:
    """A key as it is; a number if it is one in text, since JSON has no other keys."""
    if hint is int and isinstance(key, str) and re.fullmatch("-?[0-9]{1,100}", key):
        return int(key)
    return key


_LISTS, _SETS = (list, tuple), (list, tuple, set, frozenset)

_CONTAINERS: Mapping[type, Callable[[Sequence[Any], Any], Any]] = {
    list: _items(list, list, _LISTS),
    Sequence: _items(Sequence, list, (Sequence,)),
    tuple: _tuple,
    set: _items(set, set, _SETS),
    frozenset: _items(frozenset, frozenset, _SETS),
    AbstractSet: _items(AbstractSet, set, _SETS),
    dict: _mapping,
    Mapping: _mapping,
}

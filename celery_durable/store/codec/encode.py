"""Values -> plain JSON with tags. Each type has one writer; a type without one is refused."""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Flag
from pathlib import PurePath
from typing import Any
from uuid import UUID

from celery_durable.store.codec.objects import Layout, layout_of, state_of, url_from
from celery_durable.store.codec.path import MOST_NESTED, ValuePath
from celery_durable.store.codec.scalars import (
    SCALARS,
    TYPE,
    Json,
    checked_int,
    checked_text,
    tagged,
    zone_of,
)

LEAVES = frozenset({str, int, float, bool, type(None)})

FACTORIES = {kind.__name__: kind for kind in (list, dict, set, int, float, str, tuple, frozenset)}
"""The factories that a defaultdict may have: reading one must not call anything else."""


def encoded(value: Any, path: ValuePath) -> Json:
    """`value` as plain JSON with tags. Raises `NotSerializable`."""
    kind: type = type(value)
    if kind in LEAVES:
        return _leaf(value, path)
    if (scalar := SCALARS.get(kind)) is not None:
        tag, written = scalar
        return tagged(tag, written(value, path))
    if path.depth >= MOST_NESTED:
        path.refuse(value, f"it is nested deeper than {MOST_NESTED} levels, or contains itself")
    if (write := _CONTAINERS.get(kind)) is not None:
        return write(value, path)
    if (layout := layout_of(kind)) is not None:
        return _object(value, layout, path)
    if isinstance(value, tzinfo):
        return zone_of(value, path)
    return path.refuse(value, _why(value))


def _leaf(value: Any, path: ValuePath) -> Json:
    match value:
        case str():
            return checked_text(value, path)
        case float() if not math.isfinite(value):
            return path.refuse(value, f"JSON has no {value}")
        case int() if not isinstance(value, bool):
            return checked_int(value, path)
        case _:
            return value


def _items(values: Iterable[object], path: ValuePath) -> list[Json]:
    return [encoded(item, ValuePath(f"[{i}]", path)) for i, item in enumerate(values)]


def _mapping(value: Mapping[Any, Any], path: ValuePath) -> Json:
    """A JSON object if all keys are strings and none looks like a tag; else pairs."""
    if any(type(key) is not str for key in value) or TYPE in value:
        return tagged("mapping", _pairs(value, path))
    return {
        checked_text(key, ValuePath(" key", path)): encoded(item, ValuePath(f"[{key!r}]", path))
        for key, item in value.items()
    }


def _pairs(value: Mapping[Any, Any], path: ValuePath) -> list[Json]:
    return [
        [
            encoded(key, ValuePath(f" key {key!r}", path)),
            encoded(item, ValuePath(f"[{key!r}]", path)),
        ]
        for key, item in value.items()
    ]


def _set(tag: str) -> Callable[[Any, ValuePath], Json]:
    def write(value: Iterable[object], path: ValuePath) -> Json:
        items = [encoded(item, ValuePath(f" item {item!r:.60}", path)) for item in value]
        # Sorted, so that equal sets are the same text in every process.
        return tagged(tag, sorted(items, key=json.dumps))

    return write


def _defaultdict(value: defaultdict[Any, Any], path: ValuePath) -> Json:
    factory = value.default_factory
    name = getattr(factory, "__name__", "")
    if factory is not None and FACTORIES.get(name) is not factory:
        why = (
            f"no other process can find its default factory {factory!r}; hand over dict(...) of it"
        )
        path.refuse(value, why)
    return tagged("defaultdict", {"factory": name or None, "items": _pairs(value, path)})


_CONTAINERS: Mapping[type, Callable[[Any, ValuePath], Json]] = {
    list: _items,
    dict: _mapping,
    tuple: lambda v, p: tagged("tuple", _items(v, p)),
    set: _set("set"),
    frozenset: _set("frozenset"),
    deque: lambda v, p: tagged("deque", {"items": _items(v, p), "most": v.maxlen}),
    OrderedDict: lambda v, p: tagged("OrderedDict", _pairs(v, p)),
    Counter: lambda v, p: tagged("Counter", _pairs(v, p)),
    defaultdict: _defaultdict,
}


def _object(value: Any, layout: Layout, path: ValuePath) -> Json:
    if layout.refusal is not None:
        path.refuse(value, layout.refusal)
    written = _OBJECTS[layout.kind](value, layout, path)
    return tagged(layout.kind, {"class": layout.reference, **written})


def _state(values: Mapping[str, Any], path: ValuePath) -> Json:
    written = {name: encoded(item, ValuePath(f".{name}", path)) for name, item in values.items()}
    return tagged("mapping", list(written.items())) if TYPE in written else written


def _dataclass(value: Any, layout: Layout, path: ValuePath) -> dict[str, Json]:
    state, more = state_of(value, layout)
    written = {"state": _state(state, path)}
    return written | {"more": _state(more, path)} if more else written


def _pydantic(value: Any, layout: Layout, path: ValuePath) -> dict[str, Json]:
    private = value.__pydantic_private__
    return _dataclass(value, layout, path) | {
        "set": sorted(value.__pydantic_fields_set__),
        "extra": _state(value.__pydantic_extra__ or {}, path),
        "private": None if private is None else _state(private, path),
    }


def _namedtuple(value: Any, layout: Layout, path: ValuePath) -> dict[str, Json]:
    if getattr(value, "__dict__", None):
        path.refuse(value, "it is a named tuple with attributes besides its fields")
    return {"state": _state(dict(zip(layout.names, value, strict=True)), path)}


def _enum(value: Any, _: Layout, path: ValuePath) -> dict[str, Json]:
    inner = value.value
    if isinstance(value, Flag):
        return {"value": checked_int(int(inner), path)}
    # The value is for readers that do not have the class.
    is_plain = type(inner) in (str, int, float, bool)
    return {"name": checked_text(value.name, path)} | (
        {"value": _leaf(inner, ValuePath(".value", path))} if is_plain else {}
    )


def _url(value: Any, _: Layout, path: ValuePath) -> dict[str, Json]:
    written = {"state": checked_text(str(value), path)}
    if url_from(type(value), written) != value:
        path.refuse(value, "it would come back as another; hand over str(...) of it")
    return written


_OBJECTS: Mapping[str, Callable[[Any, Layout, ValuePath], dict[str, Json]]] = {
    "dataclass": _dataclass,
    "pydantic": _pydantic,
    "namedtuple": _namedtuple,
    "enum": _enum,
    "url": _url,
}

_BASES: tuple[type, ...] = (
    *(str, int, float, complex, bytes, bytearray, datetime, date, time, timedelta, Decimal, UUID),
    *(PurePath, tuple, list, set, frozenset, deque, dict),
)


def _why(value: object) -> str:
    """Why `value` has no writer, and what to do."""
    for base in _BASES:
        if isinstance(value, base):
            return (
                f"it is a kind of {base.__name__} that would not come back as it is; hand over a"
                f" plain {base.__name__}"
            )
    if isinstance(value, Mapping):
        return "it is no dict; hand over dict(...) of it"
    return "it has no JSON form"

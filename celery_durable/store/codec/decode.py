"""Plain JSON with tags -> values.

Reading never fails on what is stored. A value that cannot be made here, because its class is not
here or has changed, is read as plain data, with one warning for each class.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

from celery_durable.store.codec.classes import class_named
from celery_durable.store.codec.encode import FACTORIES
from celery_durable.store.codec.objects import (
    dataclass_from,
    enum_from,
    layout_of,
    namedtuple_from,
    pydantic_from,
    url_from,
)
from celery_durable.store.codec.scalars import SCALARS_FROM, TYPE, VALUE

logger = logging.getLogger(__name__)

UNREADABLE = (
    *(ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError),
)
"""What making a value raises if the stored state does not fit its class any more."""

MOST_WARNINGS = 1000
"""The most names that are kept as warned of; a journal may hold any number."""

REMEDY = " Import its module where it is read, or name it in durable_allowed_types."

_warned: set[str] = set()


def untagged(value: dict[str, Any]) -> Any:
    """The value that a tagged dict stands for; a dict without a tag as it is."""
    if value.keys() != {TYPE, VALUE} or not isinstance(value[TYPE], str):
        return value
    tag, stored = value[TYPE], value[VALUE]
    try:
        if (read := _FROM.get(tag)) is not None:
            return read(stored)
        if (make := _OBJECTS_FROM.get(tag)) is not None:
            return _made(tag, make, stored)
    except UNREADABLE as error:
        return _as_plain_data(tag, stored, error)
    return value


def _made(tag: str, make: Callable[[Any, Any], Any], stored: Mapping[str, Any]) -> Any:
    found = class_named(stored["class"])
    layout = None if found is None else layout_of(found)
    if layout is None or layout.kind != tag or layout.refusal is not None:
        raise LookupError("there is no such class in the modules that are loaded")
    return make(found, stored)


def _as_plain_data(tag: str, stored: Any, error: Exception) -> Any:
    is_object = isinstance(stored, dict) and "class" in stored
    name = str(stored["class"]) if is_object else tag
    if name not in _warned and len(_warned) < MOST_WARNINGS:
        _warned.add(name)
        logger.warning(
            "A stored %s is read as plain data: %s.%s",
            name,
            error,
            REMEDY if is_object else "",
        )
    if not is_object:
        return stored
    return stored.get("state", stored.get("value", stored.get("name")))


_FROM: Mapping[str, Callable[[Any], Any]] = {
    **SCALARS_FROM,
    "mapping": dict,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": lambda v: deque(v["items"], v["most"]),
    "OrderedDict": OrderedDict,
    "Counter": lambda v: Counter(dict(v)),
    "defaultdict": lambda v: defaultdict(
        None if v["factory"] is None else FACTORIES[v["factory"]], v["items"]
    ),
}

_OBJECTS_FROM: Mapping[str, Callable[[Any, Any], Any]] = {
    "dataclass": dataclass_from,
    "pydantic": pydantic_from,
    "namedtuple": namedtuple_from,
    "enum": enum_from,
    "url": url_from,
}

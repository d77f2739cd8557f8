"""Instances of users' classes <-> their state.

Making an instance calls no code of its class: its state is set as it was, neither converted nor
validated. A field that was added since gets its default; one that was removed since is left out.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from enum import Enum, Flag
from functools import cached_property, lru_cache
from types import MemberDescriptorType
from typing import Any, Literal

from celery_durable.arguments import model_fields
from celery_durable.store.codec.classes import reference_to

Kind = Literal["dataclass", "pydantic", "namedtuple", "enum", "url"]


@dataclass(frozen=True, slots=True)
class Layout:
    """A class: its kind, its name and its fields, or why its instances cannot be stored.

    `recomputed` are cached properties. `slots` are those for attributes that are no fields.
    """

    kind: Kind
    reference: str
    names: tuple[str, ...] = ()
    recomputed: frozenset[str] = frozenset()
    slots: tuple[str, ...] = ()
    refusal: str | None = None


@lru_cache(maxsize=1024)
def layout_of(cls: type) -> Layout | None:
    """The layout of a class of a kind that can be stored; None for any other class."""
    kind = _kind_of(cls)
    if kind is None:
        return None
    reference, refusal = reference_to(cls)
    names: tuple[str, ...] = ()
    if kind == "dataclass":
        names = tuple(field.name for field in dataclasses.fields(cls))
    elif kind == "pydantic":
        names = tuple(model_fields(cls) or ())
    elif kind == "namedtuple":
        names = cls._fields  # type: ignore[attr-defined]
    if kind in ("dataclass", "pydantic"):
        refusal = refusal or _hidden_state(cls)
    return Layout(
        kind,
        reference,
        names,
        frozenset(name for name, one in _attributes(cls) if isinstance(one, cached_property)),
        tuple(
            name
            for name, one in _attributes(cls)
            if isinstance(one, MemberDescriptorType)
            and name not in names
            and not name.startswith("__")
        ),
        refusal,
    )


def _kind_of(cls: type) -> Kind | None:
    if issubclass(cls, Enum):
        return "enum"
    if dataclasses.is_dataclass(cls):
        return "dataclass"
    if model_fields(cls) is not None:
        return "pydantic"
    if issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_field_defaults"):
        return "namedtuple"
    return "url" if _is_url(cls) else None


_URLS = {
    ("pydantic_core._pydantic_core", "Url"),
    ("pydantic_core._pydantic_core", "MultiHostUrl"),
    ("pydantic.networks", "_BaseUrl"),
    ("pydantic.networks", "_BaseMultiHostUrl"),
}


def _is_url(cls: type) -> bool:
    return any((base.__module__, base.__name__) in _URLS for base in cls.__mro__)


def _hidden_state(cls: type) -> str | None:
    """Why instances hold more than their attributes, or None."""
    if hasattr(cls, "__mapper__") or hasattr(cls, "_sa_class_manager"):
        return (
            "its class is mapped to a table, and a copy of a row would be read for the row; hand"
            " over its key, or a class that is not mapped"
        )
    try:
        object.__new__(cls)
    except TypeError:
        base = next(one for one in cls.__mro__ if one.__module__ == "builtins")
        return (
            f"its class is a kind of {base.__name__} too, of which more is to be kept than its"
            " fields; hand over a class that is not"
        )
    return None


def _attributes(cls: type) -> Iterator[tuple[str, Any]]:
    for base in cls.__mro__:
        yield from vars(base).items()


UNSET = object()


def state_of(value: object, layout: Layout) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields that are set, and the other attributes."""
    own = getattr(value, "__dict__", {})
    state = {
        name: found
        for name in layout.names
        if (found := own.get(name, UNSET)) is not UNSET
        or (found := getattr(value, name, UNSET)) is not UNSET
    }
    more = {
        name: found
        for name, found in own.items()
        # A generic class keeps its parameters in `__orig_class__`.
        if name not in state and name not in layout.recomputed and not name.startswith("__")
    }
    for name in layout.slots:
        if (found := getattr(value, name, UNSET)) is not UNSET:
            more[name] = found
    return state, more


def dataclass_from(cls: Any, stored: Mapping[str, Any]) -> Any:
    """A dataclass from its state."""
    state = stored["state"]
    made = object.__new__(cls)
    for field in dataclasses.fields(cls):
        if field.name in state:
            object.__setattr__(made, field.name, state[field.name])
        elif field.default is not dataclasses.MISSING:
            object.__setattr__(made, field.name, field.default)
        elif field.default_factory is not dataclasses.MISSING:
            object.__setattr__(made, field.name, field.default_factory())
    for name, value in stored.get("more", {}).items():
        object.__setattr__(made, name, value)
    return made


def pydantic_from(cls: Any, stored: Mapping[str, Any]) -> Any:
    """A pydantic model from its state."""
    fields: Mapping[str, Any] = model_fields(cls) or {}
    state = {name: value for name, value in stored["state"].items() if name in fields}
    for name, field in fields.items():
        if name not in state and not field.is_required():
            state[name] = _default(field, state)
    takes_extra = cls.model_config.get("extra") == "allow"
    extra = stored["extra"] if takes_extra else None
    made = cls.__new__(cls)
    object.__setattr__(made, "__dict__", state | stored.get("more", {}))
    was_set = set(stored["set"]) & {*fields, *(extra or ())}
    object.__setattr__(made, "__pydantic_fields_set__", was_set)
    if not cls.__pydantic_root_model__:
        object.__setattr__(made, "__pydantic_extra__", extra)
        object.__setattr__(made, "__pydantic_private__", _private(cls, stored["private"] or {}))
    return made


def _private(cls: Any, stored: Mapping[str, Any]) -> dict[str, Any] | None:
    attributes: Mapping[str, Any] = cls.__private_attributes__
    if not attributes:
        return None
    values = {
        name: stored[name] if name in stored else attribute.get_default()
        for name, attribute in attributes.items()
    }
    undefined = sys.modules["pydantic_core"].PydanticUndefined
    return {name: value for name, value in values.items() if value is not undefined}


def _default(field: Any, state: Mapping[str, Any]) -> Any:
    if field.default_factory is None:
        return deepcopy(field.default)
    # From pydantic 2.10 on a factory may ask for the fields before it.
    if getattr(field, "default_factory_takes_validated_data", False):
        return field.default_factory(dict(state))
    return field.default_factory()


def namedtuple_from(cls: Any, stored: Mapping[str, Any]) -> Any:
    """A named tuple from its fields."""
    values = cls._field_defaults | stored["state"]
    return tuple.__new__(cls, [values[name] for name in cls._fields])


def enum_from(cls: Any, stored: Mapping[str, Any]) -> Any:
    """A member of an enum by its name; a combination of flags by its value."""
    return cls(stored["value"]) if issubclass(cls, Flag) else cls.__members__[stored["name"]]


def url_from(cls: Any, stored: Mapping[str, Any]) -> Any:
    """A pydantic URL from its text."""
    return cls(stored["state"])

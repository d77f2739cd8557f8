"""Values <-> JSON text.

Plain JSON goes as it is. Other types go in the tagged form of kombu's JSON serializer,
`{"__type__": ..., "__value__": ...}` (kombu/utils/json.py), and come back as they were: datetime,
date, time, timedelta, Decimal, UUID, dataclasses and pydantic models. Tuples come back as lists.

What Postgres or another reader could not take is refused here, before anything is committed: NaN
and Infinity, the NUL character, lone surrogates, keys that are not strings.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

from celery_durable.errors import NotSerializable, PayloadTooLarge

TYPE = "__type__"
VALUE = "__value__"

Json = Any
"""Anything that `json` can write: dict, list, str, int, float, bool, None."""


def dumps(value: object, *, what: str, limit: int) -> str:
    """`value` as JSON text of at most `limit` bytes.

    `what` names it in errors: "the result of charge". Raises `NotSerializable` or
    `PayloadTooLarge`.
    """
    try:
        text = json.dumps(_plain(value, what), ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        why = "it contains itself, or is nested too deep"
        raise NotSerializable(what, type(value).__name__, why) from None
    size = len(text.encode())
    if size > limit:
        raise PayloadTooLarge(what, size, limit)
    return text


def loads(text: str | None) -> Any:
    """The value that `dumps` wrote; None for None."""
    if text is None:
        return None
    if TYPE not in text:
        return json.loads(text)
    return json.loads(text, object_hook=_untagged)


def _tagged(kind: str, value: Json) -> Json:
    return {TYPE: kind, VALUE: value}


def _plain(value: object, path: str) -> Json:
    kind = type(value)
    if kind is str:
        return _text(value, path)  # type: ignore[arg-type]
    if value is None or kind is bool:
        return value
    if kind is float:
        return _finite(value, path)  # type: ignore[arg-type]
    if kind is dict:
        return _mapping(value, path)  # type: ignore[arg-type]
    if kind is list or kind is tuple:
        return _sequence(value, path)  # type: ignore[arg-type]
    return _other(value, path)


def _text(value: str, path: str) -> str:
    if "\0" in value:
        raise NotSerializable(path, "str", "it holds the NUL character, which Postgres refuses")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            why = f"it holds a lone surrogate, {error.object[error.start]!r}"
            raise NotSerializable(path, "str", why) from None
    return str.__str__(value)  # the text itself, also of a member of a string enum


MOST_BITS = 14_280
"""Python reads no whole number of more than 4,300 digits from text (sys.set_int_max_str_digits)."""


def _whole(value: int, path: str) -> int:
    if value.bit_length() > MOST_BITS:
        raise NotSerializable(path, "int", "it has more digits than Python reads back")
    return int(value)


def _finite(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise NotSerializable(path, "float", f"JSON has no {value}")
    return float(value)


def _mapping(value: Mapping[Any, Any], path: str) -> Json:
    plain = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise NotSerializable(f"{path} key {key!r}", type(key).__name__, "keys must be strings")
        plain[_text(key, f"{path} key")] = _plain(item, f"{path}[{key!r}]")
    # A user's own dict that looks like a tag is itself tagged, so that it comes back as it was.
    return _tagged("mapping", list(plain.items())) if TYPE in plain else plain


_SIMPLE: tuple[tuple[type, str, Callable[[Any], Json]], ...] = (
    (datetime, "datetime", datetime.isoformat),
    (date, "date", date.isoformat),
    (time, "time", time.isoformat),
    (timedelta, "timedelta", lambda v: [v.days, v.seconds, v.microseconds]),
    (Decimal, "decimal", str),
    (UUID, "uuid", lambda v: {"hex": v.hex}),
)


def _sequence(value: Sequence[object], path: str) -> Json:
    return [_plain(item, f"{path}[{i}]") for i, item in enumerate(value)]


_SUBCLASSES: tuple[tuple[Any, Callable[[Any, str], Json]], ...] = (
    (str, _text),
    (int, _whole),
    (float, _finite),
    (Mapping, _mapping),
    ((list, tuple), _sequence),
)
"""What an instance of a subclass is written as: an enum of strings is its string."""


def _other(value: object, path: str) -> Json:
    for kind, tag, encode in _SIMPLE:
        if isinstance(value, kind):
            return _tagged(tag, encode(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        state = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return _tagged("dataclass", _object(value, state, path))
    if hasattr(type(value), "__pydantic_fields__") and hasattr(value, "model_dump"):
        return _tagged("pydantic", _pydantic(value, path))
    for kind, plain in _SUBCLASSES:
        if isinstance(value, kind):
            return plain(value, path)
    raise NotSerializable(path, type(value).__name__, "it has no JSON form")


def _pydantic(value: Any, path: str) -> Json:
    """The state of a pydantic model, without private attributes; pydantic need not be installed."""
    fields = type(value).__pydantic_fields__
    state = {name: item for name, item in value.__dict__.items() if name in fields}
    return _object(value, state, path) | {
        "set": [name for name in fields if name in value.__pydantic_fields_set__],
        "extra": _mapping(value.__pydantic_extra__ or {}, path),
    }


def _object(value: object, state: Mapping[str, object], path: str) -> Json:
    kind = type(value)
    if "<locals>" in kind.__qualname__:
        why = "its class is local to a function, so that no other process can find it"
        raise NotSerializable(path, kind.__qualname__, why)
    plain = {name: _plain(item, f"{path}.{name}") for name, item in state.items()}
    return {"class": f"{kind.__module__}:{kind.__qualname__}", "state": plain}


_DECODERS: Mapping[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda v: timedelta(*v),
    "decimal": Decimal,
    "uuid": lambda v: UUID(hex=v["hex"]),
    "mapping": dict,
    "dataclass": lambda v: _revived(v, _revive_dataclass),
    "pydantic": lambda v: _revived(v, _revive_pydantic),
}


def _untagged(value: dict[str, Any]) -> Any:
    if value.keys() == {TYPE, VALUE} and (decode := _DECODERS.get(value[TYPE])):
        return decode(value[VALUE])
    return value


def _revived(value: Mapping[str, Any], revive: Callable[[Any, Mapping[str, Any]], Any]) -> Any:
    """The object; its plain state in a process that cannot import its class."""
    kind = _class(value["class"])
    return value["state"] if kind is None else revive(kind, value)


def _revive_dataclass(kind: Any, stored: Mapping[str, Any]) -> Any:
    """As it was written; a field added since has its default, one removed since is left out."""
    revived = object.__new__(kind)
    for field in dataclasses.fields(kind):
        if field.name in stored["state"]:
            object.__setattr__(revived, field.name, stored["state"][field.name])
        elif field.default is not dataclasses.MISSING:
            object.__setattr__(revived, field.name, field.default)
        elif field.default_factory is not dataclasses.MISSING:
            object.__setattr__(revived, field.name, field.default_factory())
    return revived


def _revive_pydantic(kind: Any, stored: Mapping[str, Any]) -> Any:
    """Without validation: it was valid when it was written, and must come back as it was."""
    revived = kind.__new__(kind)
    fields, private = kind.__pydantic_fields__, kind.__private_attributes__
    defaults = {
        name: field.get_default(call_default_factory=True, validated_data={})
        for name, field in fields.items()
        if name not in stored["state"] and not field.is_required()
    }
    state = {name: item for name, item in stored["state"].items() if name in fields}
    takes_extra = kind.model_config.get("extra") == "allow"
    revived.__setstate__(
        {
            "__dict__": defaults | state,
            "__pydantic_fields_set__": set(stored["set"]) & set(fields),
            "__pydantic_extra__": stored["extra"] if takes_extra else None,
            "__pydantic_private__": {n: a.get_default() for n, a in private.items()} or None,
        }
    )
    return revived


@lru_cache(maxsize=512)
def _class(path: str) -> type | None:
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    is_known = dataclasses.is_dataclass(found) or hasattr(found, "__pydantic_fields__")
    return found if isinstance(found, type) and is_known else None

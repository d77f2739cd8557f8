"""Values <-> JSON text. A value comes back exactly as it was, or it is refused, with its path.

Plain JSON is stored as it is. Every other type is stored in the tagged form of kombu's JSON
serializer, `{"__type__": ..., "__value__": ...}` (kombu/utils/json.py). A subclass of a plain type
is refused: nothing says what it adds.

A value that Postgres or another reader could not take is refused too, before anything is committed:
NaN and Infinity, the NUL character, lone surrogates, more than `MOST_NESTED` levels. Reading
imports only what `durable_allowed_types` names, and makes only what writing takes (`classes`).

    encode    values -> plain JSON with tags
    decode    plain JSON with tags -> values
    scalars   the types without parts: times, numbers, paths, addresses
    objects   the state of instances of users' classes, and instances from it
    classes   classes by name: which another process finds, and which may be read here
    path      the path in a value to one of its parts
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import Any

from celery_durable.errors import NotSerializable, PayloadTooLarge
from celery_durable.store.codec.classes import allow
from celery_durable.store.codec.decode import untagged
from celery_durable.store.codec.encode import LEAVES, encoded
from celery_durable.store.codec.path import MOST_NESTED, ValuePath
from celery_durable.store.codec.scalars import TYPE

__all__ = ["MOST_NESTED", "allow", "dumps", "loads"]

_encoder = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
)


def _encode_quickly() -> Callable[[object], str]:
    """Return `_encoder.encode`, without making the encoder in C anew for each text.

    As `JSONEncoder.iterencode` does it in Lib/json/encoder.py; Pythons without that encoder exist.
    """
    make_in_c: Any = getattr(json.encoder, "c_make_encoder", None)
    if make_in_c is None:
        return _encoder.encode
    in_c = make_in_c(
        markers=None,
        default=_encoder.default,
        encoder=encode_basestring,
        indent=None,
        key_separator=":",
        item_separator=",",
        sort_keys=False,
        skipkeys=False,
        allow_nan=False,
    )

    def encode(value: object) -> str:
        return "".join(in_c(value, 0))

    return encode


_text_of = _encode_quickly()


def dumps(
    value: object, *, what: str, limit: int, setting: str | None = "durable_max_payload_bytes"
) -> str:
    """`value` as JSON text of at most `limit` bytes; `setting` names the setting of the limit.

    `what` names the value in errors: "the result of charge". Raises `NotSerializable` or
    `PayloadTooLarge`.
    """
    text = _quickly(value)
    try:
        if text is None:
            text = _text_of(encoded(value, ValuePath(what)))
    except NotSerializable as error:
        raise error.with_traceback(None) from None  # the path says more than the frames
    except RecursionError:
        why = f"this process's stack has no room for a value so deep; {MOST_NESTED} levels may nest"
        raise NotSerializable(what, type(value).__name__, why) from None
    size = len(text) if text.isascii() else len(text.encode())
    if size > limit:
        raise PayloadTooLarge(what, size, limit, setting)
    return text


def loads(text: str | None) -> Any:
    """The value that `dumps` wrote; None for None."""
    if text is None:
        return None
    if TYPE not in text:
        return json.loads(text)
    return json.loads(text, object_hook=untagged)


def _quickly(value: object) -> str | None:
    """The text of a value that is plain JSON; None if it is not, or may not be."""
    try:
        if not _is_plain(value, MOST_NESTED):
            return None
        text = _text_of(value)
        if not text.isascii():
            text.encode()
    except (ValueError, RecursionError):  # NaN, too many digits, a lone surrogate
        return None
    return None if "\\u0000" in text else text


def _is_plain(value: Any, left: int) -> bool:
    """Return True if `value` has only JSON's own types in it, in at most `left` levels."""
    kind = type(value)
    if kind is dict:
        if TYPE in value or not STRINGS.issuperset(map(type, value)):
            return False
        items = value.values()
    elif kind is list:
        items = value
    else:
        return kind in LEAVES
    if left == 0:
        return False
    for item in items:  # noqa: SIM110 - the hot path: `all` would make a generator
        if type(item) not in LEAVES and not _is_plain(item, left - 1):
            return False
    return True


STRINGS = frozenset({str})

"""Values as JSON for scripts: ISO 8601 times, durations in seconds, ids and decimals as strings.

Whatever a result may hold has a plain form here: an enum its value, a set a sorted list, bytes
base64, an object its fields.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import Any

from celery_durable.arguments import model_fields

_UNSEEN = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What JSON may hold as it is, and a terminal obeys, or UTF-8 cannot say: lone surrogates."""


def as_json(value: object, *, indent: int | None = 2) -> str:
    """`value`, which may hold dataclasses and whatever a result may hold, as JSON text."""
    return _UNSEEN.sub(_escaped, json.dumps(_plain(value), indent=indent, ensure_ascii=False))


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of a dataclass instance, not copied."""
    return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}


def _plain(value: Any) -> Any:
    match value:
        case Enum():
            return value.value if isinstance(value.value, str | int | float) else value.name
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case None | str() | int() | float():
            return value
        case _:
            return _of_parts(value)


def _of_parts(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts: Any = fields_of(value)
    elif model_fields(type(value)) is not None:
        parts = {**vars(value), **(getattr(value, "__pydantic_extra__", None) or {})}
    else:
        as_dict = getattr(value, "_asdict", None)  # a named tuple's
        parts = value if as_dict is None else as_dict()
    match parts:
        case Mapping():
            return {_key(key): _plain(item) for key, item in parts.items()}
        case list() | tuple() | deque():
            return [_plain(item) for item in parts]
        case AbstractSet():
            return sorted((_plain(item) for item in parts), key=json.dumps)
        case _:
            return str(value)


def _key(key: Any) -> str:
    plain = _plain(key)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)

"""Values as JSON for scripts: ISO 8601 times, durations in seconds, ids and decimals as strings."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Any


def as_json(value: object, *, indent: int | None = 2) -> str:
    """`value`, which may hold dataclasses and whatever a result may hold, as JSON text."""
    return json.dumps(value, default=_plain, indent=indent)


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of a dataclass instance, not copied."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _plain(value: Any) -> Any:
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Mapping():
            return dict(value)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return fields_of(value)
        case _ if hasattr(type(value), "__pydantic_fields__"):
            return dict(value.__dict__)
        case _:
            return str(value)

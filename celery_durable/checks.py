"""What callers hand over, checked: each wrong value has an error that names it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery_durable.core.plan import HIGHEST_PRIORITY
from celery_durable.core.status import Status
from celery_durable.errors import LONGEST, ConfigurationError

Seconds = float | timedelta

LONGEST_KEY = 500
"""Characters; an entry of a Postgres index has room for them in any script."""

LONGEST_SIGNAL = 500
LONGEST_REASON = 2_000
LONGEST_UNIT = 2_000
LONGEST_PAGE = 10_000
SHOWN = 60


@dataclass(frozen=True, slots=True)
class StartOptions:
    """The options of `start` and `start_many`, checked."""

    delay: float
    priority: int | None
    tags: Mapping[str, str] | None

    @classmethod
    def of(cls, delay: Seconds | None, priority: object, tags: object) -> StartOptions:
        """The options, or a `ConfigurationError` that names the wrong one."""
        chosen = None if priority is None else whole("priority", priority, 0, HIGHEST_PRIORITY)
        return cls(seconds("delay", delay) or 0.0, chosen, checked_tags(tags))


def model_fields(kind: type) -> Mapping[str, Any] | None:
    """The fields of a pydantic model; None of any other class. pydantic need not be installed."""
    pydantic: Any = sys.modules.get("pydantic.main")
    if pydantic is None or not issubclass(kind, pydantic.BaseModel):
        return None
    fields: Mapping[str, Any] = kind.model_fields  # type: ignore[attr-defined]
    return fields


def whole(name: str, value: object, lowest: int, highest: int) -> int:
    """`value` if it is a whole number from `lowest` to `highest`; True and False are not."""
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise ConfigurationError(
            f"{name}= takes a whole number from {lowest} to {highest}, not {value!r}."
        )
    return value


def seconds(name: str, value: Seconds | None) -> float | None:
    """A duration in seconds, from a number or a timedelta; None for None."""
    if value is None:
        return None
    number: Any = value.total_seconds() if isinstance(value, timedelta) else value
    if (
        isinstance(number, bool)
        or not isinstance(number, int | float)
        or not 0 <= number <= LONGEST
    ):
        raise ConfigurationError(
            f"{name}= takes seconds or a timedelta, not negative, not {value!r}."
        )
    return float(number)


def is_storable(text: object) -> bool:
    """Whether `text` is a string that Postgres takes: no NUL, no lone surrogate."""
    if not isinstance(text, str) or "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def text(name: str, value: object, longest: int) -> str:
    """`value` if it is a string of 1 to `longest` characters that Postgres takes."""
    if not isinstance(value, str) or not is_storable(value) or not 0 < len(value) <= longest:
        shown = repr(value)
        raise ConfigurationError(
            f"{name}= takes a string of 1 to {longest} characters without NUL, not"
            f" {shown if len(shown) < SHOWN else shown[:SHOWN] + '...'}."
        )
    return value


def checked_tags(tags: object) -> Mapping[str, str] | None:
    """`tags` if it is a mapping of strings to strings."""
    if tags is None:
        return None
    if isinstance(tags, Mapping) and all(
        is_storable(key) and is_storable(value) for key, value in tags.items()
    ):
        return dict(tags)
    raise ConfigurationError(f"tags= takes a mapping of strings to strings, not {tags!r}.")


def checked_status(status: str | None) -> Status | None:
    """`status` if there is such a status."""
    if status is None:
        return None
    try:
        return Status(status)
    except ValueError:
        known = ", ".join(Status)
        raise ConfigurationError(f"No run is ever {status!r}; statuses are {known}.") from None


def checked_run_id(run_id: UUID | str) -> UUID:
    """A run id, from a UUID or its text."""
    if isinstance(run_id, UUID):
        return run_id
    try:
        return UUID(run_id)
    except (ValueError, AttributeError, TypeError):
        raise ConfigurationError(f"A run id is a UUID, not {run_id!r}.") from None

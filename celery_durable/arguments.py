"""What callers hand over, checked: each wrong value has an error that names it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery_durable.core.names import MAX_LENGTH
from celery_durable.core.plan import HIGHEST_PRIORITY
from celery_durable.core.status import Status
from celery_durable.errors import ConfigurationError, seconds_of

Seconds = float | timedelta

LONGEST_KEY, KEY_BYTES = 500, 1_000
LONGEST_SIGNAL, SIGNAL_BYTES = 500, 1_610
"""Characters, and bytes in UTF-8: a workflow's name and a key share an entry of an index, a
signal's name and its key another, and Postgres has 2,704 bytes for one. A unit's name is a signal's
too.
"""

MOST_TAGS, TAG_BYTES, TAGS_BYTES = 50, 1_000, 4_000
"""Every claim reads the tags of its run; one of them is in an index, beside the workflow's name."""

LONGEST_REASON = 2_000
LONGEST_UNIT = 2_000
LONGEST_PAGE = 10_000
SHOWN = 60


def model_fields(kind: type) -> Mapping[str, Any] | None:
    """The fields of a pydantic model; None of any other class. pydantic need not be installed."""
    pydantic: Any = sys.modules.get("pydantic.main")
    if pydantic is None or not issubclass(kind, pydantic.BaseModel):
        return None
    fields: Mapping[str, Any] = kind.model_fields  # type: ignore[attr-defined]
    return fields


def whole_of(value: object, lowest: int, highest: int) -> int | None:
    """Return `value` if it is a whole number from `lowest` to `highest`; None for True and False,
    which Python counts as 1 and 0, and for any other value.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if lowest <= value <= highest else None


def flag_of(value: object) -> bool | None:
    """Return `value` if it is True or False; None for values that only count as one, 0 or ""."""
    return value if isinstance(value, bool) else None


def whole(name: str, value: object, lowest: int, highest: int) -> int:
    """`value` if it is a whole number from `lowest` to `highest`; True and False are not."""
    number = whole_of(value, lowest, highest)
    if number is None:
        raise ConfigurationError(
            f"{name}= takes a whole number from {lowest} to {highest}, not {value!r}."
        )
    return number


def seconds(name: str, value: Seconds | None) -> float | None:
    """A duration in seconds, from a number or a timedelta; None for None."""
    if value is None:
        return None
    number = seconds_of(value)
    if number is None:
        raise ConfigurationError(
            f"{name}= takes seconds or a timedelta, from 0 to a hundred years, not {value!r}."
        )
    return number


def checked_priority(value: object) -> int | None:
    """`value` if it is a priority, or None."""
    return None if value is None else whole("priority", value, 0, HIGHEST_PRIORITY)


def truth(name: str, value: object) -> bool:
    """`value` if it is True or False."""
    flag = flag_of(value)
    if flag is None:
        raise ConfigurationError(f"{name}= takes True or False, not {_shown(value)}.")
    return flag


def bytes_of(text: object) -> int | None:
    """The bytes of `text` in UTF-8; None if it is no string that Postgres takes.

    Postgres takes no NUL, and UTF-8 has no lone surrogates.
    """
    if not isinstance(text, str) or "\0" in text:
        return None
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def fits(text: object, longest: int, most_bytes: int | None = None) -> bool:
    """Whether `text` is a string of 1 to `longest` characters that Postgres takes."""
    size = bytes_of(text)
    if not size or not isinstance(text, str):
        return False
    return len(text) <= longest and (most_bytes is None or size <= most_bytes)


def text(name: str, value: object, longest: int, most_bytes: int | None = None) -> str:
    """`value` if it is a string of 1 to `longest` characters that Postgres takes."""
    if isinstance(value, str) and fits(value, longest, most_bytes):
        return value
    in_bytes = f" ({most_bytes} bytes in UTF-8)" if most_bytes else ""
    raise ConfigurationError(
        f"{name}= takes a string of 1 to {longest} characters{in_bytes} without NUL or half"
        f" characters, not {_shown(value)}."
    )


def checked_key(value: object) -> str | None:
    """`value` if it is a key of a run or a signal, or None."""
    return None if value is None else text("key", value, LONGEST_KEY, KEY_BYTES)


def checked_signal(value: object) -> str:
    """`value` if it is the name of a signal."""
    return text("signal", value, LONGEST_SIGNAL, SIGNAL_BYTES)


def checked_workflow(value: object) -> str:
    """`value` if it may be the name of a workflow."""
    return text("workflow", value, MAX_LENGTH)


def checked_tags(tags: object) -> Mapping[str, str] | None:
    """`tags` if it is a mapping of strings to strings, of bounded size."""
    if tags is None:
        return None
    pairs: Any = tags.items() if isinstance(tags, Mapping) else [(None, None)]
    sizes = [bytes_of(one) for pair in pairs for one in pair]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        raise ConfigurationError(
            f"tags= takes a mapping of strings to strings without NUL or half characters, not"
            f" {_shown(tags)}."
        )
    if len(known) > 2 * MOST_TAGS or sum(known) > TAGS_BYTES or max(known, default=0) > TAG_BYTES:
        raise ConfigurationError(
            f"tags= takes at most {MOST_TAGS} tags, names and values of at most {TAG_BYTES} bytes"
            f" each and {TAGS_BYTES} together, not {len(known) // 2} tags of {sum(known)} bytes;"
            " what is larger belongs into the input."
        )
    return dict(pairs)


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) < SHOWN else f"{shown[:SHOWN]}..."


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

"""Checks what callers pass: each wrong value raises a `ConfigurationError` that names it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, get_args
from uuid import UUID

from celery_durable.core.keys import DEFAULT_KEY_POLICY, KeyPolicy, OnConflict, ReuseKey
from celery_durable.core.names import MAX_LENGTH
from celery_durable.core.plan import HIGHEST_PRIORITY
from celery_durable.core.status import FINISHED, Status
from celery_durable.errors import ConfigurationError, nearest, seconds_of

Seconds = float | timedelta

LONGEST_KEY, KEY_BYTES = 500, 1_000
LONGEST_SIGNAL, SIGNAL_BYTES = 500, 1_610
"""Most characters, and most bytes in UTF-8.

A workflow's name and a key share an entry of an index, a signal's name and its key another, and
Postgres allows 2,704 bytes for an entry. The name of a unit can be the name of a signal.
"""

MOST_TAGS, TAG_BYTES, TAGS_BYTES = 50, 1_000, 4_000
"""Every claim reads the tags of its run. An index holds one of them beside the workflow's name."""

LONGEST_REASON = 2_000
LONGEST_ACTOR = 500
LONGEST_ERROR = 2_000
LONGEST_UNIT = 2_000
LONGEST_PAGE = 10_000

LONGEST_SHOWN = 60
"""Characters of a wrong value that an error shows."""


def model_fields(kind: type) -> Mapping[str, Any] | None:
    """Return the fields of a pydantic model; None for other classes, also without pydantic."""
    pydantic: Any = sys.modules.get("pydantic.main")
    if pydantic is None or not issubclass(kind, pydantic.BaseModel):
        return None
    fields: Mapping[str, Any] = kind.model_fields  # type: ignore[attr-defined]
    return fields


def whole_of(value: object, lowest: int, highest: int) -> int | None:
    """Return `value` if it is a whole number from `lowest` to `highest`, else None.

    True and False are none, though Python counts them as 1 and 0.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if lowest <= value <= highest else None


def flag_of(value: object) -> bool | None:
    """Return `value` if it is True or False, else None, also for what only counts as one: 0, ''."""
    return value if isinstance(value, bool) else None


MOST_ASSIGNEES = 100
"""Names of those who may answer a wait; they are in the token's row, and in an index."""


def names_of(value: object) -> tuple[str, ...]:
    """Return the names of people in `value`, each once.

    Raises `TypeError` or `ValueError` unless it is a collection of at most `MOST_ASSIGNEES` names
    that Postgres can store.
    """
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Collection):
        raise TypeError(f"{_shown(value)} is no sequence of names.")
    names = tuple(dict.fromkeys(value))
    if len(names) > MOST_ASSIGNEES:
        raise ValueError(f"{len(names)} names are more than {MOST_ASSIGNEES}.")
    for name in names:
        if not fits(name, MAX_LENGTH):
            raise ValueError(f"{_shown(name)} is no name of 1 to {MAX_LENGTH} characters.")
    return names


def checked_whole(name: str, value: object, lowest: int, highest: int) -> int:
    """Return `value` if it is a whole number from `lowest` to `highest`."""
    number = whole_of(value, lowest, highest)
    if number is None:
        raise ConfigurationError(
            f"{name}= takes a whole number from {lowest} to {highest}, not {value!r}."
        )
    return number


def checked_seconds(name: str, value: Seconds | None) -> float | None:
    """Return a duration in seconds, from a number or a timedelta; None for None."""
    if value is None:
        return None
    seconds = seconds_of(value)
    if seconds is None:
        raise ConfigurationError(
            f"{name}= takes seconds or a timedelta, from 0 to a hundred years, not {value!r}."
        )
    return seconds


def checked_deadline(name: str, value: Seconds | None) -> float | None:
    """Return a duration above 0 in seconds, from a number or a timedelta; None for None."""
    seconds = None if value is None else seconds_of(value)
    if value is not None and not seconds:
        raise ConfigurationError(
            f"{name}= takes seconds or a timedelta, above 0 and at most a hundred years,"
            f" not {value!r}."
        )
    return seconds


def checked_priority(value: object) -> int | None:
    """Return `value` if it is a priority or None."""
    return None if value is None else checked_whole("priority", value, 0, HIGHEST_PRIORITY)


def checked_flag(name: str, value: object) -> bool:
    """Return `value` if it is True or False."""
    flag = flag_of(value)
    if flag is None:
        raise ConfigurationError(f"{name}= takes True or False, not {_shown(value)}.")
    return flag


def checked_choice(name: str, value: object, choices: Sequence[str]) -> Any:
    """Return `value` if it is one of `choices`."""
    if isinstance(value, str) and value in choices:
        return value
    listed = ", ".join(map(repr, choices))
    raise ConfigurationError(f"{name}= takes one of {listed}, not {_shown(value)}.")


def checked_key_policy(key: str | None, on_conflict: object, reuse_key: object) -> KeyPolicy:
    """Return what is to be done where another run has the key; only a start with a key may say."""
    policy = KeyPolicy(
        checked_choice("on_conflict", on_conflict, get_args(OnConflict)),
        checked_choice("reuse_key", reuse_key, get_args(ReuseKey)),
    )
    if key is None and policy != DEFAULT_KEY_POLICY:
        raise ConfigurationError(
            "on_conflict= and reuse_key= say what happens where another run has the key: give the"
            " start a key=, too."
        )
    return policy


def bytes_of(text: object) -> int | None:
    """Return the length of `text` in bytes of UTF-8; None if Postgres cannot store it as text.

    Postgres stores no NUL, and UTF-8 has no lone surrogates.
    """
    if not isinstance(text, str) or "\0" in text:
        return None
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def fits(text: object, longest: int, most_bytes: int | None = None) -> bool:
    """Return True if `text` is a string of 1 to `longest` characters that Postgres can store."""
    size = bytes_of(text)
    if not size or not isinstance(text, str):
        return False
    return len(text) <= longest and (most_bytes is None or size <= most_bytes)


def checked_text(name: str, value: object, longest: int, most_bytes: int | None = None) -> str:
    """Return `value` if it is a string of 1 to `longest` characters that Postgres can store."""
    if isinstance(value, str) and fits(value, longest, most_bytes):
        return value
    in_bytes = f" ({most_bytes} bytes in UTF-8)" if most_bytes else ""
    raise ConfigurationError(
        f"{name}= takes a string of 1 to {longest} characters{in_bytes} without NUL or lone"
        f" surrogates, not {_shown(value)}."
    )


def checked_key(value: object) -> str | None:
    """Return `value` if it may be the key of a run or a signal, or is None."""
    return None if value is None else checked_text("key", value, LONGEST_KEY, KEY_BYTES)


def checked_signal(value: object) -> str:
    """Return `value` if it may be the name of a signal."""
    return checked_text("signal", value, LONGEST_SIGNAL, SIGNAL_BYTES)


def checked_workflow(value: object) -> str:
    """Return `value` if it may be the name of a workflow."""
    return checked_text("workflow", value, MAX_LENGTH)


def checked_tags(tags: object) -> Mapping[str, str] | None:
    """Return `tags` if it is a mapping of strings to strings, of bounded size."""
    if tags is None:
        return None
    pairs: Any = tags.items() if isinstance(tags, Mapping) else [(None, None)]
    sizes = [bytes_of(one) for pair in pairs for one in pair]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        raise ConfigurationError(
            f"tags= takes a mapping of strings to strings without NUL or lone surrogates,"
            f" not {_shown(tags)}."
        )
    if len(known) > 2 * MOST_TAGS or sum(known) > TAGS_BYTES or max(known, default=0) > TAG_BYTES:
        raise ConfigurationError(
            f"tags= takes at most {MOST_TAGS} tags, names and values of at most {TAG_BYTES} bytes"
            f" each and {TAGS_BYTES} together, not {len(known) // 2} tags of {sum(known)} bytes;"
            " put larger values into the input."
        )
    return dict(pairs)


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) < LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}..."


def checked_status(status: str | None) -> Status | None:
    """Return the `Status` of this name."""
    if status is None:
        return None
    try:
        return Status(status)
    except ValueError:
        known = ", ".join(Status)
        raise ConfigurationError(f"No run is ever {status!r}; statuses are {known}.") from None


def checked_time(name: str, value: object) -> datetime | None:
    """Return `value` if it is a datetime with a time zone, or None."""
    if value is None or (isinstance(value, datetime) and value.utcoffset() is not None):
        return value
    hint = " Without a time zone it is not known when that is: datetime.now(UTC) has one."
    raise ConfigurationError(
        f"{name}= takes a datetime with a time zone, not {_shown(value)}."
        f"{hint if isinstance(value, datetime) else ''}"
    )


def checked_ended_since(value: object, status: str | None) -> datetime | None:
    """Return `value` if it is a datetime with a time zone, and the runs have ended; or None."""
    if value is not None and status not in list(FINISHED):
        ended = ", ".join(repr(one.value) for one in Status if one in FINISHED)
        raise ConfigurationError(
            f"ended_since= goes with the status of runs that have ended: status= one of {ended},"
            f" not {_shown(status)}."
        )
    return checked_time("ended_since", value)


def checked_error(value: object) -> tuple[str, str] | None:
    """Return the type of an error and a part of its message, from `Declined: no money`."""
    if value is None:
        return None
    kind, _, words = checked_text("error", value, LONGEST_ERROR).partition(":")
    if kind.strip() in ("", "RunCancelled"):
        raise ConfigurationError(
            f"error= takes the type of an error, or `Type: a part of its message`, not"
            f" {_shown(value)}. A run that was cancelled has no error: status='cancelled' finds it."
        )
    return kind.strip(), words.strip()


def checked_finished(status: object) -> Status:
    """Return the `Status` of this name, in which runs have ended."""
    finished = [one.value for one in Status if one in FINISHED]
    if status not in finished:
        raise ConfigurationError(
            f"status= takes the status of runs that have ended, {', '.join(finished)}, not"
            f" {_shown(status)}.{nearest(str(status), finished)}"
        )
    return Status(str(status))


def checked_run_id(run_id: UUID | str) -> UUID:
    """Return a run id as a UUID, from a UUID or its text."""
    if isinstance(run_id, UUID):
        return run_id
    try:
        return UUID(run_id)
    except (ValueError, AttributeError, TypeError):
        raise ConfigurationError(f"A run id is a UUID, not {run_id!r}.") from None

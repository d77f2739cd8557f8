"""Durations, times, counts and errors as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import floor

from celery_durable.errors import ErrorRecord

MINUTE, HOUR, DAY = 60, 3600, 86400

KIB = 1024

TENTHS_FROM = 10
"""Seconds from which hundredths are left out."""


def span(duration: timedelta) -> str:
    """A duration in its two largest units: `0.42s`, `12.3s`, `3m 05s`, `2h 10m`, `4d 3h`."""
    seconds = max(duration.total_seconds(), 0.0)
    if seconds < MINUTE:
        # Cut, not rounded: 59.99 is not a minute.
        digits = 2 if seconds < TENTHS_FROM else 1
        return f"{floor(seconds * 10**digits) / 10**digits:.{digits}f}s"
    if seconds < HOUR:
        return f"{seconds // MINUTE:.0f}m {seconds % MINUTE // 1:02.0f}s"
    if seconds < DAY:
        return f"{seconds // HOUR:.0f}h {seconds % HOUR // MINUTE:02.0f}m"
    return f"{seconds // DAY:.0f}d {seconds % DAY // HOUR:.0f}h"


def coarse(duration: timedelta) -> str:
    """A duration in its largest unit: `42s`, `3m`, `2h`, `4d`."""
    seconds = max(duration.total_seconds(), 0.0)
    for unit, letter in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m")):
        if seconds >= unit:
            return f"{seconds // unit:.0f}{letter}"
    return f"{seconds // 1:.0f}s"


def elapsed(started_at: datetime | None, finished_at: datetime | None, now: datetime) -> str:
    """How long a run has taken, so far or in all; empty for one that has not started."""
    return span((finished_at or now) - started_at) if started_at else ""


def local(at: datetime) -> str:
    """A time in the time zone of this machine."""
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def clock(at: datetime, now: datetime) -> str:
    """A local time, as short as possible: without the year, and without the date if it is today."""
    here, today = at.astimezone(), now.astimezone().date()
    return f"{here:%H:%M:%S}" if here.date() == today else f"{here:%m-%d %H:%M:%S}"


def utc(at: datetime) -> str:
    """A time in ISO 8601, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def size(count: int) -> str:
    """A number of bytes: `812 B`, `3.4 KiB`, `120.0 MiB`."""
    if count < KIB:
        return f"{count} B"
    return f"{count / KIB:.1f} KiB" if count < KIB**2 else f"{count / KIB**2:.1f} MiB"


def plural(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def nonzero(counts: Mapping[str, int]) -> list[str]:
    """Each count that is not zero, with its word: `2 failed`, `1 waiting`."""
    return [f"{count} {word}" for word, count in counts.items() if count]


def one_line(text: str) -> str:
    """`text` on one line, without control characters: a user's text must not move the cursor."""
    return _printable(" ".join(text.split()))


def many_lines(text: str) -> str:
    """`text` without control characters, line by line."""
    return "\n".join(map(_printable, text.splitlines()))


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else " " for c in line)


def shortened(text: str, longest: int) -> str:
    """`text`, cut after `longest` characters."""
    return text if len(text) <= longest else f"{text[:longest]}…"


def error_line(error: ErrorRecord) -> str:
    """An error's type and message on one line."""
    return one_line(f"{error.type}: {error.message}" if error.message else error.type)


def one_of(names: Sequence[str]) -> str:
    """`ann, bob or eve`."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last

"""Steps that wait for an answer in the middle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from celery_durable.arguments import LONGEST_SIGNAL, SIGNAL_BYTES, fits
from celery_durable.errors import LONGEST, number_of_seconds

SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class Suspend:
    """Returned by a step: keep `snapshot`, and call me again when `signal` has arrived.

    `signal` is by default the unit's name. After `timeout` (seconds or timedelta) without it the
    unit fails with `SignalTimeout`. The step is then called with `ctx.is_resumed`, `ctx.snapshot`
    and, in `ctx.resume_data`, what was sent. It may suspend again.
    """

    snapshot: Any = None
    signal: str | None = None
    timeout: float | timedelta | None = None

    def __post_init__(self) -> None:
        given: Any = self.signal
        if given is not None and not fits(given, LONGEST_SIGNAL, SIGNAL_BYTES):
            raise TypeError(
                f"Suspend(signal=...) takes a name of 1 to {LONGEST_SIGNAL} characters without"
                f" NUL, not {given!r:.60}."
            )
        _seconds(self.timeout)

    @property
    def seconds(self) -> float | None:
        """The timeout."""
        return _seconds(self.timeout)


def _seconds(timeout: object) -> float | None:
    if timeout is None:
        return None
    seconds = number_of_seconds(timeout)
    if seconds is None:
        raise TypeError(f"Suspend(timeout=...) takes seconds or a timedelta, not {timeout!r}.")
    if not 0 <= seconds <= LONGEST:
        raise ValueError(
            f"Suspend(timeout=...) takes seconds, from 0 to a hundred years: {seconds!r}."
        )
    return float(seconds)


def suspension(result: object, *, suspends: bool) -> Suspend | None:
    """How `result` asks to be suspended, if it does.

    With `suspends`, anything whose `status`, an attribute or a key, is "suspended" does, as agent
    frameworks say it; it is its own snapshot.
    """
    if isinstance(result, Suspend):
        return result
    if not suspends:
        return None
    given: Any = result
    status = given.get("status") if isinstance(given, Mapping) else getattr(given, "status", None)
    return Suspend(given) if status == SUSPENDED else None

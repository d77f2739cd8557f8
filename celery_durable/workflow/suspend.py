"""`Suspend`, by which a step waits for an answer before it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from celery_durable.arguments import LONGEST_SIGNAL, SIGNAL_BYTES, fits, names_of
from celery_durable.errors import LONGEST, number_of_seconds

SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class Suspend:
    """A step returns this to wait for a signal. It is called again when the signal has arrived.

    `snapshot` is kept until then. `signal` is by default the unit's name. If it does not arrive
    within `timeout` (seconds or a timedelta), the unit fails with `SignalTimeout`. In the next call
    `ctx.is_resumed` is True, `ctx.snapshot` has the snapshot and `ctx.resume_data` the signal's
    payload. The step may suspend again. `assignees` are the names of those who may answer on the
    web page; without one any operator may.
    """

    snapshot: object = None
    signal: str | None = None
    timeout: float | timedelta | None = None
    assignees: Sequence[str] = ()

    def __post_init__(self) -> None:
        signal: Any = self.signal
        if signal is not None and not fits(signal, LONGEST_SIGNAL, SIGNAL_BYTES):
            raise TypeError(
                f"Suspend(signal=...) takes a name of 1 to {LONGEST_SIGNAL} characters without"
                f" NUL, not {signal!r:.60}."
            )
        _seconds(self.timeout)
        try:
            names_of(self.assignees)
        except (TypeError, ValueError) as error:
            raise type(error)(f"Suspend(assignees=...) takes names: {error}") from None

    @property
    def seconds(self) -> float | None:
        """The timeout in seconds."""
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
    """Return the `Suspend` that a step's result is or stands for; None for any other result.

    With `suspends`, a result stands for one if its `status`, an attribute or a key, is "suspended",
    as in agent frameworks. It is its own snapshot.
    """
    if isinstance(result, Suspend):
        return result
    if not suspends:
        return None
    if isinstance(result, Mapping):
        status = result.get("status")
    else:
        status = getattr(result, "status", None)
    return Suspend(result) if status == SUSPENDED else None

"""A failure as it is recorded: plain data, no exception objects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from celery_durable.errors import ErrorRecord

KEPT_ATTEMPTS = 20
"""How many failed attempts of one unit are kept: the first, and the last ones after it."""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One try of a unit that failed and was followed by another."""

    attempt: int
    error: ErrorRecord
    started_at: datetime
    failed_at: datetime


def with_attempt(
    failures: tuple[FailedAttempt, ...], failed: FailedAttempt
) -> tuple[FailedAttempt, ...]:
    """Append `failed` to `failures`, bounded; the first stays: it says when the tries began."""
    if len(failures) < KEPT_ATTEMPTS:
        return (*failures, failed)
    return (failures[0], *failures[2:], failed)


def attempt_text(attempt: int, max_attempts: int | None) -> str:
    """`attempt 2 of 5`; without the 5 where it is not known, or is lower: a plan may change."""
    of = f" of {max_attempts}" if max_attempts is not None and max_attempts >= attempt else ""
    return f"attempt {attempt}{of}"


def run_timed_out(unit: str) -> ErrorRecord:
    """Make the failure of a run that took longer than its timeout, and stood at `unit`."""
    return ErrorRecord("RunTimeout", "the run took longer than its timeout", unit=unit)


def worker_lost(unit: str, crashes: int) -> ErrorRecord:
    """Make the failure of a unit that has killed, or survived, too many workers.

    The connection of a transactional step is counted like its worker.
    """
    message = (
        f"{crashes} workers died while they executed {unit}, or lost the connection of its"
        " transaction; it is not tried again"
    )
    return ErrorRecord("WorkerLost", message, unit=unit)

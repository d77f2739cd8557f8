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


def worker_lost(unit: str, crashes: int) -> ErrorRecord:
    """Make the failure of a unit that has killed, or survived, too many workers.

    The connection of a transactional step is counted like its worker.
    """
    message = (
        f"{crashes} workers died while they executed {unit}, or lost the connection of its"
        " transaction; it is not tried again"
    )
    return ErrorRecord("WorkerLost", message, unit=unit)

"""The statuses of a run, and the legal changes between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """How a run stands, as users see it."""

    PENDING = "pending"
    RUNNING = "running"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.RUNNING, Status.CANCELLED}),
    Status.RUNNING: frozenset(
        {Status.COMPENSATING, Status.COMPLETED, Status.FAILED, Status.CANCELLED}
    ),
    Status.COMPENSATING: frozenset({Status.FAILED, Status.CANCELLED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}
"""From each status, the statuses that may follow it."""

FINISHED: frozenset[Status] = frozenset(s for s, after in TRANSITIONS.items() if not after)
"""The statuses that end a run."""

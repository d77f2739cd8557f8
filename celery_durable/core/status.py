"""The statuses of a run, and the legal changes between them.

`suspended` and `sleeping` are not stored: a run is running, and what its tokens wait for says
whether anything moves. See ADR 0009.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """How a run stands, as users see it."""

    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    SLEEPING = "sleeping"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINISHED: frozenset[Status] = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
"""The statuses of a run that has ended."""

READ_FROM_TOKENS: frozenset[Status] = frozenset({Status.SUSPENDED, Status.SLEEPING})
"""What a run is called that is stored as running while all of its tokens wait."""

TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.RUNNING, Status.CANCELLED}),
    Status.RUNNING: frozenset(
        {
            Status.SUSPENDED,
            Status.SLEEPING,
            Status.COMPENSATING,
            Status.COMPLETED,
            Status.FAILED,
            Status.CANCELLED,
        }
    ),
    Status.SUSPENDED: frozenset({Status.RUNNING}),
    Status.SLEEPING: frozenset({Status.RUNNING}),
    Status.COMPENSATING: frozenset({Status.FAILED, Status.CANCELLED}),
    # A completed child whose parent is rolled back, where that says compensate="cascade".
    Status.COMPLETED: frozenset({Status.COMPENSATING}),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}
"""From each status, the statuses that may follow it."""

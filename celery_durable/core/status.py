"""The statuses of a run, and the legal changes between them.

`suspended`, `sleeping` and `paused` are not stored: a run is running, and what its tokens wait for
says whether anything moves. See ADR 0009.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal


class Status(StrEnum):
    """How a run stands, as users see it."""

    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    SLEEPING = "sleeping"
    PAUSED = "paused"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    def can_become(self, other: Status | str) -> bool:
        """Return True if a run of this status may have `other` as its next one.

        False for the same status. Raises `ValueError` for what is no status.
        """
        return Status(other) in TRANSITIONS[self]


StatusName = Literal[
    "pending",
    "running",
    "suspended",
    "sleeping",
    "paused",
    "compensating",
    "completed",
    "failed",
    "cancelled",
]
"""The value of a `Status`, as arguments take it too."""

FINISHED: frozenset[Status] = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
"""The statuses of a run that has ended."""

READ_FROM_TOKENS: frozenset[Status] = frozenset({Status.SUSPENDED, Status.SLEEPING, Status.PAUSED})
"""What a run is called that is stored as running while all of its tokens wait, or are paused."""

TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.RUNNING, Status.FAILED, Status.CANCELLED}),
    Status.RUNNING: frozenset(
        {
            Status.SUSPENDED,
            Status.SLEEPING,
            Status.PAUSED,
            Status.COMPENSATING,
            Status.COMPLETED,
            Status.FAILED,
            Status.CANCELLED,
        }
    ),
    # A run that waits goes on by a claim; it is paused, and may end, without one.
    Status.SUSPENDED: frozenset({Status.RUNNING, Status.PAUSED, Status.FAILED, Status.CANCELLED}),
    Status.SLEEPING: frozenset({Status.RUNNING, Status.PAUSED, Status.FAILED, Status.CANCELLED}),
    Status.PAUSED: frozenset(
        {Status.RUNNING, Status.SUSPENDED, Status.SLEEPING, Status.FAILED, Status.CANCELLED}
    ),
    Status.COMPENSATING: frozenset({Status.FAILED, Status.CANCELLED}),
    # A completed child whose parent is rolled back, where that says compensate="cascade".
    Status.COMPLETED: frozenset({Status.COMPENSATING}),
    # The compensations that have failed are tried again.
    Status.FAILED: frozenset({Status.COMPENSATING}),
    Status.CANCELLED: frozenset(),
}
"""From each status, the statuses that may follow it."""

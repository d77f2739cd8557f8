"""What shall become of a token: a frozen value that the shell writes in one statement."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from celery_durable.core.failure import ErrorRecord, FailedAttempt
from celery_durable.core.plan import Placement
from celery_durable.core.status import Status
from celery_durable.core.token import Token


class Outcome(StrEnum):
    """How a unit ended, as the journal says it."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """It was executed, but a cancel came before its commit; its result is not kept."""


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """A unit that ended. `undoable`: it completed and has a compensator."""

    unit: str
    node: str
    outcome: Outcome
    attempt: int
    started_at: datetime
    result: str | None = None
    error: ErrorRecord | None = None
    failures: tuple[FailedAttempt, ...] = ()
    undoable: bool = False


@dataclass(frozen=True, slots=True)
class RunChange:
    """A change of the run's status. `error` and `result` are written where they are not None."""

    status: Status
    error: ErrorRecord | None = None
    result: str | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """The token goes on as `token`, not before `delay` seconds have passed, at `placement`."""

    token: Token
    placement: Placement
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class End:
    """The token is gone, and a linear run with it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`token` as the commit must still find it, what becomes of it, and what is recorded beside."""

    token: Token
    then: Move | End
    records: tuple[JournalRecord, ...] = ()
    run: RunChange | None = None

    def completes(self, unit: str) -> bool:
        """Whether it records `unit` as completed."""
        return any(r.unit == unit and r.outcome is Outcome.COMPLETED for r in self.records)

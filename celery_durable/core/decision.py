"""What becomes of a token: a frozen value that the engine writes in one statement."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from celery_durable.core.child import Child
from celery_durable.core.failure import FailedAttempt
from celery_durable.core.message import TaskMessage
from celery_durable.core.nodes import Gathers, Routing
from celery_durable.core.status import Status
from celery_durable.core.token import ForOperator, Token
from celery_durable.core.values import value
from celery_durable.errors import ErrorRecord


class Outcome(StrEnum):
    """How a unit ended, as the journal says it."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """It was executed, but a cancel came before its commit; its result is not kept."""


@value(frozen=True, slots=True)
class JournalRecord:
    """A unit that ended. `undoable`: it completed, and something undoes it."""

    unit: str
    node: str
    outcome: Outcome
    attempt: int
    started_at: datetime
    result: str | None = None
    error: ErrorRecord | None = None
    failures: tuple[FailedAttempt, ...] = ()
    undoable: bool = False
    part: str | None = None
    position: int | None = None
    input: str | None = None
    child: UUID | None = None
    gathers: Gathers | None = None

    @property
    def undo(self) -> Undo | None:
        """How the unit is compensated; None if it is not."""
        return Undo(self.unit, self.node, self.part, self.position) if self.undoable else None


@value(frozen=True, slots=True)
class Undo:
    """A completed unit that is to be compensated."""

    unit: str
    node: str
    part: str | None = None
    position: int | None = None


@value(frozen=True, slots=True)
class RunChange:
    """A change of the run's status. `error` and `result` are written where they are not None."""

    status: Status
    error: ErrorRecord | None = None
    result: str | None = None


@value(frozen=True, slots=True)
class Move:
    """The token goes on as `token`, after `delay` seconds, with a message to `routing`."""

    token: Token
    routing: Routing
    delay: float = 0.0


@value(frozen=True, slots=True)
class Park:
    """The token waits as `token.wait` says, for at most `timeout` seconds.

    `assignees` are the people who may answer, any operator if there are none; None where it waits
    for no person.
    """

    token: Token
    routing: Routing
    timeout: float | None = None
    assignees: tuple[str, ...] | None = None


@value(frozen=True, slots=True)
class Branch:
    """A token that is made by a fork."""

    unit: str
    position: int
    routing: Routing
    part: str | None = None
    input: str | None = None


@value(frozen=True, slots=True)
class Fork:
    """The token waits for `branches`, of which the first `window` are opened at once.

    The rest is opened as others end, `chunk` at a time; a chunk shares a message. `single`: no
    branch is executed in a bundle.
    """

    token: Token
    branches: tuple[Branch, ...]
    window: int
    chunk: int = 1
    single: bool = False


@value(frozen=True, slots=True)
class Leave:
    """The branch is gone, and its parent counts it. `stops`: siblings that have not begun are too.

    `chunk` is how many of those that wait for room are opened at a time.
    """

    failed: bool = False
    stops: bool = False
    chunk: int = 1


@value(frozen=True, slots=True)
class End:
    """The token is gone, and the run with it."""


Then = Move | Park | Fork | Leave | End
"""What becomes of a token."""


@value(frozen=True, slots=True)
class Decision:
    """What becomes of `token`, which the commit must find as it is here, and what is recorded.

    `consumes` is the row of the inbox that is consumed; if it is gone, nothing is written. `starts`
    is the child that starts, or is undone, in the same transaction. `sends` are tasks that are sent
    if the decision is committed: the engine adds them, as they are no part of the plan.
    """

    token: Token
    then: Then
    records: tuple[JournalRecord, ...] = ()
    run: RunChange | None = None
    consumes: int | None = None
    starts: Child | None = None
    sends: tuple[TaskMessage, ...] = ()

    @property
    def keeps(self) -> bool:
        """True if what the unit has just done is kept: it completed, or suspended."""
        is_completed = any(
            r.unit == self.token.unit and r.outcome is Outcome.COMPLETED for r in self.records
        )
        if isinstance(self.then, Park) and not self.records:
            return not isinstance(self.then.token.wait, ForOperator)
        return is_completed


@value(frozen=True, slots=True)
class RollBack:
    """The run compensates a unit, or ends as `ends_as` where nothing is left to compensate.

    The engine reads from the journal which unit that is, and `rollback.compensate` makes a decision
    of both. `change` is written to the run where a unit is left.
    """

    token: Token
    ends_as: Status
    records: tuple[JournalRecord, ...] = ()
    error: ErrorRecord | None = None
    change: RunChange | None = None

    @property
    def recorded(self) -> Undo | None:
        """The unit to compensate first, if it is recorded with this: the journal lacks it still."""
        return next((record.undo for record in self.records if record.undoable), None)


Decided = Decision | RollBack

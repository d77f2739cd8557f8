"""Where a run stands."""

from __future__ import annotations

from enum import IntFlag
from uuid import UUID

from celery_durable.core.failure import FailedAttempt
from celery_durable.core.status import Status
from celery_durable.core.values import value


class Flags(IntFlag):
    """What others ask of a token; raised without its claim, lowered only by a commit."""

    NONE = 0
    CANCEL = 1
    COMPENSATE = 2
    """With CANCEL: let the unit that executes end, then compensate everything completed."""
    TIMED_OUT = 4
    """The unit took longer than its time limit, and its worker cannot say so any more."""
    SKIP = 8
    """An operator has recorded the unit by hand: the token's `answer` is its result."""
    RUN_TIMEOUT = 32
    """With CANCEL and COMPENSATE, on a first token: the run took too long, and fails with that."""

    @property
    def of_cancel(self) -> Flags:
        """The flags that a cancel raises on branches and on runs below."""
        return self & (Flags.CANCEL | Flags.COMPENSATE)


@value(frozen=True, slots=True)
class ForSignal:
    """Waits for a signal of this name, or until the token's time."""

    name: str


@value(frozen=True, slots=True)
class ForTimer:
    """Waits until the token's time."""


@value(frozen=True, slots=True)
class ForChild:
    """Waits for this run to end; in a rollback, for it to be undone."""

    run_id: UUID


@value(frozen=True, slots=True)
class ForBranches:
    """Waits until no branch of `total` remains; `failed` of those that ended have failed."""

    remaining: int
    failed: int = 0
    total: int = 0


@value(frozen=True, slots=True)
class ForOperator:
    """Waits for an operator: the unit has used up its tries, and its policy says to pause."""


Wait = ForSignal | ForTimer | ForChild | ForBranches | ForOperator


@value(frozen=True, slots=True)
class Token:
    """One place of a run: a unit, the try it is at, what it waits for and what is asked of it.

    `attempt` counts from 1. `crashes` counts workers that died while they executed this unit.
    In a rollback, `rollback` is the status that the run ends with, and `unit` a compensation; else
    it is None. A branch has its `parent`, and differs from its siblings by `part`, a name, or
    `position`, a number from 0. A case has a `part`, an iteration a `position`.

    `input`, `snapshot` and `answer` are JSON text: an item or the input of an iteration; what a
    suspended step keeps; what it was resumed with, or what it is skipped with.
    """

    id: UUID
    run_id: UUID
    node: str
    unit: str
    attempt: int = 1
    crashes: int = 0
    flags: Flags = Flags.NONE
    rollback: Status | None = None
    failures: tuple[FailedAttempt, ...] = ()
    parent: UUID | None = None
    part: str | None = None
    position: int | None = None
    wait: Wait | None = None
    input: str | None = None
    snapshot: str | None = None
    answer: str | None = None

    @property
    def only_ends(self) -> bool:
        """True if a cancel ends the token and nothing is undone: that needs no plan."""
        asked = self.flags & (Flags.CANCEL | Flags.COMPENSATE)
        return self.rollback is None and asked == Flags.CANCEL

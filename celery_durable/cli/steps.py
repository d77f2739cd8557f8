"""How each step of a run stands, from its snapshot and its journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from celery_durable.core.decision import Outcome
from celery_durable.core.failure import ErrorRecord
from celery_durable.core.names import compensation_of
from celery_durable.core.status import FINISHED, Status
from celery_durable.store.views import JournalEntry, RunSnapshot


class State(StrEnum):
    """How a step stands."""

    PENDING = "pending"
    CURRENT = "current"
    WAITING = "waiting"
    """Current, and not due yet: a delayed start, or the pause before another attempt."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    COMPENSATION_FAILED = "compensation failed"
    NOT_REACHED = "not reached"


IN_HAND = frozenset({State.CURRENT, State.WAITING, State.COMPENSATING})
"""The states of the step a run is at."""


@dataclass(frozen=True, slots=True)
class StepStanding:
    """One step. `attempt` is the one in hand, or the last; `took` is how long that was executed."""

    name: str
    state: State
    attempt: int = 1
    wake_at: datetime | None = None
    took: timedelta | None = None
    error: ErrorRecord | None = None


def standings(snapshot: RunSnapshot, entries: Sequence[JournalEntry]) -> tuple[StepStanding, ...]:
    """Every step in the order of the plan, then what only the journal knows.

    `entries` must have been read after `snapshot`: where they differ, the journal is right.
    """
    journal = {entry.unit: entry for entry in entries}
    journaled = (entry.node for entry in entries)
    names = dict.fromkeys((*snapshot.steps, *journaled, *snapshot.current))
    return tuple(_standing(snapshot, journal, name) for name in names)


def _standing(
    snapshot: RunSnapshot, journal: Mapping[str, JournalEntry], name: str
) -> StepStanding:
    done, undone = journal.get(name), journal.get(compensation_of(name))
    is_in_hand = name in snapshot.current
    if undone is not None:
        is_undone = undone.outcome is Outcome.COMPLETED
        return _ended(name, undone, State.COMPENSATED if is_undone else State.COMPENSATION_FAILED)
    if is_in_hand and snapshot.status is Status.COMPENSATING and done is not None:
        return _in_hand(name, snapshot, State.COMPENSATING)
    if done is not None:
        return _ended(name, done, State(done.outcome.value))
    if is_in_hand:
        return _in_hand(name, snapshot, State.WAITING if snapshot.wake_at else State.CURRENT)
    is_over = snapshot.status in FINISHED or snapshot.status is Status.COMPENSATING
    return StepStanding(name, State.NOT_REACHED if is_over else State.PENDING)


def _ended(name: str, entry: JournalEntry, state: State) -> StepStanding:
    took = entry.finished_at - entry.started_at
    return StepStanding(name, state, entry.attempt, took=took, error=entry.error)


def _in_hand(name: str, snapshot: RunSnapshot, state: State) -> StepStanding:
    return StepStanding(name, state, snapshot.attempt, wake_at=snapshot.wake_at)

"""How each node of a run stands, from its snapshot, its plan and its journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from celery_durable.core.decision import Outcome
from celery_durable.core.names import RETURNS, ROLLBACK, SEPARATOR, compensation_of, decision_of
from celery_durable.core.names import part_of as unit_of
from celery_durable.core.status import FINISHED, Status
from celery_durable.errors import ErrorRecord
from celery_durable.store.read.history import JournalEntry
from celery_durable.store.read.overview import Tally
from celery_durable.store.read.position import Forked, Progress, UnitInHand
from celery_durable.store.read.views import RunSnapshot


class State(StrEnum):
    """How a node, or a branch of one, stands."""

    PENDING = "pending"
    CURRENT = "current"
    WAITING = "waiting"
    """Current, and nothing moves: it waits for a signal, a child or a time, or for another try."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    COMPENSATION_FAILED = "compensation failed"
    NOT_REACHED = "not reached"


IN_HAND = frozenset({State.CURRENT, State.WAITING, State.COMPENSATING})
"""The states of the nodes a run is at."""

ENDED = frozenset(State) - IN_HAND - {State.PENDING, State.NOT_REACHED}
"""The states of what was executed and will not be again."""

COUNTED = frozenset({"map", "loop"})
"""The kinds of nodes whose parts are counted and not listed."""


@dataclass(frozen=True, slots=True)
class StepStanding:
    """One node, or a branch of one.

    `attempt` is the one in hand, or the last; `took` is how long that was executed, or the whole
    node; `error` is why it failed, or what its last try failed with. `units` are those in hand that
    belong to it; `parts` the branches of a parallel node.
    """

    name: str
    state: State
    attempt: int = 1
    wake_at: datetime | None = None
    took: timedelta | None = None
    error: ErrorRecord | None = None
    kind: str = "step"
    branch: str | None = None
    limit: int | None = None
    forked: Forked | None = None
    tally: Tally | None = None
    parts: tuple[StepStanding, ...] = ()
    units: tuple[UnitInHand, ...] = ()
    progress: Mapping[str, Progress] | None = None


@dataclass(frozen=True, slots=True)
class Book:
    """What standings are read from: a run at one moment."""

    snapshot: RunSnapshot
    journal: Mapping[str, JournalEntry]
    tallies: Mapping[str, Tally]
    in_hand: Mapping[str, UnitInHand]

    @property
    def is_past(self) -> bool:
        """Whether what has not begun never will."""
        return self.snapshot.status in FINISHED or self.snapshot.status is Status.COMPENSATING


def standings(
    snapshot: RunSnapshot,
    entries: Sequence[JournalEntry],
    nodes: Sequence[Mapping[str, Any]] = (),
    tallies: Mapping[str, Tally] | None = None,
) -> tuple[StepStanding, ...]:
    """Every node in the order of the plan, then what only the journal or the tokens know."""
    journal = {entry.unit: entry for entry in entries}
    in_hand = {unit.unit: unit for unit in snapshot.units}
    book = Book(snapshot, journal, tallies or {}, in_hand)
    planned: dict[str, Mapping[str, Any]] = {node["name"]: node for node in nodes}
    known = (entry.node for entry in entries)
    names = dict.fromkeys((*planned, *snapshot.steps, *known, *snapshot.current))
    return tuple(_node(book, name, planned.get(name, {})) for name in names if name != ROLLBACK)


def _node(book: Book, name: str, node: Mapping[str, Any]) -> StepStanding:
    kind = node.get("kind", "step")
    match kind:
        case "parallel":
            made = _parallel(book, name, [branch["name"] for branch in node["branches"]])
        case "map":
            made = _map(book, name)
        case "loop":
            made = replace(_loop(book, name), limit=node["max_iterations"])
        case "route":
            made = _route(book, name)
        case _:
            made = standing_of(book, name, name)
    progress = {unit: said for unit, said in book.snapshot.progress.items() if _is_of(unit, name)}
    units = tuple(unit for unit in book.snapshot.units if unit.node == name)
    return replace(made, kind=kind, units=units, progress=progress)


def _is_of(unit: str, node: str) -> bool:
    return unit == node if node == RETURNS else unit.partition(SEPARATOR)[0] == node


def standing_of(book: Book, name: str, unit: str) -> StepStanding:
    """How a unit stands, called `name`."""
    done, undone = book.journal.get(unit), book.journal.get(compensation_of(unit))
    undoing, now = book.in_hand.get(compensation_of(unit)), book.in_hand.get(unit)
    if undone is not None:
        is_undone = undone.outcome is Outcome.COMPLETED
        state = State.COMPENSATED if is_undone else State.COMPENSATION_FAILED
        return replace(_ended(name, undone, state), branch=done.branch if done else None)
    if undoing is not None and done is not None:
        return _in_hand(name, undoing, State.COMPENSATING)
    if done is not None:
        return replace(_ended(name, done, State(done.outcome.value)), branch=done.branch)
    if now is not None:
        return _in_hand(name, now, State.WAITING if _waits(now) else State.CURRENT)
    return StepStanding(name, State.NOT_REACHED if book.is_past else State.PENDING)


def _waits(unit: UnitInHand) -> bool:
    return not unit.is_executing and (unit.waits_for is not None or unit.wake_at is not None)


def _ended(name: str, entry: JournalEntry, state: State) -> StepStanding:
    took = entry.finished_at - entry.started_at
    return StepStanding(name, state, entry.attempt, took=took, error=entry.error)


def _in_hand(name: str, unit: UnitInHand, state: State) -> StepStanding:
    return StepStanding(
        name, state, unit.attempt, unit.wake_at, error=unit.error, branch=unit.branch
    )


def _parallel(book: Book, name: str, branches: Iterable[str]) -> StepStanding:
    parts = tuple(standing_of(book, branch, unit_of(name, branch)) for branch in branches)
    states = [part.state for part in parts]
    made = _of_many(
        book,
        name,
        has_ended=any(state in ENDED for state in states),
        has_failed=State.FAILED in states,
        undone=_undone(
            is_undone=State.COMPENSATED in states,
            has_failed=State.COMPENSATION_FAILED in states,
        ),
    )
    return replace(made, parts=parts, forked=book.snapshot.forks.get(name))


def _map(book: Book, name: str) -> StepStanding:
    tally = book.tallies.get(name)
    made = _counted(book, name, tally)
    return replace(made, tally=tally, forked=book.snapshot.forks.get(name))


def _counted(book: Book, name: str, tally: Tally | None) -> StepStanding:
    if tally is None:
        return _of_many(book, name, has_ended=False, has_failed=False, undone=None)
    undone = _undone(is_undone=tally.undone > 0, has_failed=tally.undo_failed > 0)
    has_failed = tally.failed > 0
    made = _of_many(book, name, has_ended=True, has_failed=has_failed, undone=undone)
    if made.state in IN_HAND:
        return made
    return replace(made, took=tally.finished_at - tally.started_at)


def _loop(book: Book, name: str) -> StepStanding:
    tally = book.tallies.get(name)
    made = replace(_counted(book, name, tally), tally=tally)
    now = next((unit for unit in book.snapshot.units if unit.node == name), None)
    if made.state not in (State.CURRENT, State.WAITING) or now is None:
        return made
    state = State.WAITING if _waits(now) else State.CURRENT
    return replace(made, state=state, attempt=now.attempt, wake_at=now.wake_at, error=now.error)


def _undone(*, is_undone: bool, has_failed: bool) -> State | None:
    if has_failed:
        return State.COMPENSATION_FAILED
    return State.COMPENSATED if is_undone else None


def _of_many(
    book: Book, name: str, *, has_ended: bool, has_failed: bool, undone: State | None
) -> StepStanding:
    """A node that consists of others: of these, have any ended, failed, been undone?"""
    own = standing_of(book, name, name)
    is_current = name in book.snapshot.current
    if is_current and book.snapshot.status is Status.COMPENSATING:
        return replace(own, state=State.COMPENSATING)
    if own.state is State.COMPLETED:
        return replace(own, state=undone or State.COMPLETED)
    if own.state is State.FAILED or (has_failed and not is_current):
        return replace(own, state=State.FAILED)
    if is_current:
        return replace(own, state=_moving(book.snapshot.forks.get(name)), wake_at=None)
    if has_ended:
        return replace(own, state=undone or State.CANCELLED)
    return own


def _moving(forked: Forked | None) -> State:
    if forked is None or forked.executing or forked.queued or not forked.waiting:
        return State.CURRENT
    return State.WAITING


def _route(book: Book, name: str) -> StepStanding:
    """The choice until it is made, then the case."""
    made = standing_of(book, name, name)
    if made.state not in (State.PENDING, State.NOT_REACHED):
        return made
    choice = standing_of(book, name, decision_of(name))
    return made if choice.state is State.COMPLETED else choice

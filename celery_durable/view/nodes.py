"""The state of each node of a run, derived from its snapshot, its plan and its journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from celery_durable.core.decision import Outcome
from celery_durable.core.names import (
    RETURNS,
    ROLLBACK,
    SEPARATOR,
    choice_of,
    compensation_of,
    subunit_of,
)
from celery_durable.core.status import FINISHED, Status
from celery_durable.errors import ErrorRecord
from celery_durable.store.read.history import JournalEntry
from celery_durable.store.read.overview import Tally
from celery_durable.store.read.position import Forked, Progress
from celery_durable.store.read.units import UnitInHand
from celery_durable.store.read.views import RunSnapshot


class NodeState(StrEnum):
    """The state of a node, or of a branch of one."""

    PENDING = "pending"
    CURRENT = "current"
    WAITING = "waiting"
    """Current, and nothing moves: it waits for a signal, a child, a time, or its next attempt."""
    PAUSED = "paused"
    """Current, and goes on when somebody says so: it is held, or has used up its attempts."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    COMPENSATION_FAILED = "compensation failed"
    NOT_REACHED = "not reached"


ACTIVE = frozenset({NodeState.CURRENT, NodeState.WAITING, NodeState.PAUSED, NodeState.COMPENSATING})
"""The states of the nodes that a run stands at."""

NOT_BEGUN = frozenset({NodeState.PENDING, NodeState.NOT_REACHED})

ENDED = frozenset(NodeState) - ACTIVE - NOT_BEGUN
"""The states of nodes that were executed and will not be again."""

COUNTED_KINDS = frozenset({"map", "loop"})
"""The kinds of nodes whose parts are counted and not listed."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node, or a branch of one.

    `attempt` is the current one, of at most `max_attempts`, or the last; `took` is how long that
    attempt was executed, or the whole node, where that is known; `error` is why it failed, or what
    its last attempt failed with. `units` are its units that the run stands at; `parts` the branches
    of a parallel node. `window` is how many items of a map are open at once. `child_run_id` is the
    run that it is, if it is one.
    """

    name: str
    state: NodeState
    attempt: int = 1
    max_attempts: int | None = None
    wake_at: datetime | None = None
    took: timedelta | None = None
    error: ErrorRecord | None = None
    kind: str = "step"
    branch: str | None = None
    limit: int | None = None
    window: int | None = None
    forked: Forked | None = None
    tally: Tally | None = None
    parts: tuple[NodeView, ...] = ()
    units: tuple[UnitInHand, ...] = ()
    progress: Mapping[str, Progress] = field(default_factory=dict)
    child_run_id: UUID | None = None

    @property
    def is_fork(self) -> bool:
        """True if its units run side by side."""
        return self.kind in ("map", "parallel")

    @property
    def is_skipped(self) -> bool:
        """True if nothing was executed: somebody has said what its result is."""
        return self.state is NodeState.COMPLETED and is_by_hand(self.error)

    @property
    def not_begun(self) -> int:
        """How many of the items that are queued are not open yet: they wait for a place."""
        if self.forked is None or self.window is None:
            return 0
        forked = self.forked
        places = max(self.window - forked.executing - forked.waiting, 0)
        return max(forked.queued - places, 0)


@dataclass(frozen=True, slots=True)
class RunIndex:
    """A run at one moment, by unit: what has ended in `journal`, where it stands in `active`."""

    snapshot: RunSnapshot
    journal: Mapping[str, JournalEntry]
    tallies: Mapping[str, Tally]
    active: Mapping[str, UnitInHand]

    @property
    def is_closing(self) -> bool:
        """True if nodes that have not begun never will: the run is compensating or has ended."""
        return self.snapshot.status in FINISHED or self.snapshot.status is Status.COMPENSATING


def node_views(
    snapshot: RunSnapshot,
    entries: Sequence[JournalEntry],
    plan_nodes: Sequence[Mapping[str, Any]],
    tallies: Mapping[str, Tally],
) -> tuple[NodeView, ...]:
    """Every node in the order of the plan, then those that only the journal or the tokens name."""
    journal = {entry.unit: entry for entry in entries}
    index = RunIndex(snapshot, journal, tallies, {unit.unit: unit for unit in snapshot.units})
    planned: dict[str, Mapping[str, Any]] = {node["name"]: node for node in plan_nodes}
    journaled = (entry.node for entry in entries)
    names = dict.fromkeys((*planned, *snapshot.steps, *journaled, *snapshot.current))
    return tuple(_node(index, name, planned.get(name, {})) for name in names if name != ROLLBACK)


def _node(index: RunIndex, name: str, plan_node: Mapping[str, Any]) -> NodeView:
    kind = plan_node.get("kind", "step")
    match kind:
        case "parallel":
            view = _parallel(index, name, [branch["name"] for branch in plan_node["branches"]])
        case "map":
            forked, window = index.snapshot.forks.get(name), plan_node.get("max_concurrency")
            view = replace(_counted(index, name), forked=forked, window=window)
        case "loop":
            view = replace(_loop(index, name), limit=plan_node["max_iterations"])
        case "route":
            view = _route(index, name)
        case _:
            view = _unit(index, name, name)
    progress = {
        unit: reported
        for unit, reported in index.snapshot.progress.items()
        if _belongs_to(unit, name)
    }
    units = tuple(unit for unit in index.snapshot.units if unit.node == name)
    return replace(view, kind=kind, units=units, progress=progress)


def _belongs_to(unit: str, node: str) -> bool:
    return unit == node if node == RETURNS else unit.partition(SEPARATOR)[0] == node


def _unit(index: RunIndex, name: str, unit: str) -> NodeView:
    """The view of one unit, under the name `name`."""
    ended, compensation = index.journal.get(unit), index.journal.get(compensation_of(unit))
    active, compensating = index.active.get(unit), index.active.get(compensation_of(unit))
    if compensation is not None:
        is_compensated = compensation.outcome is Outcome.COMPLETED
        state = NodeState.COMPENSATED if is_compensated else NodeState.COMPENSATION_FAILED
        return _of_unit(_ended(name, compensation, state), ended)
    if compensating is not None and ended is not None:
        return _of_unit(_active(name, compensating, NodeState.COMPENSATING), ended)
    if ended is not None:
        return _of_unit(_ended(name, ended, NodeState(ended.outcome.value)), ended)
    if active is not None:
        return _active(name, active, state_of(active, index.snapshot.status))
    return NodeView(name, NodeState.NOT_REACHED if index.is_closing else NodeState.PENDING)


def _of_unit(view: NodeView, ended: JournalEntry | None) -> NodeView:
    """The view with the case and the child run of the unit, be it that it has been undone."""
    if ended is None:
        return view
    return replace(view, branch=ended.branch, child_run_id=ended.child_run_id)


def state_of(unit: UnitInHand, status: Status) -> NodeState:
    """The state of a unit that a run of this status stands at, and that undoes nothing."""
    if unit.is_executing:
        return NodeState.CURRENT
    is_held = status is Status.PAUSED and unit.waits_for is None
    if is_held or unit.waits_for == "operator":
        return NodeState.PAUSED
    has_wait = unit.waits_for is not None or unit.wake_at is not None
    return NodeState.WAITING if has_wait else NodeState.CURRENT


def is_by_hand(error: ErrorRecord | None) -> bool:
    """Return True if this stands in the journal of a unit that somebody has skipped."""
    return error is not None and error.type == "Skipped"


def took_of(entry: JournalEntry) -> timedelta | None:
    """How long the last attempt of a unit was executed, or its wait; None if that is not known.

    A cancel ends what waits for a next attempt, or for an operator, and says when that was.
    """
    is_cut = entry.outcome is Outcome.FAILED and entry.worker is None
    if (is_cut and entry.child_run_id is None) or is_by_hand(entry.error):
        return None
    return entry.finished_at - entry.started_at


def outcome_of(entry: JournalEntry) -> str:
    """What became of a unit, in a word: `skipped` if somebody has said what it came to."""
    return "skipped" if is_by_hand(entry.error) else entry.outcome.value


def _ended(name: str, entry: JournalEntry, state: NodeState) -> NodeView:
    return NodeView(name, state, entry.attempt, took=took_of(entry), error=entry.error)


def _active(name: str, unit: UnitInHand, state: NodeState) -> NodeView:
    return NodeView(
        name,
        state,
        unit.attempt,
        unit.max_attempts,
        unit.wake_at,
        error=unit.error,
        branch=unit.branch,
        child_run_id=unit.child_run_id,
    )


def _parallel(index: RunIndex, name: str, branches: Iterable[str]) -> NodeView:
    parts = tuple(_unit(index, branch, subunit_of(name, branch)) for branch in branches)
    states = [part.state for part in parts]
    view = _composite(
        index,
        name,
        has_ended=any(state in ENDED for state in states),
        has_failed=NodeState.FAILED in states,
        compensation=_compensation_state(
            has_compensated=NodeState.COMPENSATED in states,
            has_failed=NodeState.COMPENSATION_FAILED in states,
        ),
    )
    return replace(view, parts=parts, forked=index.snapshot.forks.get(name))


def _counted(index: RunIndex, name: str) -> NodeView:
    tally = index.tallies.get(name)
    if tally is None:
        return _composite(index, name, has_ended=False, has_failed=False, compensation=None)
    view = _composite(
        index,
        name,
        has_ended=True,
        has_failed=tally.failed > 0,
        compensation=_compensation_state(
            has_compensated=tally.undone > 0, has_failed=tally.undo_failed > 0
        ),
    )
    took = view.took if view.state in ACTIVE else tally.finished_at - tally.started_at
    return replace(view, tally=tally, took=took)


def _loop(index: RunIndex, name: str) -> NodeView:
    view = _counted(index, name)
    iteration = next((unit for unit in index.snapshot.units if unit.node == name), None)
    if view.state not in ACTIVE - {NodeState.COMPENSATING} or iteration is None:
        return view
    return replace(
        view,
        state=state_of(iteration, index.snapshot.status),
        attempt=iteration.attempt,
        max_attempts=iteration.max_attempts,
        wake_at=iteration.wake_at,
        error=iteration.error,
        child_run_id=iteration.child_run_id,
    )


def _compensation_state(*, has_compensated: bool, has_failed: bool) -> NodeState | None:
    if has_failed:
        return NodeState.COMPENSATION_FAILED
    return NodeState.COMPENSATED if has_compensated else None


def _composite(
    index: RunIndex,
    name: str,
    *,
    has_ended: bool,
    has_failed: bool,
    compensation: NodeState | None,
) -> NodeView:
    """A node that consists of parts; the arguments say if any part ended, failed, was undone."""
    own = _unit(index, name, name)
    is_current = name in index.snapshot.current
    if is_current and index.snapshot.status is Status.COMPENSATING:
        return replace(own, state=NodeState.COMPENSATING)
    if own.state is NodeState.COMPLETED:
        return replace(own, state=compensation or NodeState.COMPLETED)
    if own.state is NodeState.FAILED or (has_failed and not is_current):
        return replace(own, state=NodeState.FAILED)
    if is_current:
        return replace(own, state=_fork_state(index, name), wake_at=None)
    if has_ended:
        return replace(own, state=compensation or NodeState.CANCELLED)
    return own


def _fork_state(index: RunIndex, name: str) -> NodeState:
    snapshot, forked = index.snapshot, index.snapshot.forks.get(name)
    if snapshot.status is Status.PAUSED:
        return NodeState.PAUSED
    if forked is None or forked.executing or forked.queued or not forked.waiting:
        return NodeState.CURRENT
    return NodeState.WAITING


def _route(index: RunIndex, name: str) -> NodeView:
    """The choice until it is made, then the case."""
    view = _unit(index, name, name)
    if view.state not in NOT_BEGUN:
        return view
    choice = _unit(index, name, choice_of(name))
    return view if choice.state is NodeState.COMPLETED else choice

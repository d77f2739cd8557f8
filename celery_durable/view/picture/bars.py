"""What a timeline is made of, and what its rows have."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from itertools import accumulate
from uuid import UUID

from celery_durable.core.names import COMPENSATE, choice_of, compensation_of
from celery_durable.core.status import Status
from celery_durable.store.read.folded import Trying
from celery_durable.store.read.history import JournalEntry
from celery_durable.store.read.spans import Density
from celery_durable.store.read.units import UnitInHand
from celery_durable.view.nodes import NodeState, NodeView
from celery_durable.view.picture.text import Count


class Look(StrEnum):
    """What a unit did in a segment of its row."""

    RAN = "ran"
    WAITED = "waited"
    """For a signal or a time."""
    CHILD = "ran-below"
    """A child run did."""
    GAP = "gap"
    """Nothing: the next attempt was not due, or no worker was free."""
    SPAN = "span"
    """Its parts did, in rows of their own."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a row. `end` is None for what goes on."""

    begin: datetime
    end: datetime | None
    look: Look
    state: NodeState
    text: str = ""


@dataclass(frozen=True, slots=True)
class BarRow:
    """A unit, or the parts of a node that are folded into a `density`.

    `depth` is 1 for a part of the node above it. `count` is a duration in the `note`. `fold` is the
    node whose parts a link lists, or folds where `is_open`. `run` is the child run that it is.
    `is_inherited`: an earlier run, which this one goes on with the work of, has executed it.
    """

    label: str
    state: NodeState
    segments: tuple[Segment, ...] = ()
    depth: int = 0
    note: str = ""
    count: Count | None = None
    is_queued: bool = False
    run: UUID | None = None
    density: Density | None = None
    is_undo: bool = False
    is_inherited: bool = False
    fold: str | None = None
    is_open: bool = False

    @property
    def begin(self) -> datetime | None:
        """When it was begun, or the first of the units that are folded in it, or it was queued."""
        found = None if self.density is None else self.density.began_at
        begun = (one.begin for one in self.segments if one.look is not Look.GAP)
        return min(begun, default=self.segments[-1].begin if self.segments else found)

    @property
    def whole(self) -> str:
        """The row in words."""
        texts = (one.text for one in self.segments if one.look is not Look.GAP or one.end is None)
        said = [self.state.value, self.note, *texts]
        return f"{self.label}: {', '.join(dict.fromkeys(part for part in said if part))}"


@dataclass(frozen=True)
class Told:
    """What a timeline is made of.

    `entries` are the journal's but for the parts of the nodes in `densities`, which are counted;
    `units` are those that the run stands at, but for parts of these nodes. `created_at` is when
    the run was: what ended before that is another run's. `status` is the run's.
    """

    now: datetime
    created_at: datetime
    nodes: Mapping[str, NodeView]
    entries: Sequence[JournalEntry]
    units: Sequence[UnitInHand] = ()
    trying: Mapping[str, Trying] = field(default_factory=dict)
    densities: Mapping[tuple[str, bool], Density] = field(default_factory=dict)
    opened: AbstractSet[str] = frozenset()
    status: Status = Status.RUNNING

    @cached_property
    def _in_turn(self) -> Sequence[JournalEntry]:
        """The entries as they began, but for parts of a fork: of these each follows another."""
        forks = {name for name, view in self.nodes.items() if view.is_fork}
        found = (
            one
            for one in self.entries
            if one.node not in forks or one.unit == one.node or is_undo(one)
        )
        return sorted(found, key=lambda entry: entry.started_at)

    @cached_property
    def _ends(self) -> Sequence[datetime]:
        """Up to each of these, when the last of them ended."""
        return [*accumulate((entry.finished_at for entry in self._in_turn), max)]

    def ready_at(self, begin: datetime) -> datetime:
        """When all had ended that had begun before, or the run was created."""
        before = bisect_left(self._in_turn, begin, key=lambda entry: entry.started_at)
        return max(self.created_at, self._ends[before - 1]) if before else self.created_at

    @cached_property
    def entry_of(self) -> Mapping[str, JournalEntry]:
        """The entries by unit."""
        return {entry.unit: entry for entry in self.entries}

    @cached_property
    def unit_of(self) -> Mapping[str, UnitInHand]:
        """The current units by unit."""
        return {unit.unit: unit for unit in self.units}

    @cached_property
    def parts_of(self) -> Mapping[str, Sequence[JournalEntry | UnitInHand]]:
        """The branches, items and iterations by node, without compensations."""
        found: dict[str, list[JournalEntry | UnitInHand]] = {}
        both: list[JournalEntry | UnitInHand] = [*self.entries, *self.units]
        for one in both:
            if one.unit not in (one.node, choice_of(one.node)) and not is_undo(one):
                found.setdefault(one.node, []).append(one)
        return found


def is_undo(one: JournalEntry | UnitInHand) -> bool:
    """Return True if it is a compensation; a branch may be called so, and has its name."""
    return one.unit.endswith(compensation_of("")) and one.branch != COMPENSATE

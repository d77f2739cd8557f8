"""Applying a cancel to a run and all below it: in bulk, by whoever comes first.

The caller, the handler of the hint and recovery do the same. What nobody executes ends at once,
whether or not anybody consumes its queue; what is executed is told by its flags, and ends by its
worker; what has to be undone is hinted. In four parts, each in transactions of its own:

    announce      flags on the first token of every run of the tree, round after round until none
                  is new: no fork, no item and no child begins after that
    end_branches  the idle branches are gone, the others flagged
    end           bottom up: what waits for nothing any more is decided on, as `core` decides, and
                  written
    forget        hints for what is left, and the command is out of the inbox

Until the last part the command stays in the inbox: who dies on the way leaves it to recovery.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from celery_durable.core.child import child_failed
from celery_durable.core.decide import decide
from celery_durable.core.decision import End, JournalRecord, Leave, RollBack
from celery_durable.core.event import ChildEnded, Event, Flagged
from celery_durable.core.plan import Plan
from celery_durable.core.rollback import compensate
from celery_durable.core.token import Flags, ForChild
from celery_durable.database.connections import Database
from celery_durable.store import cancelling, inbox
from celery_durable.store.cancelling import Announced, Idle
from celery_durable.store.connection import Hindered, Statement

CHUNK = 2000
"""Runs that one transaction ends, or tells."""

PATIENCE = 10.0
PAUSE = 0.02
"""Seconds for which tokens that somebody has locked are looked at again, and between looks."""

NO_PLAN = Plan("", 1, ())
"""What ends without undoing anything needs no plan."""


def apply_commands(
    database: Database,
    run_id: UUID,
    patience: float = PATIENCE,
    bounds: Statement | None = None,
) -> bool:
    """Apply the cancels of a run to its tree; False when there is none.

    Raises `Hindered` when tokens stay locked for longer than `patience` seconds; the command then
    stays as well. `bounds` are those of each transaction.
    """
    with database.autocommit() as connection:
        commands = inbox.cancels(connection, run_id)
    if not commands:
        return False
    flags = Flags.NONE
    for command in commands:
        flags |= command.flags
    reason = next((one.reason for one in commands if one.reason is not None), None)
    cancel = _Cancel(database, run_id, flags, reason, time.monotonic() + patience, bounds)
    cancel.apply([one.id for one in commands if one.id is not None])
    return True


@dataclass(frozen=True, slots=True)
class _Cancel:
    """One cancel of a tree, whose top is `top`."""

    database: Database
    top: UUID
    flags: Flags
    reason: str | None
    until: float
    bounds: Statement | None

    def apply(self, commands: Sequence[int]) -> None:
        tree = self._announce()
        for first in range(0, len(tree), CHUNK):
            chunk = tree[first : first + CHUNK]
            runs = [run.id for run in chunk]
            has_branches = any(run.has_branches for run in chunk) and self._end_branches(runs)
            self._end(runs, has_branches=has_branches)
        with self.database.transaction(self.bounds) as connection:
            # Of many who apply the same at once, one puts the hints.
            if not inbox.remove(connection, commands):
                return
            for first in range(0, len(tree), CHUNK):
                runs = [run.id for run in tree[first : first + CHUNK]]
                cancelling.put_hints_for(connection, runs)

    def _announce(self) -> Sequence[Announced]:
        """The unfinished runs of the tree, the lowest first; each has its flags."""
        while True:
            with self.database.transaction(self.bounds) as connection:
                tree = cancelling.announce(connection, self.top, self.flags, self.reason)
            if any(run.is_raised for run in tree):
                continue
            if not any(run.is_locked for run in tree):
                return tree
            self._pause()

    def _end_branches(self, runs: Sequence[UUID]) -> bool:
        """End what is idle, tell the others; whether any are left."""
        while True:
            with self.database.transaction(self.bounds) as connection:
                left = cancelling.end_branches(connection, runs, self.flags)
            if not left.untold:
                return left.branches > 0
            self._pause()

    def _end(self, runs: Sequence[UUID], *, has_branches: bool) -> None:
        """Bottom up: a run that ends may be what another of them has waited for."""
        known = frozenset(runs)
        is_done = False
        while not is_done:
            while has_branches and self._leave(runs):
                pass
            is_done = known.isdisjoint(self._finish(runs))

    def _leave(self, runs: Sequence[UUID]) -> bool:
        """Let idle branches go; whether there may be more."""
        with self.database.transaction(self.bounds) as connection:
            idle = cancelling.idle(connection, runs, branches=True)
            cancelling.record(connection, records_of(idle, Leave))
            if idle:
                cancelling.leave(connection, runs, [one.token for one in idle])
        return len(idle) == cancelling.MOST

    def _finish(self, runs: Sequence[UUID]) -> set[UUID]:
        """End runs; those that have started them."""
        with self.database.transaction(self.bounds) as connection:
            idle = cancelling.idle(connection, runs, branches=False)
            cancelling.record(connection, records_of(idle, End))
            if not idle:
                return set()
            return cancelling.end(connection, self.top, [one.token for one in idle])

    def _pause(self) -> None:
        if time.monotonic() > self.until:
            raise Hindered(f"tokens of the tree of run {self.top} stay locked")
        time.sleep(PAUSE)


def records_of(idle: Sequence[Idle], then: type[End | Leave]) -> list[tuple[UUID, JournalRecord]]:
    """What is written of tokens that end: `decide` says it, and that they do.

    A run that is compensated is idle here only where nothing of it is to be undone.
    """
    entries = []
    for one in idle:
        decision = decide(NO_PLAN, one.token, event_of(one), one.now)
        if isinstance(decision, RollBack):
            decision = compensate(NO_PLAN, decision, undo=None)
        assert isinstance(decision.then, then), one
        entries += [(one.token.run_id, entry) for entry in decision.records]
    return entries


def event_of(idle: Idle) -> Event:
    """What a worker would find that looks at the token."""
    wait = idle.token.wait
    if idle.child is None or not isinstance(wait, ForChild):
        return Flagged()
    status, error = idle.child
    failed = child_failed(idle.token.unit, wait, status, error)
    return ChildEnded(wait.run_id, status, failed, idle.waiting_since or idle.now)

"""Applies a cancel to a run and all runs below it, in bulk.

The caller, the worker that follows the hint and recovery all do this; the first one applies it.
Tokens that nobody executes end at once, whether or not their queues are consumed. Tokens that are
executed get flags, and their workers end them. Tokens that must be compensated get hints. There are
four parts, each in transactions of its own:

    announce      raises flags on the first token of every run of the tree, round after round until
                  none is new: no fork, no item and no child begins after that
    end_branches  ends the idle branches, and flags the others
    end           bottom up: decides, as `core` does, on tokens that wait for nothing any more, and
                  writes the decisions
    forget        puts hints for the tokens that are left, and removes the command from the inbox

The command stays in the inbox until the last part: if a process dies on the way, recovery applies
it.
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
from celery_durable.database.notify import tell
from celery_durable.store import inbox
from celery_durable.store.cancelling import announcing, branches, ending
from celery_durable.store.cancelling.announcing import Announced
from celery_durable.store.cancelling.ending import Idle
from celery_durable.store.connection import Statement
from celery_durable.store.sqlstates import Hindered

CHUNK = 2000
"""Runs that one transaction ends or flags."""

LOCK_TIMEOUT = 10.0
PAUSE = 0.02
"""Seconds for which locked tokens are tried again, and between tries."""

NO_PLAN = Plan("", 1, ())
"""A token that ends without a rollback needs no plan."""


def apply_commands(
    database: Database,
    run_id: UUID,
    lock_timeout: float = LOCK_TIMEOUT,
    bounds: Statement | None = None,
) -> bool:
    """Apply the cancels of a run to its tree; return False if there is none.

    Raises `Hindered` if tokens stay locked for longer than `lock_timeout` seconds; then the command
    stays in the inbox. `bounds` are those of each transaction.
    """
    with database.autocommit() as connection:
        commands = inbox.cancels(connection, run_id)
    if not commands:
        return False
    flags = Flags.NONE
    for command in commands:
        flags |= command.flags
    reason = next((one.reason for one in commands if one.reason is not None), None)
    cancel = _Cancel(database, run_id, flags, reason, time.monotonic() + lock_timeout, bounds)
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
            # Of many that apply the same commands at once, one puts the hints.
            if not inbox.remove(connection, commands):
                return
            for first in range(0, len(tree), CHUNK):
                runs = [run.id for run in tree[first : first + CHUNK]]
                ending.put_hints_for(connection, runs)

    def _announce(self) -> Sequence[Announced]:
        """Raise the flags in the whole tree; return its unfinished runs, the lowest first."""
        while True:
            with self.database.transaction(self.bounds) as connection:
                tree = announcing.announce(connection, self.top, self.flags, self.reason)
            if any(run.is_raised for run in tree):
                continue
            if not any(run.is_locked for run in tree):
                return tree
            self._pause()

    def _end_branches(self, runs: Sequence[UUID]) -> bool:
        """End idle branches and flag the others; return True if any are left."""
        while True:
            with self.database.transaction(self.bounds) as connection:
                left = branches.end_branches(connection, runs, self.flags)
            if not left.is_any_unflagged:
                return left.branches > 0
            self._pause()

    def _end(self, runs: Sequence[UUID], *, has_branches: bool) -> None:
        """End runs bottom up: one that ends may be the child that another has waited for."""
        known = frozenset(runs)
        is_done = False
        while not is_done:
            while has_branches and self._leave(runs):
                pass
            is_done = known.isdisjoint(self._finish(runs))

    def _leave(self, runs: Sequence[UUID]) -> bool:
        """Let idle branches leave; return True if there may be more."""
        with self.database.transaction(self.bounds) as connection:
            idle = ending.lock_idle(connection, runs, branches=True)
            ending.record(connection, records_of(idle, Leave))
            if idle:
                ending.leave(connection, runs, [one.token for one in idle])
        return len(idle) == ending.MOST

    def _finish(self, runs: Sequence[UUID]) -> set[UUID]:
        """End idle runs; return the runs that have started them."""
        with self.database.transaction(self.bounds) as connection:
            idle = ending.lock_idle(connection, runs, branches=False)
            ending.record(connection, records_of(idle, End))
            if not idle:
                return set()
            parents = ending.end(connection, self.top, [one.token for one in idle])
        tell(self.database, [one.token.run_id for one in idle])
        return parents

    def _pause(self) -> None:
        if time.monotonic() > self.until:
            raise Hindered(f"tokens of the tree of run {self.top} stay locked")
        time.sleep(PAUSE)


def records_of(idle: Sequence[Idle], then: type[End | Leave]) -> list[tuple[UUID, JournalRecord]]:
    """The journal records of tokens that end: `decide` says what they are, and that the tokens end.

    A run with a flag to compensate is idle here only if it has nothing to compensate.
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
    """The event that a worker would have found at the token."""
    wait = idle.token.wait
    if idle.child is None or not isinstance(wait, ForChild):
        return Flagged()
    status, error = idle.child
    failure = child_failed(idle.token.unit, wait, status, error)
    return ChildEnded(wait.run_id, status, failure, idle.waiting_since or idle.now)

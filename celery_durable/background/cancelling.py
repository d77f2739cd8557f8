"""Applies a cancel to runs and all runs below them, in bulk. A timeout of a run is one, too.

The caller, the worker that follows the hint and recovery all do this; the first one applies it.
Tokens that nobody executes end at once, whether or not their queues are consumed. Tokens that are
executed get flags, and their workers end them. Tokens that must be compensated get hints. There are
four parts, each in transactions of its own:

    announce      raises flags on the first token of every run of a tree, round after round until
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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from uuid import UUID

from celery_durable import signals
from celery_durable.background.counting import write_last_counts
from celery_durable.core.child import child_failed
from celery_durable.core.decide import decide
from celery_durable.core.decision import Decision, End, JournalRecord, Leave, RollBack
from celery_durable.core.event import ChildEnded, Event, Flagged
from celery_durable.core.metrics import RUNS_ENDED
from celery_durable.core.plan import Plan
from celery_durable.core.rollback import compensate
from celery_durable.core.status import Status
from celery_durable.core.token import Flags, ForChild
from celery_durable.database.connections import Database
from celery_durable.database.notify import tell
from celery_durable.errors import ErrorRecord
from celery_durable.store import inbox, pauses
from celery_durable.store.cancelling import announcing, branches, ending
from celery_durable.store.cancelling.announcing import Announced
from celery_durable.store.cancelling.ending import Ended, Idle
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
    return apply_commands_of(database, [run_id], lock_timeout, bounds) > 0


def apply_commands_of(
    database: Database,
    run_ids: Iterable[UUID],
    lock_timeout: float = LOCK_TIMEOUT,
    bounds: Statement | None = None,
) -> int:
    """Apply the cancels of several runs, those that are alike together; return how many there were.

    One of these runs may be below another. Raises `Hindered` as `apply_commands` does: then some
    are not applied, and stay in the inbox.
    """
    with database.autocommit() as connection:
        waiting = inbox.cancels(connection, run_ids)
    until = time.monotonic() + lock_timeout
    alike: dict[tuple[Flags, str | None], list[UUID]] = {}
    for run_id, commands in waiting.items():
        flags = reduce(or_, (one.flags for one in commands))
        reason = next((one.reason for one in commands if one.reason is not None), None)
        alike.setdefault((flags, reason), []).append(run_id)
    for (flags, reason), tops in alike.items():
        ids = [one.id for top in tops for one in waiting[top] if one.id is not None]
        _Cancel(database, tops, flags, reason, until, bounds).apply(ids)
    write_last_counts(database)  # a client has nobody who does it later
    return sum(map(len, waiting.values()))


@dataclass(frozen=True, slots=True)
class _Cancel:
    """One cancel of trees, whose tops are `tops`."""

    database: Database
    tops: Sequence[UUID]
    flags: Flags
    reason: str | None
    until: float
    bounds: Statement | None

    def apply(self, commands: Sequence[int]) -> None:
        tree = self._announce()
        outermost = [run.id for run in tree if run.is_outermost]
        for first in range(0, len(tree), CHUNK):
            chunk = tree[first : first + CHUNK]
            runs = [run.id for run in chunk]
            has_branches = any(run.has_branches for run in chunk) and self._end_branches(runs)
            self._end(runs, outermost, has_branches=has_branches)
        with self.database.transaction(self.bounds) as connection:
            # Of many that apply the same commands at once, one puts the hints.
            if not inbox.remove(connection, commands):
                return
            pauses.lift_of_runs(connection, [run.id for run in tree])
            for first in range(0, len(tree), CHUNK):
                runs = [run.id for run in tree[first : first + CHUNK]]
                ending.put_hints_for(connection, runs)

    def _announce(self) -> Sequence[Announced]:
        """Raise the flags in the trees; return their unfinished runs, the lowest first."""
        while True:
            with self.database.transaction(self.bounds) as connection:
                tree = announcing.announce(connection, self.tops, self.flags, self.reason)
            if any(run.is_raised for run in tree):
                continue
            if not any(run.is_locked for run in tree):
                return tree
            self._pause()

    def _end_branches(self, runs: Sequence[UUID]) -> bool:
        """End idle branches and flag the others; return True if any are left."""
        while True:
            with self.database.transaction(self.bounds) as connection:
                left = branches.end_branches(connection, runs, self.flags.of_cancel)
            if not left.is_any_unflagged:
                return left.branches > 0
            self._pause()

    def _end(self, runs: Sequence[UUID], outermost: Sequence[UUID], *, has_branches: bool) -> None:
        """End runs bottom up: one that ends may be the child that another has waited for."""
        known = frozenset(runs)
        is_done = False
        while not is_done:
            while has_branches and self._leave(runs):
                pass
            is_done = known.isdisjoint(self._finish(runs, outermost))

    def _leave(self, runs: Sequence[UUID]) -> bool:
        """Let idle branches leave; return True if there may be more."""
        with self.database.transaction(self.bounds) as connection:
            idle = ending.lock_idle(connection, runs, branches=True)
            ending.record(connection, records_of(decisions_on(idle, Leave)))
            if idle:
                ending.leave(connection, runs, [one.token for one in idle])
        return len(idle) == ending.MOST

    def _finish(self, runs: Sequence[UUID], outermost: Sequence[UUID]) -> set[UUID]:
        """End idle runs; return the runs that have started them."""
        with self.database.transaction(self.bounds) as connection:
            idle = ending.lock_idle(connection, runs, branches=False)
            if not idle:
                return set()
            decisions = decisions_on(idle, End)
            ending.record(connection, records_of(decisions))
            tokens, errors = [one.token for one in decisions], errors_of(decisions)
            ended = ending.end(connection, outermost, tokens, errors)
        tell(self.database, [run.id for run in ended])
        announce(ended, errors)
        for run in ended:
            status = Status.FAILED if run.id in errors else Status.CANCELLED
            self.database.tally.add(RUNS_ENDED.name, run.workflow, str(status))
        return {run.parent for run in ended if run.parent is not None}

    def _pause(self) -> None:
        if time.monotonic() > self.until:
            others = f" and of {len(self.tops) - 1} others" if len(self.tops) > 1 else ""
            raise Hindered(f"tokens of the tree of run {self.tops[0]}{others} stay locked")
        time.sleep(PAUSE)


def announce(ended: Sequence[Ended], errors: Mapping[UUID, ErrorRecord]) -> None:
    """Send the signals of runs that have ended; those in `errors` have failed."""
    for run in ended:
        about = {"run_id": run.id, "workflow": run.workflow, "version": run.version}
        if run.id in errors:
            signals.run_failed.send(run.workflow, **about, error=errors[run.id])
        else:
            signals.run_cancelled.send(run.workflow, **about)


def decisions_on(idle: Sequence[Idle], then: type[End | Leave]) -> list[Decision]:
    """Decide on tokens that end: `decide` says what is recorded of them, and how their runs end.

    A run with a flag to compensate is idle here only if it has nothing to compensate.
    """
    decisions = []
    for one in idle:
        decision = decide(NO_PLAN, one.token, event_of(one), one.now)
        if isinstance(decision, RollBack):
            decision = compensate(NO_PLAN, decision, undo=None)
        assert isinstance(decision.then, then), one
        decisions.append(decision)
    return decisions


def records_of(decisions: Sequence[Decision]) -> list[tuple[UUID, JournalRecord]]:
    """The journal records of tokens that end, each with its run."""
    return [(one.token.run_id, record) for one in decisions for record in one.records]


def errors_of(decisions: Sequence[Decision]) -> dict[UUID, ErrorRecord]:
    """The errors of the runs that fail; the others are cancelled."""
    changes = ((one.token.run_id, one.run) for one in decisions)
    return {run_id: change.error for run_id, change in changes if change and change.error}


def event_of(idle: Idle) -> Event:
    """The event that a worker would have found at the token."""
    wait = idle.token.wait
    if idle.child is None or not isinstance(wait, ForChild):
        return Flagged()
    status, error = idle.child
    failure = child_failed(idle.token.unit, wait, status, error)
    return ChildEnded(wait.run_id, status, failure, idle.waiting_since or idle.now)

"""Freeing what dead workers had claimed, and sending lost hints again.

`reap` and `recover` look at levels, never at edges: they may run anywhere, any number at once, and
a second run finds nothing to do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from celery_durable.background.cancelling import PATIENCE, apply_commands
from celery_durable.database.connections import BRIEFLY, Database
from celery_durable.store import dead_workers, inbox, lost_hints, reaping, signals, workers
from celery_durable.store.connection import Connection, Hindered, Statement
from celery_durable.store.dead_workers import Doom, Sign
from celery_durable.store.lost_hints import Look, Paces, Page, Patience
from celery_durable.store.reaping import Claimed
from celery_durable.store.tables import LOOK_AFTER

logger = logging.getLogger(__name__)

BATCH = 500
"""Most rows one pass of one chore looks at."""

GRACE = 0.5
"""Seconds a lock must be free before its worker is dead: time to take a lost one again, or to renew
at least.
"""

GRACE_OF_MANY = 5.0
"""The same where workers of several nodes lost theirs at once: what broke is then the way to
Postgres, more likely than all of them, and hundreds of processes may be coming back.
"""

SEEN_AFTER_A_LOOK = 1.0
"""Seconds after a look that count as watching; a worker renews sooner once Postgres is back."""

LOOK_AGAIN_AFTER = 0.25
"""Seconds between looks at a worker that seems to be dead."""

FIRST_HINT_AFTER = timedelta(seconds=LOOK_AFTER)
"""A hint that has not been followed for so long is taken for lost; each time twice as long."""

HINT_AT_MOST_AFTER = timedelta(minutes=10)

PACE_FADES = 0.9
"""What is left, a turn later, of how slow a queue was whose consumers have nothing in hand."""

PAGE = 1000
"""Tokens that are looked at in one statement for hints that got lost."""

PAGE_EVERY = timedelta(seconds=1)
ROUND_EVERY = timedelta(seconds=5)
"""What all relays together wait after a page, and after the last."""

LEASE = timedelta(seconds=10)
"""When a relay has not ended its turn by then, another looks at its page."""

FORGET_WORKERS_AFTER = timedelta(minutes=10)
FORGET_WORKERS_BATCH = 5000
"""A worker may replace its children after every task."""


class Reaper:
    """Declares workers dead and frees their tokens; frees what is executed for too long.

    Since when a worker has seemed to be dead, or a unit has been executed, it knows by its own
    clock: it has seen it. What the database's clock says may be hours from what was said before.
    """

    def __init__(self) -> None:
        self._looked_at = time.monotonic()
        self._silent_since: dict[Sign, float] = {}
        self._unlocked_since: dict[Sign, float] = {}
        self._executed_since: dict[Claimed, float] = {}

    def reap(self, connection: Connection) -> int:
        """Free every token whose worker has ended, is dead or is absent, and every one that is
        executed for too long; returns how many.

        Each is freed by one statement that skips a locked row: no reaper waits for another.
        """
        self._declare_dead(connection)
        freed = 0
        for orphan in (*reaping.find(connection, BATCH), *self._overdue(connection)):
            if reaping.reap(connection, orphan, uuid4()):
                freed += 1
                logger.info("Freed %s of run %s", orphan.unit, orphan.run_id)
        return freed

    def reap_after_grace(self, connection: Connection) -> int:
        """For a caller that will not come again: waits for the grace of those that seem dead.

        What takes longer to be seen, workers that do not renew and units that do not end, it leaves
        to those who watch.
        """
        freed = self.reap(connection)
        until = time.monotonic() + GRACE_OF_MANY + LOOK_AGAIN_AFTER
        while self.has_suspects and time.monotonic() < until:
            time.sleep(LOOK_AGAIN_AFTER)
            freed += self.reap(connection)
        return freed

    @property
    def has_suspects(self) -> bool:
        """Whether a worker seems to be dead that may show its life within the grace."""
        return bool(self._unlocked_since)

    def _declare_dead(self, connection: Connection) -> None:
        signs = dead_workers.look(connection)
        doomed = self._doomed(signs)
        if not doomed:
            return
        for dead in dead_workers.declare_dead(connection, doomed):
            logger.warning(
                "Worker %s (%s, pid %d) is gone%s; its units will run elsewhere",
                dead.id,
                dead.hostname,
                dead.pid,
                " while it was stopping" if dead.draining else "",
            )

    def _doomed(self, signs: Sequence[Sign]) -> Sequence[Doom]:
        now = time.monotonic()
        # Time in which nobody could look says nothing: it was an outage, in which nobody could
        # renew either, or we were stopped.
        unseen = max(0.0, now - self._looked_at - SEEN_AFTER_A_LOOK)
        self._looked_at = now

        def since(before: Mapping[Sign, float], ones: Sequence[Sign]) -> dict[Sign, float]:
            return {one: min(before.get(one, now) + unseen, now) for one in ones}

        unlocked = [one for one in signs if one.is_unlocked]
        self._silent_since = since(self._silent_since, signs)
        self._unlocked_since = since(self._unlocked_since, unlocked)
        grace = grace_after(unlocked)
        silent = [
            Doom(one, 0.0, is_silent=True)
            for one, at in self._silent_since.items()
            if now - at >= one.ttl
        ]
        gone = [
            Doom(one, now - at, is_silent=False)
            for one, at in self._unlocked_since.items()
            if now - at >= grace
        ]
        doomed = {one.sign for one in silent}
        return [*silent, *(one for one in gone if one.sign not in doomed)]

    def _overdue(self, connection: Connection) -> Sequence[Claimed]:
        limited = reaping.limited(connection)
        now, before = time.monotonic(), self._executed_since
        self._executed_since = {one: before.get(one, now) for one in limited}
        return [one for one, since in self._executed_since.items() if now - since >= limited[one]]


def grace_after(unlocked: Iterable[Sign]) -> float:
    """Seconds after which those workers are dead whose locks are free."""
    return GRACE_OF_MANY if len({one.node_id for one in unlocked}) > 1 else GRACE


def recover(database: Database, reaper: Reaper | None = None) -> int:
    """Reap, send lost hints again, and apply waiting commands; returns how many tokens moved."""
    with database.autocommit() as connection:
        moved = reaper.reap(connection) if reaper else Reaper().reap_after_grace(connection)
        patience = _patience(connection, lost_hints.known_paces(connection))
        found = lost_hints.look(connection, PAGE, patience)
        moved += found.hinted
        page = lost_hints.hint_again(connection, None, PAGE, patience)
        moved += page.hinted
        while page.reached is not None:
            page = lost_hints.hint_again(connection, page.reached, PAGE, patience)
            moved += page.hinted
        _forget(connection)
    return moved + _apply_waiting_commands(database)


@dataclass(frozen=True, slots=True)
class Share:
    """How many tokens a relay moved on when it was its turn, and when it should come again."""

    moved: int
    pause: timedelta


def recover_in_turn(database: Database) -> Share:
    """A relay's share of what `recover` does besides reaping.

    However many relays come, together they look at what has its time, and at one page of all, in
    `PAGE_EVERY`; at the next at once while hints are found to be lost, since then many may be.
    """
    with database.autocommit() as connection:
        turn = lost_hints.take_turn(connection, LEASE)
        if turn is None:
            return Share(0, PAGE_EVERY)
        patience = _patience(connection, turn.paces)
        found = lost_hints.look(connection, PAGE, patience)
        page = lost_hints.hint_again(connection, turn.reached, PAGE, patience)
        if page.reached is None:
            _forget(connection)
        pause = _pause_after(found, page)
        saw_all = found.seen < PAGE
        lost_hints.end_turn(connection, page.reached, pause, patience.paces, saw_all=saw_all)
    moved = found.hinted + page.hinted + _apply_waiting_commands(database)
    return Share(moved, min(pause, PAGE_EVERY))


def _patience(connection: Connection, before: Paces) -> Patience:
    """For how long a hint may be under way: a queue was as slow as it is, or not much quicker."""
    fading = {queue: pace * PACE_FADES for queue, pace in before.items() if pace >= 1}
    now = lost_hints.paces(connection)
    paces = {q: max(now.get(q, 0.0), fading.get(q, 0.0)) for q in {*now, *fading}}
    return Patience(FIRST_HINT_AFTER, HINT_AT_MOST_AFTER, paces)


def _pause_after(found: Look, page: Page) -> timedelta:
    is_full = found.seen >= PAGE and found.hinted
    if is_full or (page.reached is not None and page.hinted):
        return timedelta(0)
    return ROUND_EVERY if page.reached is None else PAGE_EVERY


def _forget(connection: Connection) -> None:
    workers.forget(connection, FORGET_WORKERS_AFTER, FORGET_WORKERS_BATCH)
    signals.forget_late(connection)


def _apply_waiting_commands(database: Database) -> int:
    with database.autocommit() as connection:
        waiting = inbox.runs_with_commands(connection, BATCH)
    return sum(
        apply_unless_locked(database, run_id, patience=0.0, bounds=BRIEFLY) for run_id in waiting
    )


def apply_unless_locked(
    database: Database,
    run_id: UUID,
    patience: float = PATIENCE,
    bounds: Statement | None = None,
) -> bool:
    """`apply_commands`, unless somebody has a token locked for long: later will do."""
    try:
        return apply_commands(database, run_id, patience, bounds)
    except Hindered as error:
        # Recovery comes again by itself, every few seconds.
        level = logging.WARNING if bounds is None else logging.DEBUG
        logger.log(level, "A command for run %s waits: %s", run_id, error)
        return False

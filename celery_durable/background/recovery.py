"""Reaps the claims of dead workers, and puts new hints for lost ones.

`reap` and `recover` look at levels, never at edges: they may run anywhere, any number at once, and
a second run finds nothing to do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

from celery_durable.background.cancelling import LOCK_TIMEOUT, apply_commands
from celery_durable.background.counting import count_takeover, write_last_counts
from celery_durable.background.deadlines import enforce
from celery_durable.database.connections import BRIEFLY, Database
from celery_durable.store import (
    dead_workers,
    inbox,
    lost_hints,
    pauses,
    reaping,
    scan_lease,
    signals,
    watching,
    workers,
)
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.dead_workers import Death, LifeSign
from celery_durable.store.lost_hints import HintTimeouts, Look, Paces, Page
from celery_durable.store.reaping import Claimed
from celery_durable.store.sqlstates import Hindered
from celery_durable.store.tables import LOOK_AFTER

logger = logging.getLogger(__name__)

BATCH = 500
"""The most rows that one pass of a chore looks at."""

GRACE = 0.5
"""Seconds for which a worker's lock must be free before the worker is declared dead: time to take a
new lock, or at least to renew.
"""

GRACE_OF_MANY = 5.0
"""The same where workers of several nodes lost their locks at once: the way to Postgres broke, more
likely than all of them, and hundreds of processes may be coming back.
"""

SEEN_AFTER_A_LOOK = 1.0
"""Seconds after a look that count as watched; a worker renews sooner once Postgres is back."""

LOOK_AGAIN_AFTER = 0.25
"""Seconds between looks at a worker that seems to be dead."""

FIRST_HINT_AFTER = timedelta(seconds=LOOK_AFTER)
"""A hint that nobody has followed for so long counts as lost; twice as long each time."""

HINT_AT_MOST_AFTER = timedelta(minutes=10)

PACE_FADES = 0.9
"""What a lease later is left of the pace of a queue whose consumers have nothing claimed."""

PAGE = 2000
"""Tokens that one statement looks at."""

PAGE_EVERY = timedelta(seconds=2)
ROUND_EVERY = timedelta(seconds=5)
"""The pause of all relays together after a page, and after the last page."""

LEASE = timedelta(seconds=10)
"""When a relay has not ended its lease by then, another scans its page."""

FORGET_WORKERS_AFTER = timedelta(minutes=10)
FORGET_WORKERS_BATCH = 5000
"""Workers forgotten at once; a Celery worker may replace its children after every task."""


class Reaper:
    """Declares workers dead and reaps their claims, and those of units that take too long.

    It measures by its own clock, from what it has seen, for how long a worker has seemed dead and
    a unit has been executed. The database's clock may have been set by hours meanwhile. `count` is
    called for each claim that it reaps.
    """

    def __init__(self, count: Callable[[Claimed], None] = lambda _: None) -> None:
        self._count = count
        self._looked_at = time.monotonic()
        self._silent_since: dict[LifeSign, float] = {}
        self._unlocked_since: dict[LifeSign, float] = {}
        self._executed_since: dict[Claimed, float] = {}
        self.saw_claims = True

    def reap(self, connection: Connection) -> int:
        """Reap every claim of a worker that has ended, is dead or has no row, and of every unit
        that takes too long; return how many. Have runs ended whose deadlines have passed.

        Each is reaped by one statement that skips a locked row: no reaper waits for another.
        """
        watched = watching.look(connection, BATCH)
        self.saw_claims = watched.has_claims
        orphaned = watched.orphaned
        if self._declare_dead(connection, watched.signs):
            orphaned = reaping.find(connection, BATCH)
        reaped = 0
        for claimed in (*orphaned, *self._overdue(watched.limited)):
            if reaping.reap(connection, claimed, uuid4()):
                reaped += 1
                self._count(claimed)
                why = "it took too long" if claimed.timed_out else "its worker is gone"
                logger.info(
                    "Reaped the claim of %s of run %s: %s", claimed.unit, claimed.run_id, why
                )
        if watched.has_overdue:
            reaped += enforce(connection, BATCH)
        return reaped

    def reap_after_grace(self, connection: Connection) -> int:
        """`reap` for a caller that calls once: waits for the grace of workers that seem dead.

        Workers that do not renew and units that do not end take longer to see; they are left to
        reapers that keep watching.
        """
        reaped = self.reap(connection)
        until = time.monotonic() + GRACE_OF_MANY + LOOK_AGAIN_AFTER
        while self.has_suspects and time.monotonic() < until:
            time.sleep(LOOK_AGAIN_AFTER)
            reaped += self.reap(connection)
        return reaped

    @property
    def has_suspects(self) -> bool:
        """True if a worker seems dead whose grace is not over."""
        return bool(self._unlocked_since)

    def _declare_dead(self, connection: Connection, signs: Sequence[LifeSign]) -> bool:
        deaths = self._deaths(signs)
        declared = dead_workers.declare_dead(connection, deaths) if deaths else ()
        for dead in declared:
            logger.warning(
                "Worker %s (%s, pid %d) is gone%s; its units will run elsewhere",
                dead.id,
                dead.hostname,
                dead.pid,
                " while it was stopping" if dead.draining else "",
            )
        return bool(declared)

    def _deaths(self, signs: Sequence[LifeSign]) -> Sequence[Death]:
        now = time.monotonic()
        # Time in which this reaper did not look counts for nothing: in an outage nobody could renew
        # either; or this process was stopped.
        unseen = max(0.0, now - self._looked_at - SEEN_AFTER_A_LOOK)
        self._looked_at = now

        def since(
            before: Mapping[LifeSign, float], ones: Sequence[LifeSign]
        ) -> dict[LifeSign, float]:
            return {one: min(before.get(one, now) + unseen, now) for one in ones}

        unlocked = [one for one in signs if one.is_unlocked]
        self._silent_since = since(self._silent_since, signs)
        self._unlocked_since = since(self._unlocked_since, unlocked)
        grace = grace_after(unlocked)
        silent = [
            Death(one, 0.0, is_silent=True)
            for one, at in self._silent_since.items()
            if now - at >= one.ttl
        ]
        gone = [
            Death(one, now - at, is_silent=False)
            for one, at in self._unlocked_since.items()
            if now - at >= grace
        ]
        doomed = {one.sign for one in silent}
        return [*silent, *(one for one in gone if one.sign not in doomed)]

    def _overdue(self, limited: Mapping[Claimed, float]) -> Sequence[Claimed]:
        now, before = time.monotonic(), self._executed_since
        self._executed_since = {one: before.get(one, now) for one in limited}
        return [one for one, since in self._executed_since.items() if now - since >= limited[one]]


def grace_after(unlocked: Iterable[LifeSign]) -> float:
    """Seconds for which the locks of these workers must be free before they are declared dead."""
    return GRACE_OF_MANY if len({one.node_id for one in unlocked}) > 1 else GRACE


def recover(database: Database, reaper: Reaper | None = None) -> int:
    """Reap, put new hints for lost ones, apply waiting commands; return how many tokens moved."""
    with database.autocommit() as connection:
        moved = _reaped(database, connection, reaper)
        before, now = scan_lease.known_paces(connection), lost_hints.paces(connection)
        timeouts = _hint_timeouts(before, now)
        found = lost_hints.look(connection, PAGE, timeouts)
        moved += found.hinted
        page = lost_hints.hint_again(connection, None, PAGE, timeouts)
        moved += page.hinted
        while page.reached is not None:
            page = lost_hints.hint_again(connection, page.reached, PAGE, timeouts)
            moved += page.hinted
        _forget(connection)
    moved += _apply_waiting_commands(database)
    write_last_counts(database)
    return moved


def _reaped(database: Database, connection: Connection, reaper: Reaper | None) -> int:
    """Reap by a reaper that keeps watching, or by one that is called once."""
    if reaper is not None:
        return reaper.reap(connection)
    return Reaper(partial(count_takeover, database)).reap_after_grace(connection)


@dataclass(frozen=True, slots=True)
class Recovered:
    """How many tokens a relay moved, and when it should try to take the lease again.

    Who had the lease tries as it becomes free. Who had not comes more often than a round does: the
    others may end.
    """

    moved: int
    pause: timedelta


def recover_with_lease(database: Database) -> Recovered:
    """Do a relay's share of what `recover` does besides reaping, if it gets the lease.

    All relays together look, once in `PAGE_EVERY`, at the tokens whose time has come, and scan one
    page of all tokens. While hints are found lost many may be: then the next page follows at once.
    What the lease has found nothing of is not asked for: it is there the next time.
    """
    with database.autocommit() as connection:
        lease = scan_lease.take(connection, LEASE, FORGET_WORKERS_AFTER)
        if lease is None:
            return Recovered(0, PAGE_EVERY)
        timeouts = _hint_timeouts(lease.paces, lease.paces_now)
        found = lost_hints.Look(0, 0)
        if lease.has_come:
            found = lost_hints.look(connection, PAGE, timeouts)
        page = lost_hints.hint_again(connection, lease.reached, PAGE, timeouts)
        if page.reached is None and lease.has_old:
            _forget(connection)
        pause = _pause_after(found, page)
        saw_all = found.seen < PAGE
        scan_lease.end(connection, page.reached, pause, timeouts.paces, saw_all=saw_all)
    moved = found.hinted + page.hinted
    if lease.has_commands:
        moved += _apply_waiting_commands(database)
    return Recovered(moved, pause)


def _hint_timeouts(before: Paces, now: Paces) -> HintTimeouts:
    """How long a hint may take now; the pace of a queue falls no faster than `PACE_FADES`."""
    fading = {queue: pace * PACE_FADES for queue, pace in before.items() if pace >= 1}
    paces = {q: max(now.get(q, 0.0), fading.get(q, 0.0)) for q in {*now, *fading}}
    return HintTimeouts(FIRST_HINT_AFTER, HINT_AT_MOST_AFTER, paces)


def _pause_after(found: Look, page: Page) -> timedelta:
    is_full = found.seen >= PAGE and found.hinted
    if is_full or (page.reached is not None and page.hinted):
        return timedelta(0)
    return ROUND_EVERY if page.reached is None else PAGE_EVERY


def _forget(connection: Connection) -> None:
    workers.forget(connection, FORGET_WORKERS_AFTER, FORGET_WORKERS_BATCH)
    signals.forget_late(connection)
    pauses.forget_ended(connection)


def _apply_waiting_commands(database: Database) -> int:
    with database.autocommit() as connection:
        waiting = inbox.runs_with_commands(connection, BATCH)
    return sum(
        apply_unless_locked(database, run_id, lock_timeout=0.0, bounds=BRIEFLY)
        for run_id in waiting
    )


def apply_unless_locked(
    database: Database,
    run_id: UUID,
    lock_timeout: float = LOCK_TIMEOUT,
    bounds: Statement | None = None,
) -> bool:
    """`apply_commands`; return False if a token stays locked, then recovery tries again."""
    try:
        return apply_commands(database, run_id, lock_timeout, bounds)
    except Hindered as error:
        # Recovery tries again by itself, every few seconds.
        level = logging.WARNING if bounds is None else logging.DEBUG
        logger.log(level, "A command for run %s is not applied yet: %s", run_id, error)
        return False

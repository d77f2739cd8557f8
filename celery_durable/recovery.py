"""Freeing what dead workers had claimed, and sending lost hints again.

`reap` and `recover` look at levels, never at edges: they may run anywhere, any number at once, and
a second run finds nothing to do.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from uuid import UUID, uuid4

from celery_durable.store import inbox, signals, stalled, workers
from celery_durable.store.connection import Connection
from celery_durable.store.database import Database

logger = logging.getLogger(__name__)

BATCH = 500
"""Most rows one pass of one chore looks at."""

GRACE = 0.25
"""Seconds a lock must be free before its worker is dead: time to take a lost one again."""

FIRST_HINT_AFTER = timedelta(seconds=10)
"""A hint that has not been followed for so long is taken for lost; each time twice as long."""

HINT_AT_MOST_AFTER = timedelta(minutes=10)

FORGET_WORKERS_AFTER = timedelta(days=1)


class Reaper:
    """Declares workers dead and frees their tokens; remembers since when it saw a lock free."""

    def __init__(self) -> None:
        self._free_since: dict[UUID, float] = {}

    def reap(self, connection: Connection) -> int:
        """Free every token whose worker has ended, is dead or is absent; returns how many.

        Each is freed by one statement that skips a locked row: no reaper waits for another.
        """
        self._declare_dead(connection)
        freed = 0
        for orphan in workers.orphans(connection, BATCH):
            if workers.free(connection, orphan, uuid4()):
                freed += 1
                logger.info("Freed %s of run %s", orphan.unit, orphan.run_id)
        return freed

    def reap_after_grace(self, connection: Connection) -> int:
        """For a caller that will not come again: waits for the grace when a lock is found free."""
        freed = self.reap(connection)
        if self.has_suspects:
            time.sleep(GRACE)
            freed += self.reap(connection)
        return freed

    @property
    def has_suspects(self) -> bool:
        """Whether a lock was found free that may be taken again within the grace."""
        return bool(self._free_since)

    def _declare_dead(self, connection: Connection) -> None:
        now = time.monotonic()
        lifeless = workers.lifeless(connection)
        self._free_since = {
            one.id: self._free_since.get(one.id, now) for one in lifeless if not one.is_expired
        }
        doomed = [
            one.id for one in lifeless if one.is_expired or now - self._free_since[one.id] >= GRACE
        ]
        if not doomed:
            return
        for dead in workers.declare_dead(connection, doomed):
            logger.warning(
                "Worker %s (%s, pid %d) is gone%s; its units will run elsewhere",
                dead.id,
                dead.hostname,
                dead.pid,
                " while it was stopping" if dead.draining else "",
            )


def recover(database: Database, reaper: Reaper | None = None) -> int:
    """Reap, send lost hints again, and apply waiting commands; returns how many tokens moved."""
    with database.autocommit() as connection:
        moved = reaper.reap(connection) if reaper else Reaper().reap_after_grace(connection)
        moved += stalled.hint_again(connection, BATCH, FIRST_HINT_AFTER, HINT_AT_MOST_AFTER)
        workers.forget(connection, FORGET_WORKERS_AFTER)
        signals.forget_late(connection)
        waiting = inbox.runs_with_commands(connection, BATCH)
    for run_id in waiting:
        moved += apply_commands(database, run_id)
    return moved


def apply_commands(database: Database, run_id: UUID) -> bool:
    """Announce the run's commands, then apply them; False when there is none.

    Two transactions: what the run's tokens are is settled once the first has committed. Safe to
    call from anywhere: whoever removes a command from the inbox is the one who applies it.
    """
    with database.transaction() as connection:
        for command in inbox.cancels(connection, run_id):
            inbox.announce(connection, run_id, command)
    with database.transaction() as connection:
        commands = inbox.take_cancels(connection, run_id)
        for command in commands:
            inbox.apply_cancel(connection, run_id, command)
        if commands:
            inbox.put_hint(connection, run_id)
    return bool(commands)

"""Prunes in the background, by `durable_retention`: one relay at a time, and giving way.

Relays share a lease. The one that has it deletes runs in small transactions, and pauses after each
for several times as long as that took. Then all of them pause for a minute. While there is nothing
to delete, the relay whose turn it is executes half a dozen statements a minute, and the others one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import timedelta

from celery_durable.background.pruning import Pruner, ages_of
from celery_durable.core.retention import Retention
from celery_durable.database.connections import Database
from celery_durable.store import relays
from celery_durable.store.connection import Connection
from celery_durable.store.pruning import lease, strays

logger = logging.getLogger(__name__)

PRUNE_EVERY = 60.0
"""Seconds from the end of a pass to the next, and between tries to take the lease."""

LEASE = 60.0
"""Seconds after which another relay takes over a pass; kept again when half of them are over."""

PAUSE_SHARE, SHORTEST_PAUSE = 4.0, 0.05
"""The pause after a transaction: a multiple of what it took, and the least seconds."""

ANEW_EVERY = 3600.0
"""Seconds after which a pass looks again at runs that had to stay, or were locked."""

PAGE = 2000
"""Rows of the outbox that a pass looks at for hints that nobody needs."""


class RetentionDuty:
    """The duty of one relay; `go_on` is called again and again by a `Chore`."""

    def __init__(self, database: Database, retention: Retention) -> None:
        self._database = database
        self._ages = ages_of(retention)
        self._pruner = Pruner(database, self._ages)
        self._anew_at = time.monotonic() + ANEW_EVERY
        self._pass: Iterator[int] | None = None
        self._keep_at = 0.0
        self._swept = 0
        self._pruned = 0

    def go_on(self) -> tuple[int, float]:
        """Delete a little, if the lease is ours; return 0, and the seconds until the next time."""
        if not self._has_lease():
            self._pass = None
            return 0, PRUNE_EVERY
        began = time.monotonic()
        batches, self._pass = self._pass or self._new_pass(), None
        pruned = next(batches, None)
        if pruned is None:
            self._end()
            return 0, PRUNE_EVERY
        self._pass = batches  # not where it was interrupted by an error
        self._pruned += pruned
        return 0, max(PAUSE_SHARE * (time.monotonic() - began), SHORTEST_PAUSE)

    def _has_lease(self) -> bool:
        """Take the lease, or keep it; False if another relay has it."""
        now, ttl = time.monotonic(), timedelta(seconds=LEASE)
        if self._pass is not None and now < self._keep_at:
            return True
        is_late = now >= self._keep_at + LEASE / 2
        with self._database.autocommit() as connection:
            if self._pass is not None and not is_late:
                lease.keep(connection, ttl)
            elif not lease.take(connection, ttl, max(ttl, timedelta(seconds=PRUNE_EVERY))):
                return False
        self._keep_at = now + LEASE / 2
        return True

    def _new_pass(self) -> Iterator[int]:
        if time.monotonic() >= self._anew_at:
            self._pruner = Pruner(self._database, self._ages)
            self._anew_at = time.monotonic() + ANEW_EVERY
        self._pruned = 0
        return self._pruner.go_on()

    def _end(self) -> None:
        """Tidy up after a pass, and leave the next one to whoever comes first."""
        if self._pruned:
            logger.info("Pruned %d runs that ended long ago", self._pruned)
        with self._database.autocommit() as connection:
            self._tidy(connection)
            lease.keep(connection, timedelta(seconds=PRUNE_EVERY))

    def _tidy(self, connection: Connection) -> None:
        relays.forget(connection)
        self._swept = strays.sweep(connection, self._swept, PAGE) or 0

"""Writes down what a process has counted, every few seconds and at its end.

A count is written at most once: a process that is killed takes with it what it has counted since
the last time, and where the answer to the commit is lost the counts are taken for written. So a
counter may miss what a crash took, and never shows what has not happened.
"""

from __future__ import annotations

from contextlib import suppress

from celery_durable.core import metrics
from celery_durable.database.connections import BRIEFLY, Database
from celery_durable.errors import DatabaseUnavailable
from celery_durable.store import counts
from celery_durable.store.reaping import Claimed
from celery_durable.store.sqlstates import Hindered

WRITES_EVERY = 5.0
"""Seconds after which a relay writes its counts; a worker does as often as it renews."""


def count_takeover(database: Database, claimed: Claimed) -> None:
    """Count a claim that was reaped."""
    cause = "timeout" if claimed.timed_out else "crash" if claimed.counts else "shutdown"
    database.tally.add(metrics.TAKEOVERS.name, cause)


def write_counts(database: Database) -> None:
    """Write what this process has counted; what surely is not written stays counted.

    Waits for no lock. Raises `DatabaseUnavailable`.
    """
    counted = database.tally.take()
    if not counted:
        return
    is_written = False
    try:
        with suppress(Hindered), database.transaction(BRIEFLY) as connection:
            counts.add(connection, counted)
            is_written = True  # from here on the COMMIT may be done, though its answer is lost
    finally:
        if not is_written:
            database.tally.put_back(counted)


def write_last_counts(database: Database) -> None:
    """The same for who comes once: without Postgres the counts are lost with their process."""
    with suppress(DatabaseUnavailable):
        write_counts(database)

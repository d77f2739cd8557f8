"""The lease of a test: a worker's row without a lock, and without the threads that renew it."""

from __future__ import annotations

import os
import socket
from uuid import UUID, uuid4

import sqlalchemy as sa

from celery_durable.background.liveness import Liveness, Surroundings
from celery_durable.core.compatibility import KNOWS_ALL
from celery_durable.database.connections import Database
from celery_durable.errors import ConfigurationError
from celery_durable.store import sql, workers
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.workers import WorkerFacts

POOL = "test"
"""The pool that the row names: no Celery worker has it."""

LASTS = 300.0
"""Seconds for which nobody takes the test for dead; only a relay would, and there is none."""


class ThreadlessLease(Liveness):
    """Registers a row at the first claim; nothing renews it, and nothing audits its claims."""

    def __init__(self, database: Database) -> None:
        here = Surroundings(socket.gethostname(), POOL, (), uuid4())
        super().__init__(database, LASTS, lambda: here)
        self._here = here
        self._id: UUID | None = None

    def worker_id(self) -> UUID:
        """The id to claim with; registers where there is none."""
        if self._id is None or self._pid != os.getpid():
            self._id, self._pid = uuid4(), os.getpid()
            facts = WorkerFacts(
                self._id,
                self._here.node_id,
                self._here.hostname,
                self._pid,
                POOL,
                queues=(),
                lock_number=None,
                knows={KNOWS_ALL: []},
            )
            with self._database.autocommit() as connection:
                workers.register(connection, facts, LASTS)
        return self._id

    def renounce(self, worker_id: UUID) -> None:
        """Take a new id at the next claim."""
        if self._id == worker_id:
            self._id = None

    def die(self) -> None:
        """End as by SIGKILL: claims stay, and whoever reaps them counts a crash."""
        if self._id is not None:
            with self._database.autocommit() as connection:
                connection.rows(_DIE, {"worker": self._id})
            self._id = None

    def leave(self) -> None:
        """End in good order."""
        if self._id is not None and self._pid == os.getpid():
            with self._database.autocommit() as connection:
                workers.end(connection, self._id)
        self._id = None


_DIE = Statement(
    sa.update(t.worker).where(t.worker.c.id == sql.uuid("worker")).values(ended_at=sql.clock)
)

_COMPANY = Statement(
    sa.select(t.worker.c.hostname, t.worker.c.pid)
    .where(
        t.worker.c.ended_at.is_(None),
        t.worker.c.expires_at > sql.clock,
        t.worker.c.pool != sql.text("pool"),
    )
    .limit(sa.literal_column("1"))
)


def refuse_company(connection: Connection) -> None:
    """Raise `ConfigurationError` if a worker is alive on this database."""
    for row in connection.rows(_COMPANY, {"pool": POOL}):
        raise ConfigurationError(
            f"A worker is alive on this database ({row['hostname']}, pid {row['pid']}): it would"
            " take runs from the test, and the test would move its timers. Stop it, or give the"
            " tests a database of their own."
        )

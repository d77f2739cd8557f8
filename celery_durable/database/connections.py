"""The process's own connections, and the bounds of a transaction.

Pools are made at the first use, never at import, and are never shared across a fork: a forked child
forgets its parent's pools without closing them. While Postgres is away, callers get
`DatabaseUnavailable`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import PoolProxiedConnection

from celery_durable.database.address import DRIVER, parameters_of
from celery_durable.database.opening import (
    CONFIGURE_OURS,
    CONFIGURE_WITH_HANDLERS,
    open_connection,
)
from celery_durable.errors import DatabaseUnavailable
from celery_durable.process import interrupts
from celery_durable.process.outage import Shared
from celery_durable.process.sockets import readable
from celery_durable.store import sql
from celery_durable.store.connection import OwnTransaction, PsycopgConnection, Statement
from celery_durable.store.sqlstates import Hindered, raise_if_transient, raise_known

logger = logging.getLogger(__name__)

KEPT_CONNECTIONS = 32
"""Most idle connections of one process; each thread that is in a statement uses one."""


def bounded(limit: str, *, lock: str | None = None) -> Statement:
    """Return a statement that limits its transaction: how long it may idle, and wait for a lock."""
    bounds = {
        "idle_in_transaction_session_timeout": limit,
        "lock_timeout": lock or limit,
        "statement_timeout": "0",  # lifts the role's, on a connection that a handler has used
    }
    return Statement(
        sa.select(
            *(
                sa.func.set_config(sql.word(name), sql.word(value), sa.true())
                for name, value in bounds.items()
            )
        )
    )


BOUNDED = bounded("10s")
"""For ordinary transactions. A process may freeze while it has a token locked, and others wait for
that lock: a caller that cancels the run, and the relay that applies the cancel.
"""

SNAPSHOT = Statement(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))

BRIEFLY = bounded("10s", lock="100ms")
"""For background work, which comes again by itself and must not be held up by a lock."""


class Database:
    """The connections of one process."""

    def __init__(self, url: str, *, direct_url: str | None = None, schema: str = "public") -> None:
        self.schema = schema
        self._address = parameters_of("durable_database_url", url)
        self._direct_address = self._address
        if direct_url:
            self._direct_address = parameters_of("durable_direct_database_url", direct_url)
        self._engine: sa.Engine | None = None
        self._handlers_engine: sa.Engine | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self.outage = new_outage()

    @property
    def engine(self) -> sa.Engine:
        """The SQLAlchemy engine of this process; its connections commit every statement."""
        if self._engine is None or self._pid != os.getpid():
            with self._lock:
                self._forget_parent()
                if self._engine is None:
                    self._handlers_engine = self._new_engine(CONFIGURE_WITH_HANDLERS)
                    self._engine = self._new_engine(CONFIGURE_OURS)
        return self._engine

    def _engine_of_handlers(self) -> sa.Engine:
        """Return the engine of handlers' sessions: its connections have the role's own timeouts."""
        assert self.engine is not None
        assert self._handlers_engine is not None
        return self._handlers_engine

    def _forget_parent(self) -> None:
        if self._pid != os.getpid():
            for engine in (self._engine, self._handlers_engine):
                if engine is not None:
                    # The parent still uses the sockets: forget them, do not close them.
                    engine.dispose(close=False)
            self._engine, self._handlers_engine, self._pid = None, None, os.getpid()
            self.outage = new_outage()

    def _new_engine(self, configure: Statement) -> sa.Engine:
        engine = sa.create_engine(
            DRIVER,
            creator=partial(open_connection, self._address, configure, self.schema),
            isolation_level="AUTOCOMMIT",
            pool_size=KEPT_CONNECTIONS,
            max_overflow=-1,
        )
        event.listen(engine, "checkout", _refuse_dead_connection)
        return engine

    @contextmanager
    def autocommit(self) -> Iterator[PsycopgConnection]:
        """Lend a connection on which every statement is its own transaction.

        A time limit that strikes meanwhile interrupts the handler when the connection is returned.
        """
        with interrupts.held_off():
            pooled = self._check_out()
            try:
                yield PsycopgConnection(
                    cast("psycopg.Connection[Any]", pooled.driver_connection), self.schema
                )
            except Hindered:
                raise
            except DatabaseUnavailable:
                pooled.invalidate()
                raise
            finally:
                pooled.close()

    @contextmanager
    def transaction(self, bounds: Statement | None = None) -> Iterator[PsycopgConnection]:
        """Lend a connection in a transaction, which commits unless the block raises.

        `bounds` limits how long it waits for a lock, and how long it holds one while the process is
        frozen; by default `BOUNDED`.
        """
        with self._in_transaction() as connection:
            connection.rows(bounds or BOUNDED)
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[PsycopgConnection]:
        """Lend a connection in a read-only transaction in which all statements see one snapshot."""
        with self._in_transaction() as connection:
            connection.rows(SNAPSHOT)
            yield connection

    @contextmanager
    def _in_transaction(self) -> Iterator[PsycopgConnection]:
        with self.autocommit() as connection:
            try:
                with connection.raw.transaction():
                    yield connection
            except psycopg.Error as error:
                raise_known(error, self.schema)
                raise_if_transient(error)
                raise

    @contextmanager
    def session(self) -> Iterator[tuple[Session, OwnTransaction]]:
        """Lend a session in a transaction, and the transaction: only the latter can commit it.

        Without that it is rolled back. A handler that commits or rolls back the session ends only a
        savepoint. If it has ended the transaction past the session, or closed the connection,
        closing fails here, which is logged and does no harm.
        """
        is_block_done = False
        try:
            with self._engine_of_handlers().connect() as connection:
                connection.execution_options(isolation_level="READ COMMITTED")
                own = OwnTransaction(connection, self.schema)
                with Session(bind=connection, join_transaction_mode="create_savepoint") as session:
                    try:
                        yield session, own
                        is_block_done = True
                    finally:
                        own.abandon_if_interrupted()
        except (SQLAlchemyError, psycopg.Error) as error:
            if is_block_done:
                logger.info("The session of a transactional step could not be closed: %s", error)
                return
            if isinstance(error, DBAPIError):
                raise_known(error.orig, self.schema)
            raise

    def dedicated(self) -> psycopg.Connection[Any]:
        """Return a new connection past any pooler, for what belongs to a session: locks, LISTEN."""
        return open_connection(self._direct_address, CONFIGURE_OURS, self.schema)

    def _check_out(self) -> PoolProxiedConnection:
        try:
            return self.engine.raw_connection()
        except (psycopg.Error, DBAPIError) as error:
            cause = getattr(error, "orig", error)
            raise_known(cause, self.schema)
            raise_if_transient(cause)
            raise

    def close(self) -> None:
        """Close the idle connections of this process, and no parent's."""
        for engine in (self._engine, self._handlers_engine):
            if engine is not None and self._pid == os.getpid():
                engine.dispose()


def new_outage() -> Shared:
    """Return the log of outages; a forked child needs its own, as its lock may be held."""
    return Shared(logger, "Postgres")


def _refuse_dead_connection(raw: Any, _record: object, _proxy: object) -> None:
    """Called when the pool lends a connection: make it replace one whose server went away.

    That costs no round trip: nothing arrives on an idle connection but a notice, or its end.
    """
    if readable([raw.fileno()], 0):
        try:
            raw.execute("")
        except psycopg.Error as error:
            raise DisconnectionError from error

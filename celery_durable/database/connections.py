"""The process's own connections.

Made when they are first needed, never at import, and never shared across a fork: a forked child
forgets its parent's pool without closing it. `DatabaseUnavailable` is what callers get when
Postgres is away.
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
from celery_durable.database.opening import SETTLE_HANDLERS, SETTLE_OURS, opened
from celery_durable.errors import DatabaseUnavailable
from celery_durable.process import interrupts
from celery_durable.process.outage import Shared
from celery_durable.process.sockets import readable
from celery_durable.store import sql
from celery_durable.store.connection import OwnTransaction, PsycopgConnection, Statement
from celery_durable.store.sqlstates import Hindered, raise_if_transient, raise_known

logger = logging.getLogger(__name__)

KEPT_CONNECTIONS = 32
"""Most idle connections kept by one process; it uses one per thread that is in a statement."""


def bounded(limit: str, *, lock: str | None = None) -> Statement:
    """What bounds the transaction it is sent in: how long it idles, and waits for a lock."""
    bounds = {
        "idle_in_transaction_session_timeout": limit,
        "lock_timeout": lock or limit,
        "statement_timeout": "0",  # a role's, where a handler has worked before us
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
"""A process may stop while it has a token locked, and others wait for it: whoever cancels the run,
and the relay that applies the cancel.
"""

SNAPSHOT = Statement(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))

BRIEFLY = bounded("10s", lock="100ms")
"""The same for what comes again by itself, and must not be held up."""


class Database:
    """One process's way to Postgres."""

    def __init__(self, url: str, *, direct_url: str | None = None, schema: str = "public") -> None:
        self.schema = schema
        self._address = parameters_of("durable_database_url", url)
        self._direct_address = self._address
        if direct_url:
            self._direct_address = parameters_of("durable_direct_database_url", direct_url)
        self._engine: sa.Engine | None = None
        self._handlers: sa.Engine | None = None
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
                    self._handlers = self._new_engine(SETTLE_HANDLERS)
                    self._engine = self._new_engine(SETTLE_OURS)
        return self._engine

    def _engine_of_handlers(self) -> sa.Engine:
        """The engine whose connections have the role's own timeouts: a handler's session."""
        assert self.engine is not None
        assert self._handlers is not None
        return self._handlers

    def _forget_parent(self) -> None:
        if self._pid != os.getpid():
            for engine in (self._engine, self._handlers):
                if engine is not None:
                    # The sockets are the parent's: they must not be closed here, only forgotten.
                    engine.dispose(close=False)
            self._engine, self._handlers, self._pid = None, None, os.getpid()
            self.outage = new_outage()

    def _new_engine(self, settle: Statement) -> sa.Engine:
        engine = sa.create_engine(
            DRIVER,
            creator=partial(opened, self._address, settle, self.schema),
            isolation_level="AUTOCOMMIT",
            pool_size=KEPT_CONNECTIONS,
            max_overflow=-1,
        )
        event.listen(engine, "checkout", _refuse_a_dead_connection)
        return engine

    @contextmanager
    def autocommit(self) -> Iterator[PsycopgConnection]:
        """A connection on which every statement is its own transaction.

        A handler whose time is up meanwhile is interrupted when the connection is given back.
        """
        with interrupts.held_off():
            pooled = self._checked_out()
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
        """A connection in a transaction that commits when the block ends well.

        It waits for no lock, and holds none in a frozen process, for longer than `bounds` say;
        `BOUNDED`, if nothing else.
        """
        with self._in_transaction() as connection:
            connection.rows(bounds or BOUNDED)
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[PsycopgConnection]:
        """A connection that only reads, and sees at each statement what it saw at the first."""
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
        """A session in a transaction; it is rolled back unless the block commits it by the second
        value.

        A handler that commits or rolls back the session itself ends a savepoint: the transaction is
        not the handler's. One that has ended it past the session, or closed its connection, has
        left nothing to be closed well.
        """
        is_over = False
        try:
            with self._engine_of_handlers().connect() as connection:
                connection.execution_options(isolation_level="READ COMMITTED")
                own = OwnTransaction(connection, self.schema)
                with Session(bind=connection, join_transaction_mode="create_savepoint") as session:
                    try:
                        yield session, own
                        is_over = True
                    finally:
                        own.abandon_if_interrupted()
        except (SQLAlchemyError, psycopg.Error) as error:
            if is_over:
                logger.info("A step's session could not be closed well: %s", error)
                return
            if isinstance(error, DBAPIError):
                raise_known(error.orig, self.schema)
            raise

    def dedicated(self) -> psycopg.Connection[Any]:
        """A new connection past any pooler, for what belongs to a session: locks and LISTEN."""
        return opened(self._direct_address, SETTLE_OURS, self.schema)

    def _checked_out(self) -> PoolProxiedConnection:
        try:
            return self.engine.raw_connection()
        except (psycopg.Error, DBAPIError) as error:
            cause = getattr(error, "orig", error)
            raise_known(cause, self.schema)
            raise_if_transient(cause)
            raise

    def close(self) -> None:
        """Close the idle connections of this process."""
        for engine in (self._engine, self._handlers):
            if engine is not None and self._pid == os.getpid():
                engine.dispose()


def new_outage() -> Shared:
    """What this process says of Postgres. A child's own: a lock may be held while it is forked."""
    return Shared(logger, "Postgres")


def _refuse_a_dead_connection(raw: Any, _record: object, _proxy: object) -> None:
    """Pool hook: a connection whose server went away is replaced, without a round trip to find out.

    Nothing arrives on an idle connection but a notice, or its end.
    """
    if readable([raw.fileno()], 0):
        try:
            raw.execute("")
        except psycopg.Error as error:
            raise DisconnectionError from error

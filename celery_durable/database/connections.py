"""The process's own connections, and the bounds of a transaction.

Pools are made at the first use, never at import, and are never shared across a fork: a forked child
forgets its parent's pools without closing them. While Postgres is away, callers get
`DatabaseUnavailable`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from celery_durable.database.address import DRIVER, Parameters, parameters_of
from celery_durable.database.opening import (
    CONFIGURE_OURS,
    CONFIGURE_WITH_HANDLERS,
    connect,
    open_connection,
)
from celery_durable.database.pool import KEPT_CONNECTIONS, Pool, is_alive
from celery_durable.errors import DatabaseUnavailable
from celery_durable.process import interrupts
from celery_durable.process.once import once
from celery_durable.process.outage import Shared
from celery_durable.process.tally import Tally
from celery_durable.store import sql
from celery_durable.store.connection import (
    NoSession,
    OwnTransaction,
    PsycopgConnection,
    Statement,
    UnitTransaction,
)
from celery_durable.store.sqlstates import Hindered, raise_if_transient, raise_known

logger = logging.getLogger(__name__)


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


Address = Callable[[], Parameters]
"""A function that returns parameters of libpq; it is asked for each new connection."""


class Database:
    """The connections of one process, and what it has counted (`background.counting`)."""

    def __init__(
        self,
        address: str | Address,
        *,
        direct_address: str | Address | None = None,
        schema: str = "public",
    ) -> None:
        self.schema = schema
        self._address = _address("durable_database_url", address)
        self._direct_address = self._address
        if direct_address:
            self._direct_address = _address("durable_direct_database_url", direct_address)
        self._pool = Pool(self._open)
        self._parents_pools: list[Pool] = []
        self._handlers_engine: sa.Engine | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self.outage = new_outage()
        self.tally = Tally()

    def _open(self) -> psycopg.Connection[Any]:
        return open_connection(self._address(), CONFIGURE_OURS, self.schema)

    @once
    def engine(self) -> sa.Engine:
        """The SQLAlchemy engine for what is done once: migrations and checks. It keeps nothing."""
        return sa.create_engine(
            DRIVER, creator=self._open, isolation_level="AUTOCOMMIT", poolclass=NullPool
        )

    def _engine_of_handlers(self) -> sa.Engine:
        """Return the engine of handlers' sessions: its connections have the role's own timeouts."""
        with self._lock:
            self._forget_parent()
            if self._handlers_engine is None:
                self._handlers_engine = sa.create_engine(
                    DRIVER,
                    creator=self._open_for_handlers,
                    isolation_level="AUTOCOMMIT",
                    pool_size=KEPT_CONNECTIONS,
                    max_overflow=-1,
                )
                event.listen(self._handlers_engine, "checkout", _refuse_dead_connection)
            return self._handlers_engine

    def _open_for_handlers(self) -> psycopg.Connection[Any]:
        return open_connection(self._address(), CONFIGURE_WITH_HANDLERS, self.schema)

    def _forget_parent(self) -> None:
        """In a forked child, begin anew. The parent still uses the sockets: they are not closed."""
        if self._pid != os.getpid():
            if self._handlers_engine is not None:
                self._handlers_engine.dispose(close=False)
            # Referenced for ever: a connection that is collected warns that nobody closed it.
            self._parents_pools.append(self._pool)
            self._pool, self._handlers_engine = Pool(self._open), None
            self.outage, self.tally = new_outage(), Tally()
            self._pid = os.getpid()

    @contextmanager
    def autocommit(self) -> Iterator[PsycopgConnection]:
        """Lend a connection on which every statement is its own transaction.

        A time limit that strikes meanwhile interrupts the handler when the connection is returned.
        """
        with interrupts.held_off():
            pool = self._pool_of_process()
            raw = self._take(pool)
            try:
                yield PsycopgConnection(raw, self.schema)
            except Hindered:
                raise
            except DatabaseUnavailable:
                raw.close()
                raise
            finally:
                pool.put(raw)  # in a child that was forked in here, still its parent's

    def post(self, text: bytes, parameters: Sequence[bytes]) -> None:
        """Send a statement, its own transaction, whose answer nobody waits for; it may be lost."""
        with interrupts.held_off():
            pool = self._pool_of_process()
            raw = self._take(pool)
            try:
                pool.post(raw, text, parameters)
            except psycopg.Error:
                raw.close()
                raise

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
    def read_only(self) -> Iterator[PsycopgConnection]:
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
    def session(self) -> Iterator[tuple[Session | NoSession, UnitTransaction]]:
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
                    own.session = session
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

    def refusal(self, function: object) -> str | None:  # noqa: ARG002 - of any function none is refused here
        """Return why a handler cannot be executed in a transaction; None if it can."""
        return None

    def bare(self) -> psycopg.Connection[Any]:
        """Return a new connection to whatever is there, on which no setting is set."""
        return connect(self._address())

    def dedicated(self) -> psycopg.Connection[Any]:
        """Return a new connection past any pooler, for what belongs to a session: locks, LISTEN."""
        return open_connection(self._direct_address(), CONFIGURE_OURS, self.schema)

    def _pool_of_process(self) -> Pool:
        if self._pid != os.getpid():
            with self._lock:
                self._forget_parent()
        return self._pool

    def _take(self, pool: Pool) -> psycopg.Connection[Any]:
        try:
            return pool.take()
        except psycopg.Error as error:
            raise_known(error, self.schema)
            raise_if_transient(error)
            raise

    def close(self) -> None:
        """Close the idle connections of this process, and no parent's."""
        if self._pid != os.getpid():
            return
        self._pool.close()
        if self._handlers_engine is not None:
            self._handlers_engine.dispose()


def _address(setting: str, address: str | Address) -> Address:
    """Read a URL once, so that one that cannot be read is refused here."""
    if callable(address):
        return address
    parameters = parameters_of(setting, address)
    return lambda: parameters


def new_outage() -> Shared:
    """Return the log of outages; a forked child needs its own, as its lock may be held."""
    return Shared(logger, "Postgres")


def _refuse_dead_connection(raw: Any, _record: object, _proxy: object) -> None:
    """Called when SQLAlchemy lends a connection: make it replace one whose server went away."""
    if not is_alive(raw):
        raise DisconnectionError

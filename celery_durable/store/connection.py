"""Executes statements through a psycopg or an SQLAlchemy connection.

A statement is written once in SQLAlchemy Core. A psycopg connection, the library's own or a
caller's, executes it as text that was compiled once. A caller's SQLAlchemy connection, of any
driver, executes the clause itself.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Protocol, cast

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.json import JsonbLoader
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, scoped_session

from celery_durable.errors import ConfigurationError
from celery_durable.store.sqlstates import (
    TOOK_TOO_LONG,
    raise_if_transient,
    raise_if_unstorable,
    raise_known,
)

logger = logging.getLogger(__name__)

SCHEMA = "durable"
"""The schema that the tables are declared with; each execution translates it to the real one."""

Row = Mapping[str, Any]
Parameters = Mapping[str, Any]
_NOTHING: Parameters = MappingProxyType({})

_dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]


CANCEL_WITHIN = 2.0
"""Seconds that Postgres has to take the order to end a statement."""

PREFIX = "p_"


def parameter(name: str, *, type_: sa.types.TypeEngine[Any]) -> sa.BindParameter[Any]:
    """A parameter of a statement.

    Its name in SQLAlchemy has a prefix: a parameter that is named like a column would be added to
    the SET of every UPDATE in the statement.
    """
    return sa.bindparam(PREFIX + name, type_=type_)


_PLACEHOLDER = re.compile(r"%\(([^)]+)\)s|%%")


class Statement:
    """One SQL statement of the store."""

    __slots__ = ("__weakref__", "clause")

    def __init__(self, clause: sa.Executable) -> None:
        self.clause = clause

    @lru_cache(maxsize=1024)  # noqa: B019 - statements are constants of modules, which live for ever
    def compiled(self, schema: str) -> tuple[bytes, Parameters]:
        """SQL for psycopg with `%(name)s` parameters, and values for those that SQLAlchemy made."""
        compiled = cast("sa.ClauseElement", self.clause).compile(
            dialect=_dialect,
            schema_translate_map={SCHEMA: schema},
            render_schema_translate=True,
        )
        literals = {k: v for k, v in (compiled.params or {}).items() if v is not None}
        return str(compiled).replace(f"%({PREFIX}", "%(").encode(), literals

    @lru_cache(maxsize=1024)  # noqa: B019
    def numbered(self, schema: str) -> tuple[bytes, tuple[str, ...], Parameters]:
        """SQL with `$n` parameters, their names in order, and values for those SQLAlchemy made.

        It is what Postgres gets: psycopg would parse a long text with names at each execution
        (`MAX_CACHED_STATEMENT_LENGTH` in psycopg/_queries.py).
        """
        text, literals = self.compiled(schema)
        names: dict[str, int] = {}

        def number(found: re.Match[str]) -> str:
            name = found[1]
            return "%" if name is None else f"${names.setdefault(name, len(names) + 1)}"

        numbered = _PLACEHOLDER.sub(number, text.decode())
        return numbered.encode(), tuple(names), literals


class Connection(Protocol):
    """What a function of the store needs of a connection."""

    schema: str

    def rows(self, statement: Statement, parameters: Parameters = ...) -> Sequence[Row]:
        """Execute and fetch all rows; a statement that returns none gives an empty sequence."""
        ...


def one(connection: Connection, statement: Statement, parameters: Parameters) -> Row | None:
    """The first row, or None."""
    rows = connection.rows(statement, parameters)
    return rows[0] if rows else None


class PsycopgConnection:
    """A psycopg connection of the library's own."""

    __slots__ = ("raw", "schema")
    is_own = True

    def __init__(self, raw: psycopg.Connection[Any], schema: str) -> None:
        self.raw = raw
        self.schema = schema

    def rows(self, statement: Statement, parameters: Parameters = _NOTHING) -> Sequence[Row]:
        """Execute the compiled text. Raises the errors of Postgres as this library's."""
        try:
            with self._cursor() as cursor:
                text, names, literals = statement.numbered(self.schema)
                values = {**literals, **parameters} if literals else parameters
                cursor.execute(text, [values[name] for name in names])
                result = cursor.pgresult  # `cursor.description` would make an object per column
                return cursor.fetchall() if result is not None and result.nfields else []
        except psycopg.Error as error:
            raise_known(error, self.schema)
            if self.is_own:
                raise_if_transient(error)
                raise_if_unstorable(error)
            raise

    def _cursor(self) -> psycopg.RawCursor[Row]:
        # Not `raw.cursor()`: a caller's connection may have a cursor factory of its own.
        return psycopg.RawCursor(self.raw, row_factory=dict_row)


class JoinedConnection(PsycopgConnection):
    """A caller's psycopg connection: conflicts go to the caller, whose transaction they end."""

    __slots__ = ()
    is_own = False

    def _cursor(self) -> psycopg.RawCursor[Row]:
        """Return a cursor that reads values as ours do: Django's cut off the time zone, say."""
        cursor = super()._cursor()
        cursor.adapters.register_loader("timestamptz", TimestamptzLoader)
        cursor.adapters.register_loader("jsonb", JsonbLoader)
        return cursor


class SqlAlchemyConnection:
    """A caller's SQLAlchemy connection, of any driver."""

    __slots__ = ("connection", "schema")

    def __init__(self, connection: sa.Connection, schema: str) -> None:
        self.connection = connection
        self.schema = schema

    def rows(self, statement: Statement, parameters: Parameters = _NOTHING) -> Sequence[Row]:
        """Execute the clause. Raises known errors of Postgres as this library's."""
        try:
            result = self.connection.execute(
                statement.clause,
                {PREFIX + name: value for name, value in parameters.items()},
                execution_options={"schema_translate_map": {SCHEMA: self.schema}},
            )
            return [dict(row) for row in result.mappings()] if result.returns_rows else []
        except DBAPIError as error:
            raise_known(error.orig, self.schema)
            raise


@dataclass(frozen=True, slots=True)
class NoSession:
    """In place of a handler's session, where its transaction is a framework's own."""

    why: str


class UnitTransaction(Connection, Protocol):
    """The transaction in which a transactional step is executed and its unit is committed.

    Only `commit` commits it. Without that it is rolled back.
    """

    def end_handler(self) -> None:
        """Called when the handler has returned: raise if its SQL cannot be committed."""
        ...

    def was_cut(self, error: BaseException) -> bool:
        """Return True if the connection was lost, and with it the transaction.

        False if Postgres ended a transaction that took too long: its handler caused that, and would
        cause it again.
        """
        ...

    @property
    def is_interrupted(self) -> bool:
        """True if a statement was interrupted: the connection can send no other."""
        ...

    def commit(self) -> None:
        """Commit. Raises known errors of Postgres as this library's."""
        ...


class OwnTransaction(SqlAlchemyConnection):
    """An SQLAlchemy connection in a transaction of its own, and the session of the handler."""

    __slots__ = ("_transaction", "session")

    def __init__(self, connection: sa.Connection, schema: str) -> None:
        super().__init__(connection, schema)
        self._transaction = connection.begin()
        self.session: Session | None = None

    def end_handler(self) -> None:
        """End the savepoint that the handler's session worked in."""
        assert self.session is not None
        self.session.commit()

    def was_cut(self, error: BaseException) -> bool:
        """Return True if the connection was lost, unless the transaction took too long."""
        cause = error.orig if isinstance(error, DBAPIError) else error.__cause__ or error
        took_too_long = getattr(cause, "sqlstate", None) in TOOK_TOO_LONG
        return self.connection.invalidated and not took_too_long

    @property
    def is_interrupted(self) -> bool:
        """True if a statement was interrupted: the connection can send no other."""
        if self.connection.closed or self.connection.invalidated:
            return False
        raw = cast("psycopg.Connection[Any]", self.connection.connection.driver_connection)
        return is_in_statement(raw)

    def abandon_if_interrupted(self) -> None:
        """Cancel a statement that was interrupted, and close the connection.

        Without this the statement would go on, and its locks would block the next attempt.
        """
        if not self.is_interrupted:
            return
        cancel(cast("psycopg.Connection[Any]", self.connection.connection.driver_connection))
        self.connection.invalidate()

    def commit(self) -> None:
        """Commit. Raises known errors of Postgres as this library's."""
        try:
            self._transaction.commit()
        except DBAPIError as error:
            raise_known(error.orig, self.schema)
            raise


def is_in_statement(raw: psycopg.Connection[Any]) -> bool:
    """Return True if a statement was sent, and its answer was not read to the end."""
    return raw.info.transaction_status is TransactionStatus.ACTIVE


def cancel(raw: psycopg.Connection[Any]) -> None:
    """Cancel a statement that was interrupted; the connection is to be closed after it."""
    try:
        raw.cancel_safe(timeout=CANCEL_WITHIN)
    except psycopg.Error as error:
        logger.info("An interrupted statement could not be cancelled: %s", error)


def connection_of(session: object, schema: str) -> SqlAlchemyConnection | JoinedConnection:
    """A `Connection` in the transaction of `session`.

    `session` is an SQLAlchemy Session, scoped_session or Connection, or a psycopg connection.
    Nothing is committed here: what is written is committed or rolled back with the caller's
    transaction.
    """
    if isinstance(session, scoped_session):
        session = session()
    if isinstance(session, Session):
        session = session.connection()
    if isinstance(session, sa.Connection):
        if session.dialect.name != "postgresql":
            raise ConfigurationError(
                f"session= is connected to {session.dialect.name}, and the tables of durable runs"
                " are in Postgres. Pass a session of that database, or none: the call has a"
                " transaction of its own then."
            )
        if getattr(session.connection.dbapi_connection, "autocommit", False):
            raise ConfigurationError(
                "session= is an SQLAlchemy connection with isolation_level='AUTOCOMMIT': there is"
                " no transaction to join; take another isolation level."
            )
        return SqlAlchemyConnection(session, schema)
    if isinstance(session, psycopg.Connection):
        if session.autocommit and session.info.transaction_status == TransactionStatus.IDLE:
            raise ConfigurationError(
                "session= is a psycopg connection in autocommit mode and in no transaction; wrap"
                " the call in `with connection.transaction():`."
            )
        return JoinedConnection(session, schema)
    raise ConfigurationError(
        "session= takes an SQLAlchemy Session, scoped_session or Connection, or a psycopg"
        f" connection, not {type(session).__name__}. An AsyncSession goes to the a-prefixed"
        " twin (astart, ...)."
    )

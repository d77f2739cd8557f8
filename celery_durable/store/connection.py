"""Statements that run through whatever connection they are handed.

A statement is written once in SQLAlchemy Core. The engine's own psycopg connections execute it as
text that was compiled once; a caller's SQLAlchemy connection, of whatever driver, executes it as it
is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Protocol, cast

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, scoped_session

from celery_durable.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    PayloadError,
    SchemaOutOfDate,
)

logger = logging.getLogger(__name__)

SCHEMA = "durable"
"""The schema name the tables are declared with; every execution translates it to the real one."""

Row = Mapping[str, Any]
Parameters = Mapping[str, Any]
_NOTHING: Parameters = MappingProxyType({})

_dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]


CANCEL_WITHIN = 2.0
"""Seconds that Postgres has for the order to end a statement."""

PREFIX = "p_"


def parameter(name: str, *, type_: sa.types.TypeEngine[Any]) -> sa.BindParameter[Any]:
    """A parameter of a statement.

    Its name in SQLAlchemy has a prefix: a parameter called like a column would be added to the SET
    of every UPDATE in the statement.
    """
    return sa.bindparam(PREFIX + name, type_=type_)


class Statement:
    """One SQL statement of the store."""

    __slots__ = ("__weakref__", "clause")

    def __init__(self, clause: sa.Executable) -> None:
        self.clause = clause

    @lru_cache(maxsize=1024)  # noqa: B019 - statements are module constants, they live for ever
    def compiled(self, schema: str) -> tuple[bytes, Parameters]:
        """SQL for psycopg with `%(name)s` parameters, and the values of the literals in it."""
        compiled = cast("sa.ClauseElement", self.clause).compile(
            dialect=_dialect,
            schema_translate_map={SCHEMA: schema},
            render_schema_translate=True,
        )
        literals = {k: v for k, v in (compiled.params or {}).items() if v is not None}
        return str(compiled).replace(f"%({PREFIX}", "%(").encode(), literals


class Connection(Protocol):
    """What a store function needs of a connection."""

    schema: str

    def rows(self, statement: Statement, parameters: Parameters = ...) -> Sequence[Row]:
        """Execute and fetch all rows; a statement that returns none gives an empty sequence."""
        ...


def one(connection: Connection, statement: Statement, parameters: Parameters) -> Row | None:
    """The first row, or None."""
    rows = connection.rows(statement, parameters)
    return rows[0] if rows else None


class PsycopgConnection:
    """A psycopg connection of our own."""

    __slots__ = ("raw", "schema")
    is_own = True

    def __init__(self, raw: psycopg.Connection[Any], schema: str) -> None:
        self.raw = raw
        self.schema = schema

    def rows(self, statement: Statement, parameters: Parameters = _NOTHING) -> Sequence[Row]:
        """Execute the compiled text; database errors come as this library's."""
        try:
            # Not `raw.cursor()`: a caller's connection may make cursors of another kind.
            with psycopg.Cursor(self.raw, row_factory=dict_row) as cursor:
                text, literals = statement.compiled(self.schema)
                cursor.execute(text, {**literals, **parameters} if literals else parameters)
                return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise_known(error, self.schema)
            if self.is_own:
                raise_if_transient(error)
                raise_if_unstorable(error)
            raise


class JoinedConnection(PsycopgConnection):
    """A caller's psycopg connection: a conflict is the caller's, whose transaction it ends."""

    __slots__ = ()
    is_own = False


class SqlAlchemyConnection:
    """A caller's SQLAlchemy connection, whatever its driver."""

    __slots__ = ("connection", "schema")

    def __init__(self, connection: sa.Connection, schema: str) -> None:
        self.connection = connection
        self.schema = schema

    def rows(self, statement: Statement, parameters: Parameters = _NOTHING) -> Sequence[Row]:
        """Execute the clause; database errors come as this library's where we know them."""
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


class OwnTransaction(SqlAlchemyConnection):
    """An SQLAlchemy connection in a transaction that only `commit` ends well."""

    __slots__ = ("_transaction",)

    def __init__(self, connection: sa.Connection, schema: str) -> None:
        super().__init__(connection, schema)
        self._transaction = connection.begin()

    def was_cut(self, error: BaseException) -> bool:
        """Whether the connection went away, and with it what was not committed.

        Not where Postgres ended a transaction that took too long: that is the handler's own doing,
        and would happen again.
        """
        cause = error.orig if isinstance(error, DBAPIError) else error.__cause__ or error
        took_too_long = getattr(cause, "sqlstate", None) in TOOK_TOO_LONG
        return self.connection.invalidated and not took_too_long

    @property
    def is_interrupted(self) -> bool:
        """Whether a statement was left in the middle: nothing else can be sent any more."""
        if self.connection.closed or self.connection.invalidated:
            return False
        raw = cast("psycopg.Connection[Any]", self.connection.connection.driver_connection)
        return raw.info.transaction_status is TransactionStatus.ACTIVE

    def abandon_if_interrupted(self) -> None:
        """End what Postgres still does for a statement that was left, and the connection with it.

        Without that it would go on, and keep its locks from the next try.
        """
        if not self.is_interrupted:
            return
        raw = cast("psycopg.Connection[Any]", self.connection.connection.driver_connection)
        try:
            raw.cancel_safe(timeout=CANCEL_WITHIN)
        except psycopg.Error as error:
            logger.info("A statement that was left could not be cancelled: %s", error)
        self.connection.invalidate()

    def commit(self) -> None:
        """Commit; database errors come as this library's where we know them."""
        try:
            self._transaction.commit()
        except DBAPIError as error:
            raise_known(error.orig, self.schema)
            raise


class AlreadyRecorded(Exception):
    """The unit is in the journal: it was committed before, and this changed nothing."""


INSUFFICIENT_PRIVILEGE = "42501"
UNDEFINED_TABLE = "42P01"
INVALID_SCHEMA = "3F000"
UNDEFINED_COLUMN = "42703"
UNIQUE_VIOLATION = "23505"
JOURNAL_KEY = "durable_journal_pkey"
TOOK_TOO_LONG = ("25P03", "25P04")
"""SQLSTATEs of a transaction that was idle, or open, for too long; its connection is gone."""

ONLY_READS = "25006"
LOST_CONNECTION = ("08", "57P", ONLY_READS, *TOOK_TOO_LONG)
"""SQLSTATE classes of a connection that is gone, a server that goes down or that only reads."""

TRANSIENT = ("40", "53", "55P03", "57014", "58")
"""Conflicts, exhausted resources, timeouts of locks and statements, trouble with the disk: the same
may go well later.
"""


UNSTORABLE = ("2200", "2202", "2203", "22P", "54")
"""A value out of range or not of the database's encoding, JSON it cannot read, more than it holds.
"""


class Hindered(DatabaseUnavailable):
    """Postgres answers, but cannot do this now; the connection is as good as before."""

    is_there = True


def raise_known(error: BaseException | None, schema: str) -> None:
    """Raise the error of this library that `error` means, if it means one; else return."""
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state == INSUFFICIENT_PRIVILEGE:
        told = " ".join(str(error).partition("\n")[0].split())
        raise ConfigurationError(
            f"Postgres does not let the role do what the library does in schema {schema!r}: {told}."
            " Which rights it needs is in the documentation (compatibility, Postgres)."
        ) from error
    if state in (UNDEFINED_TABLE, INVALID_SCHEMA, UNDEFINED_COLUMN):
        raise SchemaOutOfDate(schema, None, "the tables of celery_durable") from error
    if state == UNIQUE_VIOLATION and JOURNAL_KEY in str(error):
        raise AlreadyRecorded from error
    is_lost = state.startswith(LOST_CONNECTION) if state else False
    if is_lost or (state is None and isinstance(error, psycopg.OperationalError)):
        why = (
            "Postgres only reads" if state == ONLY_READS else "The connection to Postgres was lost"
        )
        raise DatabaseUnavailable(f"{why}: {error}") from error


def raise_if_transient(error: BaseException | None) -> None:
    """Raise `Hindered` where the same may go well later; else return."""
    if isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(TRANSIENT):
        raise Hindered(f"Postgres could not do it now: {error}") from error


def raise_if_unstorable(error: psycopg.Error) -> None:
    """Raise `PayloadError` where Postgres cannot hold a value, or so much; else return."""
    if (error.sqlstate or "").startswith(UNSTORABLE):
        told = error.diag.message_primary or str(error)
        raise PayloadError(f"Postgres cannot store this: {told}") from error


def may_go_well_later(error: BaseException | None) -> bool:
    """Whether a statement that failed like this is worth sending again."""
    if isinstance(error, DBAPIError):
        error = error.orig
    if isinstance(error, psycopg.Error):
        return (error.sqlstate or "").startswith(TRANSIENT)
    return isinstance(error, DatabaseUnavailable)


def joined(session: object, schema: str) -> Connection:
    """A `Connection` on the transaction that `session` is in.

    `session` is an SQLAlchemy Session, scoped_session or Connection, or a psycopg connection.
    Nothing is committed here: what is written becomes visible, or vanishes, with the caller's
    transaction.
    """
    if isinstance(session, scoped_session):
        session = session()
    if isinstance(session, Session):
        session = session.connection()
    if isinstance(session, sa.Connection):
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

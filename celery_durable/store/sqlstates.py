"""The errors of Postgres, by SQLSTATE, as errors of this library.

https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import re

import psycopg
from sqlalchemy.exc import DBAPIError

from celery_durable.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    PayloadError,
    SchemaOutOfDate,
)


class AlreadyRecorded(Exception):
    """The journal has the unit already: it was committed before, and nothing is written."""


INSUFFICIENT_PRIVILEGE = "42501"
UNDEFINED_TABLE = "42P01"
INVALID_SCHEMA = "3F000"
UNDEFINED_COLUMN = "42703"
UNIQUE_VIOLATION = "23505"
JOURNAL_KEY = re.compile(r"durable_journal\w*_pkey")
"""The primary key of the journal, or of a partition of it."""

TOOK_TOO_LONG = ("25P03", "25P04")
"""A transaction that was idle, or open, for too long; Postgres has closed its connection."""

ONLY_READS = "25006"
LOST_CONNECTION = ("08", "57P", ONLY_READS, *TOOK_TOO_LONG)
"""A connection that is lost, a server that shuts down or that only reads."""

TRANSIENT = ("40", "53", "55P03", "57014", "58")
"""Conflicts, exhausted resources, timeouts of locks and statements, trouble with the disk: the same
statement may succeed later.
"""

UNSTORABLE = ("2200", "2202", "2203", "22P", "54")
"""A value out of range, too large, or not in the database's encoding; JSON it cannot read."""


class Hindered(DatabaseUnavailable):
    """Postgres answers, but cannot do this now; the connection stays usable."""

    is_there = True


def raise_known(error: BaseException | None, schema: str) -> None:
    """Raise the error of this library that `error` stands for; return if there is none."""
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state == INSUFFICIENT_PRIVILEGE:
        why = " ".join(str(error).partition("\n")[0].split())
        raise ConfigurationError(
            f"Postgres does not let the role do what the library does in schema {schema!r}: {why}."
            " Which rights it needs is in the documentation (compatibility, Postgres)."
        ) from error
    if state in (UNDEFINED_TABLE, INVALID_SCHEMA, UNDEFINED_COLUMN):
        raise SchemaOutOfDate(schema, "", "other tables") from error
    if state == UNIQUE_VIOLATION and JOURNAL_KEY.search(str(error)):
        raise AlreadyRecorded from error
    is_lost = state.startswith(LOST_CONNECTION) if state else False
    if is_lost or (state is None and isinstance(error, psycopg.OperationalError)):
        why = (
            "Postgres only reads" if state == ONLY_READS else "The connection to Postgres was lost"
        )
        raise DatabaseUnavailable(f"{why}: {error}") from error


def raise_if_transient(error: BaseException | None) -> None:
    """Raise `Hindered` if the same statement may succeed later; else return."""
    if isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(TRANSIENT):
        raise Hindered(f"Postgres could not do it now: {error}") from error


def raise_if_unstorable(error: psycopg.Error) -> None:
    """Raise `PayloadError` if Postgres cannot store a value; else return."""
    if (error.sqlstate or "").startswith(UNSTORABLE):
        reason = error.diag.message_primary or str(error)
        raise PayloadError(f"Postgres cannot store this: {reason}") from error


def may_go_well_later(error: BaseException | None) -> bool:
    """Return True if a statement that failed with `error` may succeed when it is sent again."""
    if isinstance(error, DBAPIError):
        error = error.orig
    if isinstance(error, psycopg.Error):
        return (error.sqlstate or "").startswith(TRANSIENT)
    return isinstance(error, DatabaseUnavailable)

"""Opens a connection, and sets the settings that our statements rely on.

A server, a database or a role may have its own default for every setting of a session. So a new
connection begins with one statement that sets what our statements rely on. Behind a transaction
pooler, which shares sessions, nothing can be set: a wrong setting is refused there, or warned of.
https://www.postgresql.org/docs/current/runtime-config-client.html
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import psycopg
import sqlalchemy as sa

from celery_durable.database.address import Parameters
from celery_durable.errors import ConfigurationError, DatabaseUnavailable
from celery_durable.store import sql
from celery_durable.store.connection import PsycopgConnection, Statement, one
from celery_durable.store.sqlstates import raise_if_transient

logger = logging.getLogger(__name__)

CONNECTING: Mapping[str, Any] = {
    "application_name": "celery_durable",
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""Parameters of libpq that the URL may override: with them, a silent host is noticed in time."""

ENCODING = {"client_encoding": "UTF8"}
"""A parameter of libpq that the URL cannot override. Poolers pass it on to the server."""

REQUIRED: Mapping[str, str] = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
}
"""Formats that psycopg reads, and the isolation that statements which meet at one row rely on.

A shared session with another value is refused.
"""

LASTING: Mapping[str, str] = {"idle_session_timeout": "0", "synchronous_commit": "on"}
"""Idle connections stay open, to hold locks and to wait in pools; commits survive a crash."""

OURS_ALONE: Mapping[str, str] = {
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "lock_timeout": "10s",
    "row_security": "on",
    "jit": "off",
    "plan_cache_mode": "auto",
    "enable_seqscan": "off",
    "search_path": "",
}
"""For connections on which only our own statements run: these set their bounds themselves.

They look rows up by an index. A plan that was made while a table was small would read it as a whole
later, too.
"""

WITH_HANDLERS = {**REQUIRED, **LASTING}
"""For connections that a handler uses too: its statements have the role's timeouts and path."""

OURS = {**WITH_HANDLERS, **OURS_ALONE}

WARNED_OF = ("statement_timeout", "transaction_timeout", "synchronous_commit")
"""Settings of which a wrong value is warned of, where it cannot be set."""


def _set_if_ours(name: str, value: str) -> sa.ColumnElement[Any]:
    """Set `name` if the session is ours, and return its value; null if this Postgres lacks it."""
    setting, now = sql.word(name), sa.func.current_setting(sql.word(name), sa.true())
    when: list[sa.ColumnElement[Any]] = [_is_ours, now.is_not(None)]
    wanted: sa.ColumnElement[Any] = sql.word(value)
    if name == "synchronous_commit":
        when.append(now == sql.word("off"))  # `remote_apply` and others promise more
    if name == "search_path":
        # Our statements name their tables with the schema. Their functions and operators are those
        # of Postgres, unless a path puts others before `pg_catalog`.
        when.append(now.contains(sql.word("pg_catalog")))
        wanted = sa.func.concat(sql.word("pg_catalog, "), now)
    return sa.case((sa.and_(*when), sa.func.set_config(setting, wanted, sa.false())), else_=now)


_is_ours = sa.func.pg_backend_pid() == sql.integer("pid")


def _configure(settings: Mapping[str, str]) -> Statement:
    return Statement(
        sa.select(
            _is_ours.label("is_ours"),
            sa.func.current_database().label("database"),
            sa.func.current_setting(sql.word("server_encoding")).label("encoding"),
            *(_set_if_ours(name, value).label(name) for name, value in settings.items()),
        )
    )


CONFIGURE_OURS, CONFIGURE_WITH_HANDLERS = _configure(OURS), _configure(WITH_HANDLERS)


def open_connection(
    parameters: Parameters, configure: Statement = CONFIGURE_OURS, schema: str = ""
) -> psycopg.Connection[Any]:
    """Return a new connection in autocommit mode.

    Raises `DatabaseUnavailable`, or `ConfigurationError` if the library cannot work with it.
    """
    raw = connect(parameters)
    try:
        configure_session(raw, configure, schema)
    except BaseException:
        raw.close()
        raise
    return raw


def connect(parameters: Parameters) -> psycopg.Connection[Any]:
    """Return a new connection on which no setting is set. Raises `DatabaseUnavailable`."""
    try:
        return psycopg.connect(**{**CONNECTING, **parameters, **ENCODING}, autocommit=True)
    except psycopg.OperationalError as error:
        raise_if_transient(error)
        raise _unavailable(error) from error


def configure_session(raw: psycopg.Connection[Any], configure: Statement, schema: str) -> None:
    """Set the session's settings; behind a transaction pooler, check them, and prepare nothing.

    Such a pooler sends each statement to another server process, which has not prepared it:
    https://www.psycopg.org/psycopg3/docs/advanced/prepare.html. It shows in the process id that the
    client has: the pooler makes it up, so it is not that of the server process.
    """
    row = one(PsycopgConnection(raw, schema), configure, {"pid": raw.info.backend_pid})
    assert row is not None
    if row["encoding"] != "UTF8":
        raise ConfigurationError(
            f"The database {row['database']!r} has the encoding {row['encoding']}, which cannot"
            " hold every text. Create one with it: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE"
            " template0."
        )
    if not row["is_ours"]:
        raw.prepare_threshold = None
        _check_shared_session(row)


def _check_shared_session(row: Mapping[str, Any]) -> None:
    for name, value in REQUIRED.items():
        if not str(row[name]).startswith(value):
            raise ConfigurationError(
                f"{name} is {row[name]!r} where the library needs {value!r}, and behind a"
                f" transaction pooler it cannot be set: ALTER ROLE ... SET {name} = '{value}'."
            )
    for name in WARNED_OF:
        if row.get(name) not in (None, *_HARMLESS[name]):
            _warn_once(name, str(row[name]))


_HARMLESS = {
    "statement_timeout": ("0",),
    "transaction_timeout": ("0",),
    "synchronous_commit": ("on", "local", "remote_write", "remote_apply"),
}

_warned: set[str] = set()


def _warn_once(name: str, value: str) -> None:
    if name not in _warned:
        _warned.add(name)
        logger.warning(
            "%s is %r, and behind a transaction pooler the library cannot set it for its own"
            " statements. Use a role without it: ALTER ROLE ... SET %s = %s",
            name,
            value,
            name,
            "on" if name == "synchronous_commit" else "0",
        )


_NO_DATABASE = re.compile(r'FATAL: +(database "[^"]*" does not exist)')


def _unavailable(error: psycopg.Error) -> DatabaseUnavailable:
    why = str(error).removeprefix("connection failed: ").strip()
    if missing := _NO_DATABASE.search(why):
        no_database = DatabaseUnavailable(
            f"Postgres refuses the connection: {missing[1]}. Create it (`createdb`), or correct"
            " durable_database_url."
        )
        no_database.is_there = True
        return no_database
    what = "refuses the connection" if "FATAL" in why else "cannot be reached"
    return DatabaseUnavailable(f"Postgres {what}: {why}")

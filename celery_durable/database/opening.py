"""Opening a connection, and what it relies on.

A database, a role or a server may have other defaults than PostgreSQL's for every setting of a
session. What our statements rely on is set in the one statement that a new connection begins with.
Where a transaction pooler shares sessions nothing can be set: what is not as it must be is refused
there, or warned of.
https://www.postgresql.org/docs/current/runtime-config-client.html
"""

from __future__ import annotations

import logging
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
"""libpq parameters where the URL says nothing else: a host that fell silent is noticed in time."""

ENCODING = {"client_encoding": "UTF8"}
"""Sent with the start of the connection: poolers take this one over."""

NEEDED: Mapping[str, str] = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
}
"""What is read by psycopg, and what two statements that meet at one row are thought out for."""

KEPT: Mapping[str, str] = {"idle_session_timeout": "0", "synchronous_commit": "on"}
"""Idle connections hold locks and wait in pools; what is committed is not lost."""

UNDISTURBED: Mapping[str, str] = {
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "lock_timeout": "10s",
    "row_security": "on",
    "jit": "off",
    "plan_cache_mode": "auto",
    "search_path": "",
}
"""For connections on which nothing but our own statements runs: what is bounded, they bound."""

OF_HANDLERS = {**NEEDED, **KEPT}
"""For those that a handler shares: its own statements have the role's timeouts and path."""

OURS = {**OF_HANDLERS, **UNDISTURBED}

WARNED_OF = ("statement_timeout", "transaction_timeout", "synchronous_commit")
"""What is not needed, but missed where it cannot be set."""


def _settled(name: str, value: str) -> sa.ColumnElement[Any]:
    """The setting, once it is as it must be. Some versions do not have it; then it is null."""
    setting, now = sql.word(name), sa.func.current_setting(sql.word(name), sa.true())
    must: list[sa.ColumnElement[Any]] = [_is_ours, now.is_not(None)]
    wanted: sa.ColumnElement[Any] = sql.word(value)
    if name == "synchronous_commit":
        must.append(now == sql.word("off"))  # `remote_apply` and others promise more
    if name == "search_path":
        # Our tables are named with their schema. Functions and operators are PostgreSQL's, unless
        # the path says that others go before.
        must.append(now.contains(sql.word("pg_catalog")))
        wanted = sa.func.concat(sql.word("pg_catalog, "), now)
    return sa.case((sa.and_(*must), sa.func.set_config(setting, wanted, sa.false())), else_=now)


_is_ours = sa.func.pg_backend_pid() == sql.integer("pid")


def _long_retrying(settings: Mapping[str, str]) -> Statement:
    return Statement(
        sa.select(
            _is_ours.label("is_ours"),
            sa.func.current_database().label("database"),
            sa.func.current_setting(sql.word("server_encoding")).label("encoding"),
            *(_settled(name, value).label(name) for name, value in settings.items()),
        )
    )


SETTLE_OURS, SETTLE_HANDLERS = _long_retrying(OURS), _long_retrying(OF_HANDLERS)


def opened(
    parameters: Parameters, settle: Statement = SETTLE_OURS, schema: str = ""
) -> psycopg.Connection[Any]:
    """A new connection in autocommit mode. Raises `DatabaseUnavailable`, `ConfigurationError`."""
    try:
        raw = psycopg.connect(**{**CONNECTING, **parameters, **ENCODING}, autocommit=True)
    except psycopg.OperationalError as error:
        raise_if_transient(error)
        raise DatabaseUnavailable(_no_connection(error)) from error
    try:
        settle_in(raw, settle, schema)
    except BaseException:
        raw.close()
        raise
    return raw


def settle_in(raw: psycopg.Connection[Any], settle: Statement, schema: str) -> None:
    """Set what the connection relies on, or see that it is so; no prepared statements behind a
    pooler.

    A transaction pooler hands every statement to another server process, which has not prepared it:
    https://www.psycopg.org/psycopg3/docs/advanced/prepare.html. It answers with a process id of its
    own making.
    """
    row = one(PsycopgConnection(raw, schema), settle, {"pid": raw.info.backend_pid})
    assert row is not None
    if row["encoding"] != "UTF8":
        raise ConfigurationError(
            f"The database {row['database']!r} has the encoding {row['encoding']}, which cannot"
            " hold every text. Create one with it: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE"
            " template0."
        )
    if not row["is_ours"]:
        raw.prepare_threshold = None
        _look_at_shared(row)


def _look_at_shared(row: Mapping[str, Any]) -> None:
    for name, value in NEEDED.items():
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


def _no_connection(error: psycopg.Error) -> str:
    told = str(error).removeprefix("connection failed: ").strip()
    does = "refuses the connection" if "FATAL" in told else "cannot be reached"
    return f"Postgres {does}: {told}"

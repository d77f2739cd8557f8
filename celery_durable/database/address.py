"""Reads the setting of a database's address: makes parameters of libpq of it.

It may be an SQLAlchemy URL, a URL of libpq (several hosts), or libpq's `host=... dbname=...`. No
error shows its password.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import ArgumentError

from celery_durable.errors import ConfigurationError, nearest

Parameters = Mapping[str, Any]

DRIVER, PLAIN = "postgresql+psycopg://", "postgresql://"

_ENGINE_OPTIONS = (
    "pool_size",
    "max_overflow",
    "pool_timeout",
    "pool_recycle",
    "pool_pre_ping",
    "echo",
)
"""Options of SQLAlchemy's `create_engine` that users write into URLs."""


def parameters_of(setting: str, text: str) -> Parameters:
    """Return libpq's parameters for `text`, the value of `setting`.

    Raises `ConfigurationError` if it cannot be read.
    """
    is_url = "://" in text
    if is_url:
        _refuse_unknown(setting, [name for name, _ in parse_qsl(_split(setting, text).query)])
    try:
        found = _from_url(text) if is_url else conninfo_to_dict(text)
    except (psycopg.ProgrammingError, ArgumentError, ValueError):
        # The error's text may be a part of the password.
        raise _unreadable(setting) from None
    _refuse_unknown(setting, found)
    return found


def _from_url(text: str) -> Parameters:
    rest = text.partition("://")[2]
    if "," in rest.partition("/")[0].rpartition("@")[2]:
        return conninfo_to_dict(PLAIN + rest)  # several hosts, each with its port
    _, found = _dialect.create_connect_args(sa.make_url(DRIVER + rest))  # type: ignore[no-untyped-call]
    return dict(found)


_dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]


def _split(setting: str, text: str) -> Any:
    try:
        return urlsplit(text)
    except ValueError:
        raise _unreadable(setting) from None


def _refuse_unknown(setting: str, names: Collection[str]) -> None:
    known = libpq_parameters()
    for name in names:
        if name in _ENGINE_OPTIONS:
            raise ConfigurationError(
                f"{setting} has {name!r}, an option of SQLAlchemy's create_engine. Leave it out:"
                " a process opens as many connections as it has threads at work."
            )
        if name not in known:
            raise ConfigurationError(
                f"{setting} has {name!r}, which is no parameter of a Postgres connection."
                f"{nearest(name, known)} Those of libpq are taken:"
                " https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS"
            )


@lru_cache(maxsize=1)
def libpq_parameters() -> frozenset[str]:
    """Return the names of the parameters that libpq takes."""
    return frozenset(each.keyword.decode() for each in psycopg.pq.Conninfo.get_defaults())


def _unreadable(setting: str) -> ConfigurationError:
    return ConfigurationError(
        f"{setting} cannot be read. Write postgresql+psycopg://user:password@host:5432/database,"
        " with each special character of the password as %XX (urllib.parse.quote does it); several"
        " hosts as host1:5432,host2:5432; or libpq's host=... dbname=... user=..."
    )

"""Tests what the server is, and whether a lock that a session holds is refused to every other.

The death of a worker is told by its lock. A pooler that shares sessions, and servers that only
speak like Postgres, give one lock to two.
"""

from __future__ import annotations

from contextlib import closing
from random import randrange

import sqlalchemy as sa

from celery_durable.core.finding import LockTest, Product
from celery_durable.database.connections import Database
from celery_durable.store import sql
from celery_durable.store.connection import Connection, PsycopgConnection, Statement, one
from celery_durable.store.workers import is_direct

_SPACE = sa.func.hashtext(sql.word("durable_doctor"))
_KEY = _SPACE, sql.integer("number")

_TAKE = Statement(sa.select(sa.func.pg_try_advisory_lock(*_KEY).label("is_taken")))
_PROBE = Statement(sa.select(sa.func.pg_try_advisory_xact_lock(*_KEY).label("is_taken")))

_VERSION = "SELECT version()"


def product_of(database: Database) -> Product:
    """Ask the server what it is, whatever it is. Raises `DatabaseUnavailable`."""
    with closing(database.bare()) as raw:
        row = raw.execute(_VERSION, prepare=False).fetchone()
        return Product(str(row[0]) if row else "", raw.info.server_version)


def lock_test(database: Database) -> LockTest:
    """Take a lock as a worker does, and try it as another worker and as a reaper do."""
    with closing(database.dedicated()) as raw:
        holder = PsycopgConnection(raw, database.schema)
        if not is_direct(holder):
            return LockTest.SHARED
        number = next(n for n in _numbers() if _takes(holder, _TAKE, n))
        with closing(database.dedicated()) as second:
            if _takes(PsycopgConnection(second, database.schema), _TAKE, number):
                return LockTest.NOT_REFUSED
        with database.transaction() as reaper:
            if _takes(reaper, _PROBE, number):
                return LockTest.ELSEWHERE
            is_pooled = not is_direct(reaper)
    return LockTest.HOLDS_PAST_A_POOLER if is_pooled else LockTest.HOLDS


def _numbers() -> list[int]:
    """Some numbers of locks: another test may have taken one of them."""
    return [randrange(2**31) for _ in range(10)]  # noqa: S311 - it keeps no secret


def _takes(connection: Connection, statement: Statement, number: int) -> bool:
    row = one(connection, statement, {"number": number})
    return bool(row and row["is_taken"])

"""The books of the shop's suppliers: every call that a handler makes, in an append-only table.

It stands for the world outside: it is written at once, on a connection of its own and not in the
transactions of the library, and it refuses to do anything twice for one idempotency key.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from psycopg.sql import SQL, Composed, Identifier
from sqlalchemy import make_url

if TYPE_CHECKING:
    from celery_durable import Context

ANSWER_SECONDS = 0.25
"""The outside world has done what it was asked for; so long takes its answer."""

DONE, REFUSED, FAILED = "done", "refused", "failed"

_CREATE = """
CREATE TABLE {} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    run_id uuid NOT NULL,
    unit text NOT NULL,
    idempotency_key text NOT NULL,
    attempt integer NOT NULL,
    worker_pid integer NOT NULL,
    parent_pid integer NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('done', 'refused', 'failed'))
);
CREATE UNIQUE INDEX ON {} (idempotency_key) WHERE outcome = 'done'
"""

_ROW = """(run_id, unit, idempotency_key, attempt, worker_pid, parent_pid, outcome)
VALUES (%(run_id)s, %(unit)s, %(key)s, %(attempt)s, %(pid)s, %(parent)s, %(outcome)s)"""

_ONCE = f"INSERT INTO {{}} {_ROW} ON CONFLICT (idempotency_key) WHERE outcome = 'done' DO NOTHING"
_ALWAYS = f"INSERT INTO {{}} {_ROW}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One call of a handler. `parent_pid` is the worker, `worker_pid` its child."""

    id: int
    at: datetime
    run_id: UUID
    unit: str
    idempotency_key: str
    attempt: int
    worker_pid: int
    parent_pid: int
    outcome: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where the ledger is."""

    url: str
    schema: str

    def statement(self, text: str) -> Composed:
        """`text` with the table's name in each pair of braces."""
        table = Identifier(self.schema, "ledger")
        return SQL(text).format(*[table] * text.count("{}"))


_places: list[Place] = []


def open_at(url: str, schema: str) -> None:
    """The ledger of this process is in this database and schema."""
    _places[:] = [Place(url, schema)]


@cache
def _connection(_pid: int) -> psycopg.Connection[Any]:
    return connect(_places[0].url)


def connect(url: str) -> psycopg.Connection[Any]:
    """A connection that commits every statement, from an SQLAlchemy URL."""
    libpq = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(libpq, autocommit=True, connect_timeout=10)


def _execute(text: str, values: Mapping[str, Any] | None = None) -> psycopg.Cursor[Any]:
    # A forked child makes its own connection: its pid is another.
    return _connection(os.getpid()).execute(_places[0].statement(text), values)


def create() -> None:
    """Make the empty table."""
    _execute(_CREATE)


def call(ctx: Context) -> str:
    """Have something done outside, once: a key that is known is refused. Returns the receipt."""
    is_new = _execute(_ONCE, _row(ctx, DONE)).rowcount == 1
    if not is_new:
        _execute(_ALWAYS, _row(ctx, REFUSED))
    time.sleep(ANSWER_SECONDS)
    return ctx.idempotency_key


def fail(ctx: Context, error: Exception) -> NoReturn:
    """A call that came to nothing."""
    _execute(_ALWAYS, _row(ctx, FAILED))
    raise error


def _row(ctx: Context, outcome: str) -> dict[str, Any]:
    return {
        "run_id": ctx.run_id,
        "unit": ctx.unit,
        "key": ctx.idempotency_key,
        "attempt": ctx.attempt,
        "pid": os.getpid(),
        "parent": os.getppid(),
        "outcome": outcome,
    }


def entries() -> list[Entry]:
    """Everything, in order."""
    cursor = _connection(os.getpid()).cursor(row_factory=class_row(Entry))
    return cursor.execute(_places[0].statement("SELECT * FROM {} ORDER BY id")).fetchall()


def done() -> dict[str, int]:
    """How often each unit has been done."""
    text = "SELECT unit, count(*) FROM {} WHERE outcome = 'done' GROUP BY unit"
    return dict(_execute(text).fetchall())


def caught_in_a_call() -> int | None:
    """The pid of the worker with most calls that have been made and not been answered yet."""
    text = """SELECT parent_pid FROM {} WHERE outcome = 'done' AND at > clock_timestamp() - %(age)s
              GROUP BY parent_pid ORDER BY count(*) DESC LIMIT 1"""
    row = _execute(text, {"age": timedelta(seconds=0.4 * ANSWER_SECONDS)}).fetchone()
    return row[0] if row else None


def now() -> datetime:
    """The time by the clock that dates the entries."""
    row = _execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    at: datetime = row[0]
    return at

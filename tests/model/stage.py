"""The database of the model: one session, a clock that the explorer turns, and marks to go back to.

Transactions of the model happen one after the other, so one session can play them all: a scenario
is one transaction of Postgres, each transaction of a worker a part of it, and going back in the
schedule is ROLLBACK TO SAVEPOINT. What two statements do to each other while both run is not
explored here; the race tests of tests/integration do that.

`clock_timestamp()` and `now()` are functions of the model's own, found before those of pg_catalog.
So nothing becomes due but by a move of the explorer, and a state is the same however long it took
to get there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.pq import ExecStatus

from celery_durable.core.reason import Diagnosis
from celery_durable.store.connection import Parameters, PsycopgConnection, Row, Statement
from celery_durable.store.read import facts
from tests.addresses import conninfo

SCHEMA = "public"

NOON = "2040-01-01T12:00:00+00:00"
"""When every scenario begins: long after the server was started, or nobody would be declared dead.
"""

_CLOCK = """
CREATE SCHEMA IF NOT EXISTS model;
CREATE OR REPLACE FUNCTION model.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT current_setting('model.now')::timestamptz $$;
CREATE OR REPLACE FUNCTION model.now() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT current_setting('model.now')::timestamptz $$;
SET search_path = model, pg_catalog, public;
DO $do$
DECLARE one record;
BEGIN
    -- A default remembers the function it was declared with.
    FOR one IN SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND column_default LIKE '%clock_timestamp%'
    LOOP
        EXECUTE format(
            'ALTER TABLE public.%I ALTER %I SET DEFAULT model.clock_timestamp()',
            one.table_name, one.column_name
        );
    END LOOP;
END $do$;
"""

TABLES = ("run", "token", "item", "journal", "outbox", "inbox", "worker", "pause")

_READ = "SELECT json_build_object('now', model.clock_timestamp(), {})::text".format(
    ", ".join(f"'{t}', (SELECT json_agg(x) FROM public.durable_{t} x)" for t in TABLES)
).encode()

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tables:
    """What the database holds."""

    now: datetime
    run: Sequence[Record]
    token: Sequence[Record]
    item: Sequence[Record]
    journal: Sequence[Record]
    outbox: Sequence[Record]
    inbox: Sequence[Record]
    worker: Sequence[Record]
    pause: Sequence[Record]

    def is_due(self, at: str | None) -> bool:
        """Whether the time of a row has come."""
        return at is not None and datetime.fromisoformat(at) <= self.now

    def seconds_until(self, at: str | None) -> int | None:
        """How long it is until then; 0 when it has come."""
        if at is None:
            return None
        return max(0, round((datetime.fromisoformat(at) - self.now).total_seconds()))


class Stage:
    """The one session."""

    def __init__(self, url: str) -> None:
        self.raw = psycopg.connect(conninfo(url), autocommit=True)
        self.raw.execute(_CLOCK.encode())
        # Thousands of executions among a handful of rows: no plan is worth making twice.
        self.raw.execute("SET plan_cache_mode = force_generic_plan")
        self._last_mark = ""
        self._connection = PsycopgConnection(self.raw, SCHEMA)

    def open(self) -> None:
        """Begin a scenario with empty tables."""
        emptied = ", ".join(f"public.durable_{table}" for table in (*TABLES, "definition"))
        self.raw.execute(f"TRUNCATE {emptied}".encode())
        self.raw.execute(b"BEGIN")
        self._set_clock(NOON)

    def close(self) -> None:
        """End the scenario; nothing is left of it."""
        self.raw.execute(b"ROLLBACK")

    def mark(self, name: str) -> None:
        """Remember the state the database is in."""
        self._at_once(f"SAVEPOINT {name}")
        self._last_mark = name

    def back_to(self, name: str) -> None:
        """The database is as it was at the mark, which stays."""
        self._at_once(f"ROLLBACK TO SAVEPOINT {name}")
        self._last_mark = name

    def undo(self) -> None:
        """The transaction that was begun last has failed: every move begins at a mark."""
        self.back_to(self._last_mark)

    def _at_once(self, command: str) -> None:
        """A command without parameters or rows, past what psycopg does for others."""
        done = self.raw.pgconn.exec_(command.encode())
        assert done.status == ExecStatus.COMMAND_OK, done.error_message

    def rows(self, statement: Statement, parameters: Parameters) -> Sequence[Row]:
        """Execute a statement of the store."""
        return self._connection.rows(statement, parameters)

    def explain(self, run_ids: Sequence[UUID]) -> Sequence[Diagnosis]:
        """Why the runs stand."""
        return facts.diagnoses(self._connection, run_ids)

    def run(self, query: str, *parameters: Any) -> None:
        """Do what the world does to the database, as no code of the library would."""
        self.raw.execute(query.encode(), parameters or None)

    def wait_until(self, at: str) -> None:
        """Turn the clock."""
        self._set_clock(at)

    def _set_clock(self, at: str) -> None:
        self.raw.execute("SELECT set_config('model.now', %s, true)", [at])

    def read(self) -> Tables:
        """The content of all tables."""
        row = self.raw.execute(_READ).fetchone()
        assert row is not None
        content: dict[str, Any] = {k: rows or [] for k, rows in json.loads(row[0]).items()}
        content["now"] = datetime.fromisoformat(content["now"])
        return Tables(**content)

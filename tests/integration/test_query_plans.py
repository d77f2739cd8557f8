"""P11: the statements of the hot path find their rows by an index."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from celery_durable.store import (
    commits,
    inbox,
    journal,
    outbox,
    runs,
    stalled,
    tokens,
    views,
    workers,
)
from celery_durable.store.commits import Shape
from celery_durable.store.connection import Statement
from tests.integration.driving import World
from tests.services import PostgresServer, conninfo

RUN, TOKEN, ID = UUID(int=1), UUID(int=2**64 + 1), uuid4()

FILL = """
INSERT INTO durable_run (id, workflow, version, status, key, input)
    SELECT lpad(to_hex(n), 32, '0')::uuid, 'w' || n % 100, 1, 'running', 'k' || n, '{}'
    FROM generate_series(1, 10000) n;
INSERT INTO durable_token (id, run_id, node, unit, queue, fence, claimed_by)
    SELECT ('00000000-0000-0001-' || substr(lpad(to_hex(n), 16, '0'), 1, 4) || '-'
        || substr(lpad(to_hex(n), 16, '0'), 5))::uuid,
        lpad(to_hex(n), 32, '0')::uuid, 'a', 'a', 'durable', gen_random_uuid(),
        CASE WHEN n % 500 = 0 THEN gen_random_uuid() END
    FROM generate_series(1, 10000) n;
INSERT INTO durable_journal
    (run_id, unit, node, outcome, undoable, attempt, result, worker, started_at)
    SELECT lpad(to_hex(n % 2 + 1), 32, '0')::uuid, 'u' || n, 'u' || n, 'completed', n % 10 = 0, 1,
        '1', gen_random_uuid(), now()
    FROM generate_series(1, 10000) n;
INSERT INTO durable_outbox (task, args, options, run_id, token_id, fence, available_at)
    SELECT 'durable.advance', '[]', '{}', run_id, id, fence, now() + interval '1 hour'
    FROM durable_token, generate_series(1, 4);
INSERT INTO durable_inbox (run_id, kind, name)
    SELECT lpad(to_hex(n), 32, '0')::uuid, 'command', 'cancel' FROM generate_series(9000, 9999) n;
INSERT INTO durable_worker
    (id, node_id, hostname, pid, pool, queues, server_started_at, expires_at, ended_at)
    SELECT gen_random_uuid(), gen_random_uuid(), 'h', n, 'prefork', '[]', now(), now(), now()
    FROM generate_series(1, 2000) n;
ANALYZE
"""


@pytest.fixture(scope="module")
def full(postgres: PostgresServer, template_database: str) -> Iterator[World]:
    """A database with 10,000 unfinished runs and a journal of 10,000 entries."""
    with postgres.database("durable_test", template_database) as name:
        world = World(postgres.url(name))
        for statement in FILL.split(";"):
            world.rows(statement)
        yield world
        world.close()


MOVED = {
    "node": "b",
    "unit": "b",
    "attempt": 1,
    "crashes": 0,
    "flags": 0,
    "rollback": None,
    "failures": None,
    "delay": timedelta(0),
}
HELD = {
    "token_id": TOKEN,
    "held_fence": ID,
    "seen_flags": 0,
    "held_unit": "a",
    "held_attempt": 1,
    "worker": ID,
}
RECORDED = {
    "record_unit": "a",
    "record_node": "a",
    "outcome": "completed",
    "undoable": False,
    "record_attempt": 1,
    "result": "1",
    "error": None,
    "record_failures": None,
    "started_at": datetime(2026, 1, 1, tzinfo=UTC),
}
CHANGED = {"status": "completed", "run_error": None, "run_result": None, "finishes": True}
RELEASED = {"workflow": "w", "queue": "durable", "priority": None}


def a_commit(*, ends: bool, records: bool, changes: bool, releases: bool) -> Any:
    shape = Shape(ends=ends, records=records, changes_run=changes, releases=releases)
    parameters = {
        **HELD,
        **({} if ends else MOVED),
        **(RECORDED if records else {}),
        **(CHANGED if changes else {}),
        **(RELEASED if releases else {}),
    }
    return commits._commit(shape), parameters


HOT: dict[str, tuple[Statement, Mapping[str, Any]]] = {
    "claim": (tokens._CLAIM, {"token_id": TOKEN, "worker": ID, "new_fence": ID}),
    "refusal": (tokens._REFUSAL, {"token_id": TOKEN, "worker": ID}),
    "read": (tokens._READ, {"token_id": TOKEN}),
    "straight on": a_commit(ends=False, records=True, changes=False, releases=False),
    "hand over": a_commit(ends=False, records=True, changes=False, releases=True),
    "retry": a_commit(ends=False, records=False, changes=False, releases=True),
    "turn back": a_commit(ends=False, records=True, changes=True, releases=False),
    "end": a_commit(ends=True, records=True, changes=True, releases=False),
    "next undo": (journal._UNDO, {"run_id": RUN, "after": "u900", "nodes": '["u800"]'}),
    "result": (journal._RESULT, {"run_id": RUN, "unit": "u900", "outcome": "completed"}),
    "due": (outbox._DUE, {"batch": 200}),
    "delete": (outbox._DELETE, {"ids": "{1,2,3}"}),
    "postpone": (outbox._POSTPONE, {"outbox_id": 1, "last_error": "", "delay": timedelta(1)}),
    "next due": (outbox._NEXT, {}),
    "begin": (runs._BEGIN, {"run_id": RUN}),
    "with key": (runs._WITH_KEY, {"workflow": "w1", "key": "k1"}),
    "take commands": (inbox._TAKE, {"run_id": RUN}),
    "raise flags": (inbox._RAISE, {"run_id": RUN, "flags": 1}),
    "hint a run": (inbox._HINT, {"run_id": RUN}),
    "orphans": (workers._ORPHANS, {"batch": 500}),
    "claimed by": (workers._CLAIMED_BY, {"worker": ID}),
    "renew": (workers._RENEW, {"worker": ID, "ttl": timedelta(1)}),
    "lifeless": (workers._LIFELESS, {"lock_space": "x"}),
    "free": (
        workers._FREE,
        {"token_id": TOKEN, "old_fence": ID, "holder": ID, "new_fence": ID, "counts": True},
    ),
    "status": (views._STATUS, {"run_id": RUN}),
    "ending": (views._ENDING, {"run_id": RUN}),
}

SMALL = {
    "durable_inbox": "commands that nobody has applied yet",
    "durable_worker": "a row for each process that lived within the last day",
    "durable_definition": "a row for each version of a workflow",
}
"""Tables that a statement may scan: how many rows they have has nothing to do with runs."""


def scanned(plan: Mapping[str, Any]) -> list[str]:
    """The tables that a plan reads from end to end."""
    here = [plan["Relation Name"]] if plan["Node Type"] == "Seq Scan" else []
    return here + [table for below in plan.get("Plans", ()) for table in scanned(below)]


def plan_of(world: World, statement: Statement, parameters: Mapping[str, Any]) -> Any:
    text, literals = statement.compiled("public")
    with psycopg.connect(conninfo(world.url)) as connection:
        cursor = psycopg.ClientCursor(connection)
        cursor.execute(b"EXPLAIN (FORMAT JSON) " + text, {**literals, **parameters})
        row = cursor.fetchone()
        connection.rollback()
    assert row is not None
    plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return plan[0]["Plan"]


@pytest.mark.parametrize("name", HOT)
def test_a_hot_statement_reads_no_table_from_end_to_end(full: World, name: str) -> None:
    """P11"""
    plan = plan_of(full, *HOT[name])
    assert [table for table in scanned(plan) if table not in SMALL] == []


def test_the_probe_sees_a_scan(full: World) -> None:
    """What recovery does every few seconds looks at every unfinished run: it is not hot."""
    parameters = {"batch": 500, "first_after": 10.0, "at_most": 600.0, "lock_space": "x"}
    assert "durable_token" in scanned(plan_of(full, stalled._HINT_AGAIN, parameters))

"""A database with much in it, and the plans that Postgres makes there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg

from celery_durable.store.connection import Statement
from tests.addresses import conninfo
from tests.integration.driving import World
from tests.services import PostgresServer

FILL = """
CREATE FUNCTION run_no(bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
    RETURN lpad(to_hex($1), 32, '0')::uuid;
CREATE FUNCTION token_no(bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
    RETURN lpad(to_hex($1 + 4294967296), 32, '0')::uuid;
INSERT INTO durable_run
    (id, workflow, version, status, key, input, tags, times_out_at, expires_at)
    SELECT run_no(n), 'w' || n % 100, 1, 'running', 'k' || n, '{}',
        json_build_object('tenant', n % 1000)::jsonb, now() + interval '1 hour',
        CASE WHEN n % 10 = 0 THEN now() + interval '1 minute' END
    FROM generate_series(1, 10000) n;
INSERT INTO durable_run
    (id, workflow, version, status, input, finished_at, parent_run_id, parent_token)
    SELECT run_no(n), 'w' || n % 100, 1, 'completed', '{}', now(), run_no(n % 1000 + 1),
        token_no(n % 1000 + 1)
    FROM generate_series(10001, 30000) n;
INSERT INTO durable_token (id, run_id, node, unit, queue, fence, claimed_by)
    SELECT token_no(n), run_no(n), 'a', 'a', 'durable', gen_random_uuid(),
        CASE WHEN n % 500 = 0 THEN gen_random_uuid() END
    FROM generate_series(1, 4000) n;
INSERT INTO durable_token
    (id, run_id, node, unit, queue, fence, wait, awaits, child_run_id, waiting_since, wake_at)
    SELECT token_no(n), run_no(n), 'a', 'a', 'durable', gen_random_uuid(), wait,
        CASE WHEN wait = 'signal' THEN 'go' END,
        CASE WHEN wait = 'child' THEN run_no(n + 10000) END, now(), now() + interval '1 hour'
    FROM generate_series(4001, 9900) n,
        LATERAL (SELECT (ARRAY['signal', 'timer', 'child'])[n % 3 + 1] AS wait) w;
INSERT INTO durable_token
    (id, run_id, node, unit, queue, fence, wait, waiting_since, wake_at, remaining, failed, total,
     opened)
    SELECT token_no(n), run_no(n), 'm', 'm', 'durable', gen_random_uuid(), 'branches', now(), NULL,
        100, 0, 400, 100
    FROM generate_series(9901, 10000) n;
INSERT INTO durable_token
    (id, run_id, parent_id, node, unit, position, queue, fence, claimed_by, input)
    SELECT token_no(n * 1000 + i), run_no(n), token_no(n), 'm', 'm#' || i, i, 'durable',
        gen_random_uuid(), CASE WHEN i % 50 = 0 THEN gen_random_uuid() END, '1'
    FROM generate_series(9901, 10000) n, generate_series(0, 99) i;
INSERT INTO durable_item (token_id, position, input)
    SELECT token_no(n), i, '1' FROM generate_series(9901, 10000) n, generate_series(100, 399) i;
INSERT INTO durable_journal
    (run_id, unit, node, outcome, undoable, attempt, result, worker, started_at)
    SELECT run_no(n % 2 + 1), 'u' || n, 'u' || n, 'completed', n % 10 = 0, 1,
        '1', gen_random_uuid(), now()
    FROM generate_series(1, 10000) n;
INSERT INTO durable_journal
    (run_id, unit, node, position, outcome, undoable, attempt, result, error, worker, started_at)
    SELECT run_no(r), 'm#' || n, 'm', n, outcome, false, 1,
        CASE outcome WHEN 'completed' THEN '1'::json END,
        CASE outcome WHEN 'failed' THEN '{}'::json END, gen_random_uuid(), now()
    FROM generate_series(9901, 9910) r, generate_series(0, 999) n,
        LATERAL (SELECT CASE n % 100 WHEN 0 THEN 'failed' ELSE 'completed' END AS outcome) o;
INSERT INTO durable_journal
    (run_id, unit, node, outcome, undoable, attempt, result, worker, started_at)
    SELECT run_no(r), 'u' || n, 'u' || n, 'completed', n = 1, 1, '1', gen_random_uuid(), now()
    FROM generate_series(10001, 30000) r, generate_series(1, 3) n;
INSERT INTO durable_run (id, workflow, version, status, input, finished_at, error)
    SELECT run_no(n), 'w' || n % 100, 1, 'failed', '{}', now(),
        json_build_object('type', (ARRAY['Declined', 'Timeout'])[n % 2 + 1], 'message', 'no money')
    FROM generate_series(30001, 32000) n;
INSERT INTO durable_journal
    (run_id, unit, node, outcome, undoable, attempt, error, worker, started_at)
    SELECT run_no(n), 'a#compensate', 'a', 'failed', false, 1, '{}', gen_random_uuid(), now()
    FROM generate_series(30001, 30100) n;
UPDATE durable_token SET failures = '[{"error": {"type": "Declined", "message": "no money"}}]'
    WHERE unit LIKE 'm#%7' OR id < token_no(400);
INSERT INTO durable_definition (workflow, version, plan)
    SELECT 'w' || n, 1, '{"nodes": [], "max_attempts": {"a": 3}}' FROM generate_series(0, 99) n;
INSERT INTO durable_outbox (task, args, options, run_id, token_id, fence, available_at)
    SELECT 'durable.advance', '[]', '{}', run_id, id, fence, now() + interval '1 hour'
    FROM durable_token, generate_series(1, 4);
INSERT INTO durable_inbox (run_id, kind, name)
    SELECT run_no(n), 'command', 'cancel' FROM generate_series(9000, 9999) n;
INSERT INTO durable_inbox (run_id, kind, name, key, payload, consumed_by)
    SELECT run_no(n), 'signal', 'go', i, '1', CASE WHEN i % 2 = 0 THEN token_no(n) END
    FROM generate_series(4001, 9900) n, generate_series(1, 4) i;
INSERT INTO durable_action (name, actor, run_id)
    SELECT (ARRAY['cancel', 'pause', 'retry'])[n % 3 + 1], 'ann', run_no(n)
    FROM generate_series(1, 20000) n;
INSERT INTO durable_action (name, actor, workflow)
    SELECT 'pause', 'ann', 'w' || n FROM generate_series(1, 20) n;
INSERT INTO durable_worker
    (id, node_id, hostname, pid, pool, queues, server_started_at, expires_at, ended_at)
    SELECT gen_random_uuid(), gen_random_uuid(), 'h', n, 'prefork', '[]', now(), now(), now()
    FROM generate_series(1, 2000) n;
ANALYZE
"""
"""Runs of all kinds: 1 to 4,000 have a token that is ready, those to 9,900 one that waits, the last
100 of the 10,000 have forked; 20,000 more, their children, have ended; 2,000 more have failed."""


@contextmanager
def filled(postgres: PostgresServer, template: str) -> Iterator[World]:
    """A world of its own with `FILL` in it, so that plans are made for many rows."""
    with postgres.database("durable_test", template) as name:
        world = World(postgres.url(name))
        for statement in FILL.split(";\n"):
            world.rows(statement)
        yield world
        world.close()


def plan_of(
    world: World, statement: Statement, parameters: Mapping[str, Any], *, scans: bool = True
) -> Any:
    """How Postgres would execute the statement with these parameters.

    Without `scans` as on the library's own connections, which rather take any index.
    """
    text, literals = statement.compiled("public")
    with psycopg.connect(conninfo(world.url)) as connection:
        if not scans:
            connection.execute("SET enable_seqscan = off")
        cursor = psycopg.ClientCursor(connection)
        cursor.execute(b"EXPLAIN (FORMAT JSON) " + text, {**literals, **parameters})
        row = cursor.fetchone()
        connection.rollback()
    assert row is not None
    plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return plan[0]["Plan"]


def scanned(plan: Mapping[str, Any]) -> list[str]:
    """The tables that a plan reads from end to end."""
    here = [plan["Relation Name"]] if plan["Node Type"] == "Seq Scan" else []
    return here + [table for below in plan.get("Plans", ()) for table in scanned(below)]


def index_conditions(plan: Mapping[str, Any]) -> list[str]:
    """By what a plan finds rows in indexes."""
    here = [plan["Index Cond"]] if "Index Cond" in plan else []
    return here + [found for below in plan.get("Plans", ()) for found in index_conditions(below)]


def rows_read(plan: Mapping[str, Any]) -> int:
    """How many rows the nodes of an executed plan have read, those they left out included."""
    looked_at = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    here = sum(plan.get(name, 0) for name in looked_at) * plan["Actual Loops"]
    return int(here) + sum(rows_read(below) for below in plan.get("Plans", ()))

"""A database with 100,000 runs, as one looks after some weeks, and one run of 10,000 units."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from celery import Celery

from celery_durable import Durable

RUNS = 100_000

LARGE = UUID(int=2**127 + 1)
"""The run that has a map of 10,000 items, of which most have ended."""

ITEMS = 10_000


def _plan() -> dict[str, Any]:
    """That of the large run's workflow."""
    durable = Durable(Celery("many", broker="memory://", set_as_current=False))
    made = durable.workflow("large").step(_nothing, name="split")
    line = durable.step(name="line")(_nothing)
    return made.map("lines", over=_nothing, handler=line).plan.as_data()


def _nothing(_: object) -> list[object]:
    return []


FILL = f"""
CREATE FUNCTION created(bigint) RETURNS timestamptz LANGUAGE sql STABLE
    RETURN date_trunc('milliseconds', now()) - ({RUNS} - $1) * interval '20 seconds';
CREATE FUNCTION run_no(bigint) RETURNS uuid LANGUAGE sql STABLE
    RETURN (lpad(to_hex((extract(epoch FROM created($1)) * 1000)::bigint), 12, '0')
        || '7' || lpad(to_hex($1), 19, '0'))::uuid;
INSERT INTO durable_run
    (id, workflow, version, status, key, input, tags, created_at, started_at, finished_at, error)
    SELECT run_no(n), 'w' || n % 20, 1, status, 'k' || n, '{{"order": 7}}',
        json_build_object('tenant', (n % 1000)::text)::jsonb, created(n), created(n),
        CASE WHEN status IN ('completed', 'failed', 'cancelled')
            THEN created(n) + interval '10 seconds' END,
        CASE WHEN status = 'failed' THEN
            json_build_object('type',
                (ARRAY['shop.Declined', 'shop.Timeout', 'KeyError'])[n % 3 + 1],
                'message', 'no money ' || n, 'traceback', repeat('  File "a.py", line 1\n', 40),
                'unit', 'charge') END
    FROM generate_series(1, {RUNS}) n,
        LATERAL (SELECT CASE WHEN n % 10 = 0 THEN 'failed' WHEN n % 5 = 1 THEN 'running'
            WHEN n % 100 = 2 THEN 'pending' WHEN n % 100 = 3 THEN 'cancelled'
            ELSE 'completed' END AS status) s;
INSERT INTO durable_token
    (id, run_id, node, unit, queue, fence, wait, awaits, waiting_since, since, wake_at, failures,
     claimed_by, look_at)
    SELECT gen_random_uuid(), id, 'charge', 'charge', 'durable', gen_random_uuid(), wait,
        CASE WHEN wait = 'signal' THEN 'signoff' END,
        CASE WHEN wait IS NOT NULL THEN created_at END, created_at,
        CASE WHEN wait = 'timer' OR status = 'pending' THEN now() + interval '1 day' END,
        CASE WHEN n % 10 = 4 THEN json_build_array(json_build_object('attempt', 1,
            'error', json_build_object('type', 'shop.Slow', 'message', 'no answer'),
            'started_at', created_at, 'failed_at', created_at)) END,
        CASE WHEN n % 100 = 7 THEN
            ('00000000-0000-0000-0000-' || lpad((n / 100 % 40 + 1)::text, 12, '0'))::uuid END,
        CASE WHEN wait IS NULL AND n % 100 <> 7 THEN created_at END
    FROM (SELECT *, row_number() OVER (ORDER BY id) AS n FROM durable_run
            WHERE status IN ('running', 'pending')) r,
        LATERAL (SELECT CASE WHEN status = 'running' AND n % 10 < 6
            THEN (ARRAY['signal', 'timer', 'signal'])[n % 3 + 1] END AS wait) w;
INSERT INTO durable_worker
    (id, node_id, hostname, pid, pool, queues, knows, server_started_at, expires_at, slots)
    SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, gen_random_uuid(),
        'celery@host' || n / 8, n, 'prefork', '["durable"]',
        (SELECT json_object_agg('w' || w || '@1', '["charge"]'::json)
            FROM generate_series(0, 19) w),
        now(), now() + interval '1 hour', 1
    FROM generate_series(1, 40) n;
INSERT INTO durable_relay (id, hostname, pid, seen_at)
    SELECT gen_random_uuid(), 'celery@host1', 1, now() + interval '1 hour';
INSERT INTO durable_definition (workflow, version, plan)
    SELECT 'w' || n, 1,
        '{{"nodes": [{{"kind": "step", "name": "charge"}}], "max_attempts": {{"charge": 3}}}}'
    FROM generate_series(0, 19) n;
INSERT INTO durable_definition (workflow, version, plan)
    VALUES ('large', 1, '{json.dumps(_plan())}');
INSERT INTO durable_run (id, workflow, version, status, input, started_at)
    VALUES ('{LARGE}', 'large', 1, 'running', '{{}}', now());
INSERT INTO durable_token (id, run_id, node, unit, queue, fence, wait, waiting_since, remaining,
        failed, total, opened)
    VALUES ('{LARGE}', '{LARGE}', 'lines', 'lines', 'durable', gen_random_uuid(), 'branches', now(),
        500, 100, {ITEMS}, {ITEMS});
INSERT INTO durable_token (id, run_id, parent_id, node, unit, position, queue, fence, claimed_by)
    SELECT gen_random_uuid(), '{LARGE}', '{LARGE}', 'lines', 'lines#' || i, i, 'durable',
        gen_random_uuid(),
        CASE WHEN i % 10 = 0 THEN '00000000-0000-0000-0000-000000000001'::uuid END
    FROM generate_series({ITEMS} - 500, {ITEMS} - 1) i;
INSERT INTO durable_journal
    (run_id, unit, node, outcome, undoable, attempt, result, worker, started_at)
    VALUES ('{LARGE}', 'split', 'split', 'completed', false, 1, '1', gen_random_uuid(), now());
INSERT INTO durable_journal
    (run_id, unit, node, position, outcome, undoable, attempt, result, error, failures, worker,
     started_at)
    SELECT '{LARGE}', 'lines#' || i, 'lines', i, outcome, false, 1,
        CASE outcome WHEN 'completed' THEN json_build_object('line', i) END,
        CASE outcome WHEN 'failed' THEN json_build_object('type', 'shop.Declined',
            'message', 'no money', 'traceback', repeat('  File "a.py", line 1\n', 40),
            'unit', 'lines#' || i) END,
        NULL, gen_random_uuid(), now()
    FROM generate_series(0, {ITEMS} - 501) i,
        LATERAL (SELECT CASE i % 95 WHEN 0 THEN 'failed' ELSE 'completed' END AS outcome) o;
DROP FUNCTION run_no, created;
ANALYZE
"""
"""Runs as of some weeks, each 20 seconds after the one before: most have completed, a tenth has
failed, a fifth waits or runs."""

"""P11: a page of a list costs what it shows, among 100,000 runs as among 100."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from celery_durable.store.read import listing
from celery_durable.store.read.filters import checked_filter
from tests.addresses import conninfo
from tests.integration.driving import World
from tests.integration.planning import rows_read
from tests.services import PostgresServer

RUNS, PAGE = 100_000, 50
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
"""When the first was created; each of the others 10 seconds after the one before it."""

IN_DAYS = datetime.now(UTC) + timedelta(days=1)
"""Every token has stood since before that."""

FILL = f"""
CREATE FUNCTION created(bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE
    RETURN '2026-01-01 00:00:00Z'::timestamptz + $1 * interval '10 seconds';
CREATE FUNCTION run_no(bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
    RETURN (lpad(to_hex((extract(epoch FROM created($1)) * 1000)::bigint), 12, '0')
        || '7' || lpad(to_hex($1), 19, '0'))::uuid;
INSERT INTO durable_run
    (id, workflow, version, status, key, input, tags, created_at, finished_at, error)
    SELECT run_no(n), 'w' || n % 100, 1, status, 'k' || n, '{{}}',
        '{{}}', created(n),
        CASE WHEN status <> 'running' THEN created(n) END,
        CASE WHEN status = 'failed' THEN
            json_build_object('type', CASE WHEN n < 1000 THEN 'Rare' ELSE 'Declined' END,
                'message', 'no money ' || n) END
    FROM generate_series(1, {RUNS}) n,
        LATERAL (SELECT CASE WHEN n % 10 = 0 THEN 'failed' WHEN n % 20 = 1 THEN 'running'
            ELSE 'completed' END AS status) s;
INSERT INTO durable_token (id, run_id, node, unit, queue, fence, failures)
    SELECT gen_random_uuid(), id, 'a', 'a', 'durable', gen_random_uuid(),
        CASE WHEN workflow = 'w41' THEN json_build_array(json_build_object('attempt', 1,
            'error', json_build_object('type', 'Slow', 'message', 'no answer'),
            'started_at', created_at, 'failed_at', created_at)) END
    FROM durable_run WHERE status = 'running';
INSERT INTO durable_journal
    (run_id, unit, node, outcome, undoable, attempt, error, worker, started_at)
    SELECT run_no(n), 'a#compensate', 'a', 'failed', false, 1, '{{}}', gen_random_uuid(), now()
    FROM generate_series(1000, 50000, 1000) n;
INSERT INTO durable_definition (workflow, version, plan)
    SELECT 'w' || n, 1, '{{"nodes": [], "max_attempts": {{"a": 3}}}}' FROM generate_series(0, 99) n;
DROP FUNCTION run_no, created;
ANALYZE
"""


@pytest.fixture(scope="module")
def long(postgres: PostgresServer, template_database: str) -> Iterator[World]:
    """A database of 100,000 runs: a tenth have failed, a twentieth are under way."""
    with (
        postgres.database("durable_test", template_database) as name,
        closing(World(postgres.url(name))) as world,
    ):
        for statement in FILL.split(";\n"):
            world.rows(statement)
        yield world


def executed(world: World, filters: Mapping[str, Any]) -> Mapping[str, Any]:
    """The plan of a page of these runs, as it was executed on a connection like the library's."""
    found = checked_filter(**filters)
    text, literals = listing.statement_for(found, None).compiled("public")
    parameters = {**literals, **found.parameters(), "limit": PAGE, "before": None}
    with psycopg.connect(conninfo(world.url)) as connection:
        connection.execute("SET enable_seqscan = off")
        cursor = psycopg.ClientCursor(connection)
        cursor.execute(b"EXPLAIN (ANALYZE, TIMING off, FORMAT JSON) " + text, parameters)
        (row,) = cursor.fetchall()
    plan: Any = row[0] if isinstance(row[0], list) else json.loads(row[0])
    found_plan: Mapping[str, Any] = plan[0]["Plan"]
    return found_plan


FILTERS: Mapping[str, tuple[Mapping[str, Any], int]] = {
    "all": ({}, PAGE),
    "completed": ({"status": "completed"}, PAGE),
    "failed, of a workflow": ({"status": "failed", "workflow": "w40"}, PAGE),
    "of an hour long ago": ({"since": BEGIN, "until": BEGIN + timedelta(minutes=5)}, 29),
    "of the last minute": ({"since": BEGIN + timedelta(seconds=10 * RUNS - 50)}, 6),
    "before all": ({"until": BEGIN}, 0),
    "with a key": ({"key": "k77"}, 1),
    "with a key of a workflow": ({"key": "k77", "workflow": "w77"}, 1),
    "with no key": ({"key": "nobody's"}, 0),
    "with a frequent error": ({"error": "Declined"}, PAGE),
    "with a rare error": ({"error": "Rare"}, PAGE),
    "with a message": ({"error": "Rare: money 550"}, 1),
    "with no such error": ({"error": "Unheard"}, 0),
    "between tries": ({"error": "Slow: no answer"}, PAGE),
    "failed lately": (
        {"status": "failed", "ended_since": BEGIN + timedelta(seconds=10 * RUNS - 500)},
        6,
    ),
    "running, and nothing moves": ({"status": "running", "standing_since": IN_DAYS}, PAGE),
    "nothing moves": ({"standing_since": IN_DAYS}, PAGE),
    "not undone": ({"compensation_failed": True}, PAGE),
    "not undone, of a workflow": ({"compensation_failed": True, "workflow": "w1"}, 0),
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_page_of_a_long_list_reads_few_rows(long: World, name: str) -> None:
    filters, expected = FILTERS[name]
    plan = executed(long, filters)
    assert plan["Actual Rows"] == expected
    assert rows_read(plan) < RUNS / 5

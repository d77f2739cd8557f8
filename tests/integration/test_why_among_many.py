"""P11: why one run waits is read from few rows, among 100,000 that wait as among ten."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any
from uuid import UUID

import psycopg
import pytest

from celery_durable.core.reason import Code, Diagnosis
from celery_durable.store.connection import Parameters, PsycopgConnection, Row, Statement
from celery_durable.store.read import facts
from tests.addresses import conninfo
from tests.integration.driving import World
from tests.integration.planning import rows_read
from tests.services import PostgresServer

RUNS = 100_000
FEW = 1_000
"""A bound on all rows that are looked at: those of the run, of 20 workers, and of Postgres's own
tables of locks and sessions."""

FILL = f"""
CREATE FUNCTION run_no(bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
    RETURN lpad(to_hex($1), 32, '0')::uuid;
INSERT INTO durable_run (id, workflow, version, status, input)
    SELECT run_no(n), 'w', 1, 'running', '{{}}' FROM generate_series(1, {RUNS}) n;
INSERT INTO durable_token
    (id, run_id, node, unit, queue, fence, wait, awaits, child_run_id, waiting_since, claimed_by)
    SELECT gen_random_uuid(), run_no(n), 'a', 'a', 'durable', gen_random_uuid(), wait,
        CASE WHEN wait = 'signal' THEN 'go' END, CASE WHEN wait = 'child' THEN run_no(n + 1) END,
        CASE WHEN wait IS NOT NULL THEN now() END,
        CASE WHEN n % 1000 = 0 THEN run_no(n / 1000 % 20) END
    FROM generate_series(1, {RUNS}) n, LATERAL (SELECT CASE n % 4 WHEN 1 THEN 'signal'
        WHEN 2 THEN 'child' END AS wait) w;
INSERT INTO durable_outbox (task, args, options, run_id, token_id, fence, queue)
    SELECT 'durable.advance', '[]', '{{}}', run_id, id, fence, queue
    FROM durable_token WHERE wait IS NULL AND claimed_by IS NULL AND run_id < run_no({RUNS} / 2);
INSERT INTO durable_inbox (run_id, kind, name)
    SELECT run_no(n), 'signal', 'other' FROM generate_series(1, {RUNS}) n WHERE n % 4 = 1;
INSERT INTO durable_definition (workflow, version, plan)
    VALUES ('w', 1, '{{"nodes": [], "max_attempts": {{"a": 3}}}}');
INSERT INTO durable_worker
    (id, node_id, hostname, pid, pool, queues, knows, server_started_at, expires_at)
    SELECT run_no(n), run_no(n), 'h', n, 'prefork', '["durable"]', '{{"w@1": ["a"]}}', now(),
        now() + interval '1 hour' FROM generate_series(0, 19) n;
UPDATE durable_token SET since = since - interval '1 hour', hinted_at = now() - interval '1 hour'
    WHERE claimed_by IS NULL;
DROP FUNCTION run_no;
ANALYZE
"""


class Counting:
    """A connection like the library's that counts the rows which its statements look at."""

    def __init__(self, raw: psycopg.Connection[Any]) -> None:
        self.schema = "public"
        self.read = Counter[str]()
        self._raw = raw
        self._connection = PsycopgConnection(raw, self.schema)

    def rows(self, statement: Statement, parameters: Parameters | None = None) -> Sequence[Row]:
        text, literals = statement.compiled(self.schema)
        cursor = psycopg.ClientCursor(self._raw)
        explain = b"EXPLAIN (ANALYZE, TIMING off, FORMAT JSON) "
        cursor.execute(explain + text, {**literals, **(parameters or {})})
        ((found,),) = cursor.fetchall()
        plan = found if isinstance(found, list) else json.loads(found)
        self.read[text.decode()] += rows_read(plan[0]["Plan"])
        return self._connection.rows(statement, parameters or {})


@pytest.fixture(scope="module")
def many(postgres: PostgresServer, template_database: str) -> Iterator[World]:
    """100,000 runs: a fourth waits for a signal, one for a child, two for a worker."""
    with (
        postgres.database("durable_test", template_database) as name,
        closing(World(postgres.url(name))) as world,
    ):
        for statement in FILL.split(";\n"):
            world.rows(statement)
        yield world


def explained(world: World, number: int) -> tuple[Diagnosis, Counter[str]]:
    """Why a run waits, and how many rows that took."""
    with psycopg.connect(conninfo(world.url)) as raw:
        raw.execute("SET enable_seqscan = off")  # as the library's own connections do
        counting = Counting(raw)
        found = facts.diagnosis(counting, UUID(int=number))
    assert found is not None
    return found, counting.read


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (50_001, Code.SIGNAL),
        (50_002, Code.CHILD),
        (50_003, Code.BUSY),
        (49_003, Code.NO_RELAY),
        (50_000, Code.EXECUTING),
    ],
)
def test_why_one_of_100_000_runs_waits_is_read_from_few_rows(
    many: World, number: int, code: Code
) -> None:
    found, read = explained(many, number)
    assert found.reasons[0].code is code, found
    assert read.total() < FEW, read.most_common(3)

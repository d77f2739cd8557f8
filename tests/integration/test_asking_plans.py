"""The waits for a person are found by an index among however many runs that wait."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from celery_durable.store.read import asking
from tests.addresses import conninfo
from tests.integration.driving import World
from tests.integration.planning import rows_read
from tests.services import PostgresServer

RUNS = 100_000

FILL = """
CREATE FUNCTION no(bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
    RETURN lpad(to_hex($1), 32, '0')::uuid;
INSERT INTO durable_run (id, workflow, version, status, input)
    SELECT no(n), 'w', 1, 'running', '{}' FROM generate_series(1, 100000) n;
INSERT INTO durable_token
    (id, run_id, node, unit, queue, fence, wait, awaits, waiting_since, assignees)
    SELECT no(n), no(n), 'a', 'a', 'durable', gen_random_uuid(), 'signal', 'go',
        '2026-01-01Z'::timestamptz + n * interval '1 second',
        CASE n % 1000 WHEN 0 THEN '["ann", "bob"]' WHEN 1 THEN '["bob"]' ELSE names END::jsonb
    FROM generate_series(1, 100000) n,
        LATERAL (SELECT CASE WHEN n > 50000 THEN '[]' END AS names) o;
ANALYZE durable_run, durable_token
"""
"""Of 100,000 runs that wait, half wait for a machine; the oldest are among them."""


@pytest.fixture(scope="module")
def crowd(postgres: PostgresServer, template_database: str) -> Iterator[World]:
    with (
        postgres.database("durable_test", template_database) as name,
        closing(World(postgres.url(name))) as world,
    ):
        for statement in FILL.split(";\n"):
            world.rows(statement)
        yield world


FIRST: dict[str, Any] = {"name": None, "since": None, "after": None, "limit": 51}
MIDDLE: dict[str, Any] = {"since": datetime(2026, 1, 1, 20, tzinfo=UTC), "after": UUID(int=72_000)}

PAGES = {
    "the first page": (asking._page(is_mine=False, is_later=False), FIRST),
    "a later page": (asking._page(is_mine=False, is_later=True), FIRST | MIDDLE),
    "mine": (asking._page(is_mine=True, is_later=False), FIRST | {"name": "ann"}),
    "mine, later": (asking._page(is_mine=True, is_later=True), FIRST | MIDDLE | {"name": "ann"}),
    "nobody's": (asking._page(is_mine=True, is_later=False), FIRST | {"name": "eve"}),
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_waits_reads_little_of_many(crowd: World, page: str) -> None:
    plan = executed(crowd, *PAGES[page])
    # A name is looked up, and what names it is sorted: each has 100 waits.
    assert rows_read(plan) < 1_500


def executed(world: World, statement: Any, parameters: Mapping[str, Any]) -> Any:
    """How Postgres has executed the statement."""
    text, literals = statement.compiled("public")
    with psycopg.connect(conninfo(world.url)) as connection:
        cursor = psycopg.ClientCursor(connection)
        cursor.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + text, {**literals, **parameters})
        row = cursor.fetchone()
    assert row is not None
    found = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return found[0]["Plan"]


def test_the_waits_are_those_for_persons_in_order(crowd: World) -> None:
    worker = crowd.worker()
    with worker.database.read_only() as connection:
        first = asking.waits(connection, limit=3)
        last = first[-1]
        second = asking.waits(connection, limit=3, after=(last.since, last.token_id))
        anns = asking.waits(connection, name="ann", limit=1_000)
    assert [wait.run_id.int for wait in (*first, *second)] == [1, 1000, 1001, 2000, 2001, 3000]
    assert [wait.run_id.int for wait in anns] == [*range(1_000, RUNS + 1, 1_000)]
    assert {wait.assignees for wait in anns} == {("ann", "bob")}

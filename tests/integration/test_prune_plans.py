"""P11: what pruning reads has nothing to do with how many runs there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from celery_durable.store import sql
from celery_durable.store.connection import Statement
from celery_durable.store.pruning import counting, erasing, finding, locking, strays
from tests.integration.driving import World
from tests.integration.planning import filled, index_conditions, plan_of, scanned
from tests.services import PostgresServer

ENDED = """
INSERT INTO durable_run (id, workflow, version, status, input, error, forked_from, finished_at)
    SELECT run_no(n), 'w' || n % 100, 1, CASE WHEN n % 10 = 0 THEN 'failed' ELSE 'completed' END,
        '{}', '{}', CASE WHEN n % 100 = 0 THEN run_no(n - 10) END,
        now() - n * interval '1 minute'
    FROM generate_series(100001, 120000) n;
INSERT INTO durable_journal
    (run_id, unit, node, outcome, undoable, attempt, result, worker, started_at)
    SELECT run_no(r), 'u' || n, 'u' || n, 'completed', false, 1, '1', gen_random_uuid(), now()
    FROM generate_series(100001, 120000) r, generate_series(1, 3) n;
ANALYZE
"""
"""Besides what there is: 20,000 runs that have ended, at the top of their trees."""


@pytest.fixture(scope="module")
def full(postgres: PostgresServer, template_database: str) -> Iterator[World]:
    with filled(postgres, template_database) as world:
        for statement in ENDED.split(";\n"):
            world.rows(statement)
        yield world


RUN = {"run_id": UUID(int=100_500)}
OLD = {
    "status": "completed",
    "age": timedelta(days=1),
    "after_time": finding.FIRST.finished_at,
    "after_id": finding.FIRST.id,
    "limit": 100,
}
IDS = {"ids": sql.array(UUID(int=n) for n in range(100_500, 100_520)), "limit": 500}
AGES = dict.fromkeys(("completed", "failed", "cancelled"), timedelta(days=1))
CHILDREN = {"parent": UUID(int=7), "after_id": UUID(int=0), "limit": 100}

STATEMENTS: Mapping[str, tuple[Statement, Mapping[str, Any]]] = {
    "tops of trees": (finding._TOPS, OLD),
    "tops of trees, with those that were forked": (finding._WITH_FORKED, OLD),
    "children of a deleted run": (finding._CHILDREN, CHILDREN),
    "is a tree needed": (finding._NEEDED, {"run_id": UUID(int=7)}),
    "lock trees": (locking._LOCK, IDS),
    "what runs hold": (locking._HOLD, IDS),
    "erase": (erasing._ERASE, IDS),
    "bury": (erasing._BURY, IDS),
    "clear the journal": (erasing._CLEAR, {**RUN, "limit": 100}),
    "forget": (erasing._FORGET, RUN),
    "count": (counting._COUNT, {**IDS, **AGES}),
    "sweep": (strays._SWEEP, {"after": 20_000, "page": 1000}),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_table_is_read_from_end_to_end(full: World, name: str) -> None:
    plan = plan_of(full, *STATEMENTS[name])
    assert set(scanned(plan)) <= {"durable_leftover"}, "which is empty but for moments"


def test_old_runs_are_a_range_of_an_index(full: World) -> None:
    (condition, *_) = index_conditions(plan_of(full, *STATEMENTS["tops of trees"]))
    for part in ("status = 'completed'", "finished_at <= ", "ROW(finished_at, id) > "):
        assert part in condition


def test_a_page_of_a_journal_is_a_range_of_its_key(full: World) -> None:
    conditions = index_conditions(plan_of(full, *STATEMENTS["clear the journal"]))
    assert any("unit <= " in condition for condition in conditions)

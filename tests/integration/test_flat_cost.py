"""P11: the cost of a step does not grow with what came before it."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from celery_durable import Durable
from celery_durable.errors import ResultTimeout, RunCancelled
from celery_durable.run import Run
from tests.integration.driving import World, defining, end, noting
from tests.integration.watching import Meter
from tests.waiting import wait_until

STEPS = 10

EARLIER = """
INSERT INTO durable_journal
    (run_id, unit, node, outcome, undoable, attempt, result, worker, started_at)
SELECT %s, 'old' || n, 'old' || n, 'completed', true, 1, '"x"', %s, now()
FROM generate_series(1, %s) n
"""


def result_before(n: int, ctx: Any) -> Any:
    return ctx.results[f"s{n - 1}"] if n else 0


def long_workflow(durable: Durable) -> None:
    """Steps that can be undone, each of which reads the result of the one before it."""
    workflow = durable.workflow("w")
    for n in range(STEPS):
        step = durable.step(name=f"s{n}")(partial(result_before, n))
        step.compensate(noting([], f"undo {n}"))
        workflow.step(step)


def with_earlier_entries(world: World, worker: Durable, count: int) -> Run:
    run = worker.start("w", {})
    world.rows(EARLIER, run.id, uuid4(), count)
    return run


@pytest.mark.parametrize("inline_steps", [1, 100])
def test_statements_and_rows_per_step_do_not_grow_with_the_journal(
    world: World, meter: Meter, inline_steps: int
) -> None:
    """P11"""
    worker = world.worker(long_workflow, inline_steps=inline_steps)
    costs = []
    for count in (10, 10, 5_000):
        run = with_earlier_entries(world, worker, count)
        meter.statements = meter.returned = 0
        world.drain(worker)
        costs.append((meter.statements, meter.returned))
        assert run.status().completed_steps == STEPS + count

    assert costs[1] == costs[2]
    per_step = 2 if inline_steps > 1 else 4
    assert costs[1][0] <= per_step * STEPS + 5, "one statement commits, one reads a result"


def rows_read(world: World) -> int:
    """How many rows Postgres has fetched or scanned in our tables, by its own count."""
    query = (
        "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint"
        " FROM pg_stat_user_tables WHERE relname LIKE 'durable!_%' ESCAPE '!'"
    )
    return int(world.one(query))


def test_rows_read_per_step_do_not_grow_with_the_journal(fresh: World) -> None:
    """P11: Postgres reads no more of the journal than before."""
    worker = fresh.worker(long_workflow)
    run = with_earlier_entries(fresh, worker, 5_000)
    fresh.rows("ANALYZE")
    fresh.rows("SELECT pg_stat_reset()")
    fresh.drain(worker)
    end(worker)  # a session reports what it has counted when it ends, at the latest
    updates = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'durable_token'"
    wait_until(lambda: fresh.one(updates) >= STEPS, message="the statistics")

    assert rows_read(fresh) < 60 * STEPS
    assert fresh.status(run) == "completed"


def test_a_step_is_a_hot_update(fresh: World) -> None:
    """P11: no index is touched where the run stands."""
    worker = fresh.worker(long_workflow)
    for _ in range(10):
        worker.start("w", {})
    fresh.rows("SELECT pg_stat_reset()")
    fresh.drain(worker)
    end(worker)
    stats = (
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'durable_token'"
    )
    expected = 10 * STEPS  # a claim and nine moves; the last commit deletes the token
    wait_until(lambda: fresh.rows(stats)[0]["n_tup_upd"] >= expected, message="the statistics")

    (found,) = fresh.rows(stats)
    assert found["n_tup_upd"] == expected
    assert found["n_tup_hot_upd"] >= 10 * (STEPS - 1), "all but the claims"


def test_a_start_is_one_statement(world: World, meter: Meter) -> None:
    """P11: with a key it may wait for another start, and has a transaction that bounds the wait."""
    worker = world.worker(defining([], "a"))
    worker.start("w", {})
    costs = []
    for key in (None, "k"):
        meter.statements = 0
        worker.start("w", {}, key=key)
        costs.append(meter.statements)
    assert costs == [1, 2]


def test_a_result_is_one_statement_and_one_more_for_all_runs_below(
    world: World, meter: Meter
) -> None:
    """P11: also one that has not ended, or failed."""

    def define(durable: Durable) -> None:
        parts = durable.workflow("parts").map("m", over=lambda _: [1, 2], handler=lambda c: c.item)
        lowest = durable.workflow("lowest").step(parts, name="a").step(parts, name="b")
        durable.workflow("tree").step(lowest, name="left").step(lowest, name="right")
        durable.workflow("made").step(str, name="a").returns(lambda _: 7)
        durable.workflow("waits").wait_for_signal("go")

    worker = world.worker(define)
    started = {name: worker.start(name) for name in ("parts", "tree", "made", "waits")}
    world.drain(worker)
    worker.cancel(started["waits"].id)
    started["unfinished"] = worker.start("waits")
    world.drain(worker)
    costs, results = {}, {}
    for name, run in started.items():
        meter.statements = 0
        try:
            results[name] = run.result(timeout=0)
        except (ResultTimeout, RunCancelled) as error:
            results[name] = type(error)
        costs[name] = meter.statements

    once = {"m": [1, 2]}
    twice = {"a": once, "b": once}
    assert results == {
        "parts": once,
        "tree": {"left": twice, "right": twice},
        "made": 7,
        "waits": RunCancelled,
        "unfinished": ResultTimeout,
    }
    assert costs == {"parts": 1, "tree": 2, "made": 1, "waits": 1, "unfinished": 1}


def test_an_ordinary_step_is_committed_by_one_statement(world: World, meter: Meter) -> None:
    """P1, P11: one round trip."""
    names = [f"s{n}" for n in range(STEPS)]
    worker = world.worker(defining([], *names))
    worker.start("w", {})
    world.drain(worker)
    worker.start("w", {})
    meter.statements = 0
    world.drain(worker)

    assert meter.statements <= STEPS + 1, "one claim, and one commit for each step"


def test_a_delayed_run_begins_with_three_statements_and_no_step_pays_for_it(
    world: World, meter: Meter
) -> None:
    """P11"""
    worker = world.worker(defining([], *(f"s{n}" for n in range(STEPS))))
    for _ in range(2):
        run = worker.start("w", {}, delay=60)
        world.let_time_pass(61)
        meter.statements = 0
        world.drain(worker)
        statements = meter.statements
        assert run.status().status == "completed"

    begins = 3  # it is marked, and looked at once more: its row may have been locked by a cancel
    assert statements <= 1 + begins + STEPS, "a claim, its beginning, a commit for each step"


def test_an_input_is_stored_once(world: World) -> None:
    """P11: no result or input is copied from row to row as a run advances."""
    marker = "x" * 1000
    worker = world.worker(defining([], "a", "b", "c"), inline_steps=1)
    worker.start("w", {"marker": marker})
    (token_id,) = world.publish()
    worker.engine.advance(token_id)
    holding = [
        table
        for table in ("run", "token", "journal", "outbox")
        for row in world.rows(f"SELECT t::text AS text FROM durable_{table} t")
        if marker in row["text"]
    ]
    assert holding == ["run"]

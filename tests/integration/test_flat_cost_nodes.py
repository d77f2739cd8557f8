"""P11: an item and an iteration cost what they cost, however many there were before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celery_durable import Durable
from tests.forms import short_or_long
from tests.integration.driving import TABLES, Define, World, noting
from tests.integration.planning import filled
from tests.integration.watching import Meter
from tests.services import PostgresServer
from tests.waiting import wait_until

ITEMS, ITERATIONS = short_or_long((500, 300), (2_000, 1_000))
GROWTH = 1.5
"""How much more a unit may cost among ten times as many: an index may be one level deeper."""
ROWS = 8
"""Most rows that Postgres may look at for a unit: its token, its run, its parent, each a few times.
"""

LOOKED_AT = """
SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint AS rows
FROM pg_stat_user_tables
WHERE relname IN ('durable_run', 'durable_token', 'durable_item',
    'durable_journal', 'durable_inbox')
"""
RECORDED = "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'durable_journal'"
OTHERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
)

Cost = dict[str, int]
"""How many statements there were, what they returned, and what Postgres looked at for them."""


@pytest.fixture(scope="module")
def full(postgres: PostgresServer, template_database: str) -> Iterator[World]:
    """A database with many runs in it, where plans are made for many, and nobody cleans up."""
    with filled(postgres, template_database) as world:
        for table in TABLES:
            world.rows(f"ALTER TABLE durable_{table} SET (autovacuum_enabled = off)")
        yield world


def undoable_unit(durable: Durable) -> Any:
    return durable.step(name="unit", compensate=noting([], "undo"))(lambda ctx: ctx.item)


def mapping(**options: Any) -> Define:
    """A map over as many items as the run's input says."""

    def define(durable: Durable) -> None:
        unit = undoable_unit(durable)
        durable.workflow("w").map(
            "m", over=lambda ctx: list(range(ctx.input)), handler=unit, **options
        )

    return define


def looping(iterations: int) -> Define:
    """A loop of so many iterations."""

    def define(durable: Durable) -> None:
        unit = undoable_unit(durable)
        durable.workflow("w").loop(
            "l", unit, max_iterations=iterations, feedback=lambda result: result
        )

    return define


def end_sessions(world: World, worker: Durable) -> None:
    """A session reports what it has counted when it ends, at the latest.

    A thread that was just renewing or auditing gives its connection back after the others.
    """

    def are_ended() -> bool:
        worker.database.close()
        left: int = world.one(OTHERS)
        return left == 0

    wait_until(are_ended, message="the worker's sessions to end")


def cost_of(world: World, meter: Meter, define: Define, units: int, **settings: Any) -> Cost:
    """What a run of so many units costs from its first hint to its end."""
    worker = world.worker(define, **settings)
    run = worker.start("w", units)
    end_sessions(world, worker)
    world.rows("SELECT pg_stat_reset()")
    meter.statements = meter.returned = 0
    world.drain(worker)
    cost = {"statements": meter.statements, "returned": meter.returned}
    assert world.status(run) == "completed"
    worker.liveness.leave()
    end_sessions(world, worker)
    wait_until(lambda: world.one(RECORDED) >= units, message="the statistics")
    (looked_at,) = world.rows(LOOKED_AT)
    return {**cost, **looked_at}


def assert_flat(measure: Callable[[int], Cost], units: int) -> Cost:
    """A unit costs the same in a run of `units` as in one of a tenth; the cost of the former.

    What other sessions of the server report late, Postgres adds to ours: what seems to have grown
    is measured once more.
    """
    few, many = measure(units // 10), measure(units)
    if not is_flat(few, many, units):
        few, many = measure(units // 10), measure(units)
    assert is_flat(few, many, units), (few, many)
    return many


def is_flat(few: Cost, many: Cost, units: int) -> bool:
    grown = max(many[what] / few[what] / 10 for what in few)
    return grown <= GROWTH and many["rows"] <= ROWS * units


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="all at once"),
        pytest.param({"max_concurrency": 10}, id="a window"),
        pytest.param({"max_concurrency": 20, "chunk": 5}, id="a window of chunks"),
    ],
)
def test_an_item_costs_the_same_however_many_have_ended(
    full: World, meter: Meter, options: dict[str, Any]
) -> None:
    """P11"""
    many = assert_flat(lambda units: cost_of(full, meter, mapping(**options), units), ITEMS)
    assert many["statements"] <= 2 * ITEMS + 20, "a claim and a commit for each item"


@pytest.mark.parametrize("inline_steps", [1, 100])
def test_an_iteration_costs_the_same_however_many_there_were(
    full: World, meter: Meter, inline_steps: int
) -> None:
    """P11"""

    def measure(units: int) -> Cost:
        return cost_of(full, meter, looping(units), units, inline_steps=inline_steps)

    many = assert_flat(measure, ITERATIONS)
    per_iteration = 2 if inline_steps == 1 else 1
    assert many["statements"] <= per_iteration * ITERATIONS + 50


def test_the_result_of_a_loop_is_read_without_the_iterations_before(
    world: World, meter: Meter
) -> None:
    """P11: it is the last one's, however many there were."""
    returned = []

    def reading(ctx: Any) -> None:
        before = meter.returned
        assert ctx.results["l"] == 7
        returned.append(meter.returned - before)

    def define(durable: Durable) -> None:
        for iterations in (10, 100):
            workflow = durable.workflow(f"w{iterations}")
            workflow.loop("l", noting([], "body", 7), max_iterations=iterations)
            workflow.step(reading)

    worker = world.worker(define)
    runs = [worker.start("w10"), worker.start("w100")]
    world.drain(worker)

    assert [world.status(run) for run in runs] == ["completed"] * 2
    few, many = sorted(returned)
    assert few == many

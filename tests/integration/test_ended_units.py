"""The units of a run a page at a time, and the signals that have come to it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from celery_durable import Durable
from celery_durable.core.decision import Outcome
from celery_durable.run import Run
from celery_durable.store.read import ended_units, received
from celery_durable.store.read.ended_units import UnitFilter
from tests.integration.driving import ONCE, World, noting


def odd_ones_fail(ctx: Any) -> int:
    if ctx.item % 2:
        raise ValueError(f"{ctx.item} is odd")
    return int(ctx.item)


def fail(_: Any) -> None:
    raise ValueError("no")


def define(durable: Durable) -> None:
    undone = durable.step(name="i", retry=ONCE)(odd_ones_fail)
    undone.compensate(noting([], "undo"))
    (
        durable.workflow("w")
        .step(noting([], "first"), name="first")
        .map("m", over=lambda ctx: ctx.input, handler=undone, tolerate=100)
        .step(fail, name="last", retry=ONCE)
    )
    durable.workflow("waits").wait_for_signal("s", "go").wait_for_signal("t", "more")


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(define)


@pytest.fixture
def run(world: World, durable: Durable) -> Run:
    run: Run = durable.start("w", [*range(6)])
    world.drain(durable)
    assert world.status(run) == "failed"
    return run


def units(durable: Durable, run: Run, limit: int = 100, **options: Any) -> list[str]:
    with durable.database.autocommit() as connection:
        found = ended_units.page(connection, run.id, UnitFilter(**options), limit)
    return [one.unit for one in found]


def test_the_units_of_a_node_are_its_items(durable: Durable, run: Run) -> None:
    items = {f"m#{n}" for n in range(6)}
    assert set(units(durable, run, node="m", is_undo=False)) == items
    assert set(units(durable, run, node="m", outcome=Outcome.FAILED)) == {"m#1", "m#3", "m#5"}
    assert set(units(durable, run, node="m", is_undo=True)) == {
        f"m#{n}#compensate" for n in (0, 2, 4)
    }
    assert units(durable, run, node="nothing") == []


def test_pages_of_units_follow_each_other(durable: Durable, run: Run) -> None:
    whole = units(durable, run)
    assert whole[0] == "first"
    pages: list[list[str]] = []
    while page := units(durable, run, 3, after=pages[-1][-1] if pages else None):
        pages.append(page)
    assert [one for page in pages for one in page] == whole


def test_one_unit_is_read_by_its_name(durable: Durable, run: Run) -> None:
    with durable.database.autocommit() as connection:
        found = ended_units.unit(connection, run.id, "m#3")
        assert found is not None
        assert found.error is not None
        assert found.error.message == "3 is odd"
        assert ended_units.unit(connection, run.id, "m#99") is None


def test_signals_that_have_come_are_read_the_last_first(world: World, durable: Durable) -> None:
    run = durable.start("waits")
    run.resume("go", {"by": "ann"}, key="k")
    run.resume("other", "x" * 1000)
    world.drain(durable)
    with durable.database.autocommit() as connection:
        other, go = received.signals(connection, run.id, 10)
        assert (go.name, go.key, go.is_consumed) == ("go", "k", True)
        assert go.data == '{"by":"ann"}'
        assert (other.name, other.key, other.is_consumed) == ("other", None, False)
        assert other.data == '"' + "x" * (received.SHOWN - 1)
        assert other.size == 1002
        assert received.data(connection, run.id, other.id) == '"' + "x" * 1000 + '"'
        assert received.data(connection, uuid4(), other.id) is None


def test_a_signal_and_an_action_change_what_a_look_is_compared_by(
    world: World, durable: Durable
) -> None:
    run = durable.start("waits")
    with durable.database.autocommit() as connection:
        seen = [received.last(connection, run.id)]
        run.resume("go")
        seen.append(received.last(connection, run.id))
        world.rows("INSERT INTO durable_action (name, run_id) VALUES ('resume', %s)", run.id)
        seen.append(received.last(connection, run.id))
    assert seen[0] == received.Last(None, None)
    assert len(set(seen)) == 3

"""Items that fail: with the node, or kept in their place."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable import Durable
from tests.integration.driving import ONCE, Define, World, error_of, noting
from tests.integration.forks import advance, ended, standing
from tests.integration.workflows import failing, numbers


def test_the_items_that_completed_are_undone_with_their_items(world: World) -> None:
    """P8: newest first, each with its own item and result."""
    undone: list[Any] = []

    def pick(ctx: Any) -> str:
        if ctx.item == "bad":
            raise ValueError("out of stock")
        return f"picked {ctx.item}"

    def define(durable: Durable) -> None:
        step = durable.step(pick, retry=ONCE)
        step.compensate(lambda ctx: undone.append((ctx.item, ctx.result, ctx.iteration)))
        durable.workflow("w").map(
            "lines", over=lambda _: ["x", "bad", None, "y"], handler=step, max_concurrency=2
        )

    worker = world.worker(define)
    run = worker.start("w", {})
    advance(world, worker, run, "lines")
    advance(world, worker, run, "lines#1", "lines#0", "lines#2", "lines#3")
    world.drain(worker)

    assert undone == [("y", "picked y", 3), (None, "picked None", 2), ("x", "picked x", 0)]
    error = error_of(run)
    assert (error.unit, error.message) == ("lines#1", "out of stock")
    assert world.units(run)[:4] == [
        "lines#1 failed",
        *(f"lines#{n} completed" for n in (0, 2, 3)),
    ]
    assert ended(world, run) == "failed"


def test_items_that_are_too_large_together_fail_their_node_once(world: World) -> None:
    """P12"""
    log: list[str] = []
    large = "x" * 1_000_000

    def over(_: Any) -> Any:
        log.append("over")
        return (large for _ in range(100_000))

    def define(durable: Durable) -> None:
        durable.workflow("w").map("lines", over=over, handler=noting(log, "a"))

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)

    assert log == ["over"]
    error = error_of(run)
    assert (error.type, error.unit) == ("PayloadTooLarge", "lines")
    assert "the list of items of lines, up to item 67, is" in error.message
    assert ended(world, run) == "failed"


def test_with_errors_kept_the_place_of_a_failed_item_holds_its_error(world: World) -> None:
    log: list[str] = []

    def pick(ctx: Any) -> int:
        if ctx.item % 2:
            raise ValueError(f"no {ctx.item}")
        return int(ctx.item * 2)

    def define(durable: Durable) -> None:
        step = durable.step(pick, retry=ONCE)
        step.compensate(noting(log, "undo"))
        durable.workflow("w").map(
            "lines", over=numbers, handler=step, on_error="keep", max_concurrency=2
        ).step(lambda ctx: ctx.results["lines"], name="after")

    worker = world.worker(define)
    run = worker.start("w", 4)
    world.drain(worker)

    def kept(n: int) -> dict[str, Any]:
        error = {"type": "ValueError", "message": f"no {n}", "unit": f"lines#{n}"}
        return {"error": error}

    result = run.result(timeout=0)
    assert result["lines"] == result["after"] == [0, kept(1), 4, kept(3)]
    assert log == []
    assert ended(world, run) == "completed"


def test_what_completed_beside_kept_errors_is_undone_when_the_run_fails_later(
    world: World,
) -> None:
    """P8"""
    log: list[str] = []

    def pick(ctx: Any) -> None:
        if ctx.item == 1:
            raise ValueError

    def define(durable: Durable) -> None:
        step = durable.step(pick, retry=ONCE)
        step.compensate(lambda ctx: log.append(ctx.unit))
        durable.workflow("w").map("lines", over=numbers, handler=step, on_error="keep").step(
            failing(), name="last", retry=ONCE
        )

    worker = world.worker(define)
    run = worker.start("w", 3)
    world.drain(worker)

    assert log == ["lines#2#compensate", "lines#0#compensate"]
    assert error_of(run).unit == "last"


@pytest.mark.parametrize("tolerate", [2, "50%"])
@pytest.mark.parametrize("window", [None, 2])
def test_as_many_items_may_fail_as_are_tolerated_and_their_places_hold_their_errors(
    world: World, tolerate: int | str, window: int | None
) -> None:
    log: list[str] = []
    worker = world.worker(tolerating(log, tolerate, window))
    run = worker.start("w", {"items": 5, "bad": [1, 3]})
    world.drain(worker)

    def kept(n: int) -> dict[str, Any]:
        error = {"type": "ValueError", "message": f"no {n}", "unit": f"lines#{n}"}
        return {"error": error}

    assert run.result(timeout=0) == {"lines": [0, kept(1), 2, kept(3), 4], "after": None}
    assert log == ["after"]
    assert ended(world, run) == "completed"


@pytest.mark.parametrize("tolerate", [2, "50%"])
@pytest.mark.parametrize("window", [None, 2])
def test_one_more_item_that_fails_fails_the_node_and_what_completed_is_undone(
    world: World, tolerate: int | str, window: int | None
) -> None:
    """P8"""
    log: list[str] = []
    worker = world.worker(tolerating(log, tolerate, window))
    run = worker.start("w", {"items": 5, "bad": [1, 2, 3]})
    world.drain(worker)

    assert log == ["undo lines#4#compensate", "undo lines#0#compensate"]
    assert error_of(run).unit == "lines#1"
    assert run.status().forks == {}
    assert ended(world, run) == "failed"


def tolerating(log: list[str], tolerate: int | str, window: int | None) -> Define:
    def pick(ctx: Any) -> int:
        if ctx.item in ctx.input["bad"]:
            raise ValueError(f"no {ctx.item}")
        return int(ctx.item)

    def define(durable: Durable) -> None:
        step = durable.step(pick, retry=ONCE)
        step.compensate(lambda ctx: log.append(f"undo {ctx.unit}"))
        durable.workflow("w").map(
            "lines",
            over=lambda ctx: range(ctx.input["items"]),
            handler=step,
            tolerate=tolerate,
            max_concurrency=window,
        ).step(noting(log, "after"), name="after")

    return define


def test_a_child_run_that_fails_is_an_item_like_any_other(world: World) -> None:
    def define(durable: Durable) -> None:
        child = durable.workflow("child").step(failing(), name="a", retry=ONCE)
        durable.workflow("w").map("lines", over=numbers, handler=child, tolerate=1)

    worker = world.worker(define)
    one, two = worker.start("w", 1), worker.start("w", 2)
    world.drain(worker)
    (place,) = one.result(timeout=0)["lines"]
    assert place["error"]["type"] == "ChildFailed"
    assert [ended(world, run) for run in (one, two)] == ["completed", "failed"]


def test_fail_fast_drops_items_that_have_not_begun_and_those_that_wait_for_room(
    world: World,
) -> None:
    log: list[str] = []

    def pick(ctx: Any) -> None:
        if ctx.item == 1:
            raise ValueError
        log.append(ctx.unit)

    def define(durable: Durable) -> None:
        step = durable.step(pick, retry=ONCE)
        step.compensate(lambda ctx: log.append(ctx.unit))
        durable.workflow("w").map(
            "lines", over=numbers, handler=step, max_concurrency=3, fail_fast=True
        )

    worker = world.worker(define)
    run = worker.start("w", 100)
    advance(world, worker, run, "lines")
    advance(world, worker, run, "lines#0", "lines#1")
    assert set(standing(world, run)) == {"lines"}
    assert world.counts()["item"] == 0
    world.drain(worker)

    assert log == ["lines#0", "lines#0#compensate"]
    assert world.units(run) == [
        "lines#0 completed",
        "lines#1 failed",
        "lines#0#compensate completed",
    ]
    assert ended(world, run) == "failed"

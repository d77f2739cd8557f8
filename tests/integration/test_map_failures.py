"""Items that fail: with the node, or kept in their place."""

from __future__ import annotations

from typing import Any

from celery_durable import Durable
from tests.integration.driving import ONCE, World, error_of, noting
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

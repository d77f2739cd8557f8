"""What a loop keeps of its inputs, for the next iteration and for the way back."""

from __future__ import annotations

from typing import Any

from celery_durable import Durable, Suspend
from tests.integration.driving import ONCE, World
from tests.integration.workflows import fail


def test_the_undo_of_an_iteration_sees_its_item_the_first_one_too(world: World) -> None:
    undone: list[Any] = []

    def define(durable: Durable) -> None:
        step = durable.step(name="body", compensate=lambda ctx: undone.append(ctx.item))
        (
            durable.workflow("w")
            .loop(
                "l",
                step(lambda ctx: ctx.item),
                max_iterations=2,
                map_input=lambda _: 5,
                feedback=lambda result: result + 1,
            )
            .step(fail, retry=ONCE)
        )

    worker = world.worker(define)
    worker.start("w")
    world.drain(worker)
    assert undone == [6, 5]


def test_a_loop_asks_for_its_first_input_once(world: World) -> None:
    asked: list[None] = []

    def define(durable: Durable) -> None:
        durable.workflow("w").loop(
            "l",
            lambda ctx: ctx.item,
            max_iterations=3,
            map_input=lambda _: asked.append(None),
        )

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    assert run.result(1) == {"l": None}
    assert asked == [None]


def test_a_compensator_that_suspends_fails(world: World) -> None:
    def define(durable: Durable) -> None:
        step = durable.step(name="s", compensate=lambda _: Suspend())(lambda _: 1)
        durable.workflow("w").step(step).step(fail, retry=ONCE)

    worker = world.worker(define)
    run = worker.start("w")
    for _ in range(8):
        world.drain(worker)
        world.let_time_pass(120)
    assert "s#compensate failed" in world.units(run)

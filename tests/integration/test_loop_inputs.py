"""What the iterations of a loop are given, and what undoes them."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.workflow.suspend import Suspend
from tests.integration.driving import ONCE, World, error_of
from tests.integration.forks import ended
from tests.integration.workflows import failing, looping


def test_the_inputs_are_map_inputs_then_the_feedbacks(world: World) -> None:
    seen: list[Any] = []

    def handler(ctx: Any) -> int:
        seen.append(ctx.item)
        return int(ctx.item["n"] + 1)

    define = looping(
        handler,
        max_iterations=3,
        map_input=lambda ctx: {"n": ctx.input},
        feedback=lambda result: {"n": result * 10},
    )
    worker = world.worker(define, inline_steps=1)
    run = worker.start("w", 4)
    world.drain(worker)

    assert seen == [{"n": 4}, {"n": 50}, {"n": 510}]
    assert run.result(timeout=0)["poll"] == 511


@pytest.mark.parametrize("start", [{"the": "input"}, None, 0])
def test_the_item_is_the_runs_input_where_nothing_else_is_said(world: World, start: Any) -> None:
    seen: list[Any] = []
    worker = world.worker(looping(lambda ctx: seen.append(ctx.item), max_iterations=3))
    worker.start("w", start)
    world.drain(worker)

    assert seen == [start] * 3


def test_a_feedback_of_none_is_an_input(world: World) -> None:
    seen: list[Any] = []
    worker = world.worker(
        looping(lambda ctx: seen.append(ctx.item), max_iterations=3, feedback=lambda _: None)
    )
    worker.start("w", "the input")
    world.drain(worker)

    assert seen == ["the input", None, None]


def test_without_feedback_every_iteration_has_what_map_input_made(world: World) -> None:
    seen: list[Any] = []
    worker = world.worker(
        looping(lambda ctx: seen.append(ctx.item), max_iterations=4, map_input=lambda _: "made")
    )
    worker.start("w", "the input")
    world.drain(worker)

    assert seen == ["made"] * 4


def test_the_iterations_that_completed_are_undone_newest_first(world: World) -> None:
    """P8: each with its own input and result; the one that failed has nothing to undo."""
    undone: list[Any] = []

    def handler(ctx: Any) -> int:
        if ctx.iteration == 3:
            raise ValueError("broken")
        return int(ctx.iteration * 100)

    def define(durable: Durable) -> None:
        step = durable.step(handler, retry=ONCE)
        step.compensate(lambda ctx: undone.append((ctx.unit, ctx.iteration, ctx.result, ctx.item)))
        durable.workflow("w").loop(
            "poll", step, max_iterations=9, feedback=lambda result: result + 1
        )

    worker = world.worker(define, inline_steps=1)
    run = worker.start("w", "input")
    world.drain(worker)

    assert [one[:3] for one in undone] == [(f"poll#{n}#compensate", n, n * 100) for n in (2, 1, 0)]
    assert [one[3] for one in undone] == [101, 1, "input"]
    error = error_of(run)
    assert (error.unit, error.message) == ("poll#3", "broken")
    assert ended(world, run) == "failed"


def test_a_compensator_of_the_first_iteration_has_its_input(world: World) -> None:
    """P8"""
    undone: list[Any] = []

    def define(durable: Durable) -> None:
        step = durable.step(name="body")(lambda _: None)
        step.compensate(lambda ctx: undone.append(ctx.item))
        durable.workflow("w").loop(
            "poll", step, max_iterations=2, map_input=lambda ctx: {"made of": ctx.input}
        ).step(failing(), name="last", retry=ONCE)

    worker = world.worker(define)
    worker.start("w", 5)
    world.drain(worker)

    assert undone == [{"made of": 5}] * 2


def test_map_input_is_asked_once(world: World) -> None:
    """P3: whatever it would say later, for the second iteration too."""
    asked: list[int] = []
    seen: list[int] = []

    def map_input(_: Any) -> int:
        asked.append(1)
        return len(asked)

    worker = world.worker(
        looping(lambda ctx: seen.append(ctx.item), max_iterations=3, map_input=map_input)
    )
    worker.start("w", {})
    world.drain(worker)

    assert (seen, asked) == ([1, 1, 1], [1])


def test_a_step_that_was_suspended_in_the_first_iteration_has_the_same_input(world: World) -> None:
    asked: list[int] = []
    seen: list[int] = []

    def map_input(_: Any) -> int:
        asked.append(1)
        return len(asked)

    def agent(ctx: Any) -> Any:
        seen.append(ctx.item)
        return "done" if ctx.is_resumed else Suspend()

    worker = world.worker(looping(agent, max_iterations=1, map_input=map_input))
    run = worker.start("w", {})
    world.drain(worker)
    run.resume("poll#0")
    world.drain(worker)

    assert seen == [1, 1]
    assert ended(world, run) == "completed"

"""Errors in the functions between steps fail the node; no run is left with nothing to move it."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable import Durable
from tests.integration.driving import World, error_of, noting
from tests.integration.forks import ended
from tests.integration.workflows import failing, saying, undoable

GLUE: dict[str, Any] = {
    "over": lambda w, f: w.map("n", over=f, handler=saying([])),
    "selector": lambda w, f: w.route("n", f, {"a": saying([])}),
    "until": lambda w, f: w.loop("n", saying([]), max_iterations=3, until=f),
    "feedback": lambda w, f: w.loop("n", saying([]), max_iterations=3, feedback=f),
    "map_input": lambda w, f: w.loop("n", saying([]), max_iterations=3, map_input=f),
    "map_input of a child": lambda w, f: w.child_workflow("n", "child", map_input=f),
    "duration": lambda w, f: w.sleep("n", f),
    "returns": lambda w, f: w.returns(f),
}

WRONG: dict[str, Any] = {
    "raises": failing("broken"),
    "returns what has no JSON form": lambda *_: object(),
    "returns too much": lambda *_: "x" * 10_000,
    "raises what is no Exception's text": failing("\0"),
}


@pytest.mark.parametrize("place", GLUE)
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("inline_steps", [1, 100])
def test_errors_in_selectors_and_mappers_strand_the_run(
    world: World, place: str, wrong: str, inline_steps: int
) -> None:
    """P2, P8: they fail the node, once, and what completed before is undone."""
    log: list[str] = []
    asked: list[str] = []

    def function(*given: Any) -> Any:
        asked.append(place)
        return WRONG[wrong](*given)

    def define(durable: Durable) -> None:
        durable.workflow("child").step(noting(log, "c"))
        GLUE[place](durable.workflow("w").step(undoable(durable, log, "before")), function)

    worker = world.worker(define, inline_steps=inline_steps, max_payload_bytes=5_000)
    run = worker.start("w", {})
    world.drain(worker)

    if place == "until" and wrong.startswith("returns"):
        assert ended(world, run) == "completed", "whatever is true says that it is done"
        return
    assert ended(world, run) == "failed"
    assert asked == [place]
    assert log == ["before", "before#compensate"]


@pytest.mark.parametrize("kind", ["step", "workflow"])
@pytest.mark.parametrize("function", ["until", "feedback"])
def test_what_the_iteration_did_is_recorded_and_undone_though_the_loop_fails(
    world: World, kind: str, function: str
) -> None:
    """P8"""
    log: list[str] = []

    def define(durable: Durable) -> None:
        body: Any = undoable(durable, log, "body")
        if kind == "workflow":
            body = durable.workflow("child").step(saying(log), name="body")
        options: dict[str, Any] = {function: failing("broken")}
        durable.workflow("w").loop("n", body, max_iterations=3, **options)

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)

    assert log == (["n#0", "n#0#compensate"] if kind == "step" else ["body"])
    assert world.units(run)[:2] == ["n#0 completed", "n failed"]
    error = error_of(run)
    assert (error.message, error.unit) == ("broken", "n")
    assert ended(world, run) == "failed"


OVERS: dict[str, Any] = {
    "nothing": lambda _: None,
    "text": lambda _: "items",
    "a mapping": lambda _: {"a": 1},
    "a number": lambda _: 3,
    "an item without JSON form": lambda _: [1, object()],
    "an item that is too large": lambda _: [1, "x" * 10_000],
    "too many items": lambda _: range(100_001),
    "a generator that breaks": lambda _: (1 / n for n in (1, 0)),
}


@pytest.mark.parametrize("given", OVERS)
def test_an_over_that_gives_no_list_of_items_fails_the_map(world: World, given: str) -> None:
    """P12: nothing of it is left, and the error says which map."""
    log: list[str] = []

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w").step(undoable(durable, log, "before"))
        workflow.map("lines", over=OVERS[given], handler=saying(log))

    worker = world.worker(define, max_payload_bytes=5_000)
    run = worker.start("w", {})
    world.drain(worker)

    assert log == ["before", "before#compensate"]
    error = error_of(run)
    assert error.unit == "lines"
    assert "lines" in error.message or given == "a generator that breaks"
    assert ended(world, run) == "failed"


def test_items_are_limited_each_and_not_together(world: World) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").map(
            "lines", over=lambda _: ["x" * 4_000] * 10, handler=lambda ctx: len(ctx.item)
        )

    worker = world.worker(define, max_payload_bytes=5_000)
    run = worker.start("w", {})
    world.drain(worker)

    assert run.result(timeout=0) == {"lines": [4_000] * 10}

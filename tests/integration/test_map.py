"""A branch for each item of a list."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from celery_durable import Durable, RetryPolicy
from tests.forms import short_or_long
from tests.integration.driving import Define, Gate, World, noting
from tests.integration.forks import advance, ended, messages
from tests.integration.workflows import numbers


def mapping(handler: Any, over: Callable[[Any], Any], **options: Any) -> Define:
    """A workflow of one map, and a step after it."""

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w")
        workflow.map("lines", over=over, handler=handler, **options).step(noting([], "after"))

    return define


def double(ctx: Any) -> int:
    return int(ctx.item * 2)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize("window", [None, 1, 3])
def test_the_result_is_the_list_of_the_items_results_in_order(
    world: World, count: int, window: int | None
) -> None:
    worker = world.worker(mapping(double, numbers, max_concurrency=window))
    run = worker.start("w", count)
    world.drain(worker)

    assert run.result(timeout=0) == {"lines": [2 * n for n in range(count)], "after": None}
    assert ended(world, run) == "completed"


def test_the_order_is_the_lists_whatever_ended_first(world: World) -> None:
    worker = world.worker(mapping(double, numbers))
    run = worker.start("w", 12)
    advance(world, worker, run, "lines")
    advance(world, worker, run, *reversed([f"lines#{n}" for n in range(12)]))
    world.drain(worker)

    assert run.result(timeout=0)["lines"] == [2 * n for n in range(12)]


def test_an_empty_list_completes_at_once(world: World) -> None:
    """No token is forked, and the worker goes straight on."""
    worker = world.worker(mapping(double, lambda _: []))
    run = worker.start("w", 0)
    (token_id,) = world.publish()
    worker.engine.advance(token_id)

    assert world.units(run) == ["lines completed", "after completed"]
    assert ended(world, run) == "completed"


@pytest.mark.parametrize("window", [None, 1])
def test_an_item_is_given_as_it_was_in_the_list(world: World, window: int | None) -> None:
    items: list[Any] = [None, 0, False, "", "text", [1, [2]], {"k": None}, Decimal("1.10")]
    items.append(datetime(2026, 2, 3, 4, 5, tzinfo=UTC))
    seen: list[tuple[int | None, Any]] = []
    worker = world.worker(
        mapping(
            lambda ctx: seen.append((ctx.iteration, ctx.item)),
            lambda _: iter(items),
            max_concurrency=window,
        )
    )
    run = worker.start("w", "the input")
    world.drain(worker)

    assert seen == list(enumerate(items))
    assert ended(world, run) == "completed"


def test_each_item_has_an_entry_of_its_own(world: World) -> None:
    worker = world.worker(mapping(double, numbers))
    run = worker.start("w", 2)
    world.drain(worker)

    entries = run.history()
    assert [entry.unit for entry in entries] == ["lines#0", "lines#1", "lines", "after"]
    assert [(entry.position, entry.result) for entry in entries[:2]] == [(0, 0), (1, 2)]
    assert entries[2].result is None, "it is put together when it is read"


def test_over_is_evaluated_once_and_its_items_commit_with_the_fork(world: World) -> None:
    """P1, P3: what it would say later does not matter."""
    asked: list[int] = []

    def over(ctx: Any) -> list[int]:
        asked.append(ctx.attempt)
        return list(range(10 * len(asked), 10 * len(asked) + 4))

    define = mapping(lambda ctx: ctx.item, over, max_concurrency=2)
    doomed, other = world.worker(define), world.worker(define)
    run = doomed.start("w", {})
    (token_id,) = world.publish()
    doomed.engine.advance(token_id)
    assert world.counts()["item"] == 2
    advance(world, doomed, run, "lines#0")
    world.kill(doomed)
    world.drain(other)

    assert asked == [1]
    assert run.result(timeout=0)["lines"] == [10, 11, 12, 13]


def test_a_worker_that_dies_in_over_leaves_nothing_of_the_fork(world: World) -> None:
    """P1: another evaluates it."""
    gate = Gate()
    asked: list[int] = []

    def over(_: Any) -> list[int]:
        asked.append(len(asked))
        if len(asked) == 1:
            gate()
            return [1, 2, 3]
        return [7]

    define = mapping(lambda ctx: ctx.item, over)
    run = world.take_over(define, gate)

    assert run.result(timeout=0)["lines"] == [7]
    assert ended(world, run) == "completed"


def test_an_item_is_retried_alone(world: World) -> None:
    tries: list[tuple[int, int]] = []

    def flaky(ctx: Any) -> str:
        tries.append((ctx.item, ctx.attempt))
        if ctx.item == 1 and ctx.attempt < 3:
            raise ConnectionError("again")
        return f"{ctx.item} at {ctx.attempt}"

    def define(durable: Durable) -> None:
        step = durable.step(retry=RetryPolicy(3, initial=0), name="flaky")(flaky)
        durable.workflow("w").map("lines", over=numbers, handler=step)

    worker = world.worker(define)
    run = worker.start("w", 3)
    world.drain(worker)

    assert sorted(tries) == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1)]
    assert run.result(timeout=0)["lines"] == ["0 at 1", "1 at 3", "2 at 1"]
    entry = next(entry for entry in run.history() if entry.unit == "lines#1")
    assert (entry.attempt, len(entry.failures)) == (3, 2)


def test_the_items_go_where_their_step_goes(world: World) -> None:
    def define(durable: Durable) -> None:
        step = durable.step(queue="heavy", priority=3, name="pick")(double)
        durable.workflow("w").map("lines", over=numbers, handler=step, max_concurrency=1)

    worker = world.worker(define)
    run = worker.start("w", 2)
    advance(world, worker, run, "lines")
    first = messages(world)[-1]["options"]
    world.lose_hints()
    advance(world, worker, run, "lines#0")
    (second,) = (row["options"] for row in messages(world))

    assert first == {"queue": "heavy", "priority": 3, "shadow": "w.lines#0"}
    assert second == {"queue": "heavy", "priority": 3, "shadow": "w.lines#1"}


def test_a_workflow_is_an_item_and_gets_it_as_its_input(world: World) -> None:
    def define(durable: Durable) -> None:
        child = durable.workflow("child").step(lambda ctx: ctx.input, name="got")
        child.returns(lambda ctx: ctx.results["got"])
        durable.workflow("w").map(
            "lines", over=lambda _: ["a", None, {"k": 1}], handler=child, max_concurrency=2
        )

    worker = world.worker(define)
    run = worker.start("w", "the parent's")
    world.drain(worker)

    assert run.result(timeout=0) == {"lines": ["a", None, {"k": 1}]}
    assert len(run.status().children) == 3
    assert ended(world, run) == "completed"


def test_a_map_over_what_came_before(world: World) -> None:
    def define(durable: Durable) -> None:
        workflow = durable.workflow("w").step(noting([], "a", [3, 4]))
        workflow.map("first", over=lambda ctx: ctx.results["a"], handler=double)
        workflow.map("second", over=lambda ctx: ctx.results["first"], handler=double)

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)

    assert run.result(timeout=0)["second"] == [12, 16]


def test_many_items_end(world: World) -> None:
    """And nothing of them is left but their entries."""
    many = short_or_long(1_500, 10_000)
    worker = world.worker(mapping(double, numbers, max_concurrency=500, chunk=50))
    run = worker.start("w", many)
    world.drain(worker)

    assert world.status(run) == "completed"
    assert run.result(timeout=0)["lines"] == list(range(0, 2 * many, 2))
    assert world.counts("worker", "definition", "run") == {
        "token": 0,
        "item": 0,
        "journal": many + 2,
        "outbox": 0,
        "inbox": 0,
    }

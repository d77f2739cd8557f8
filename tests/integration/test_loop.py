"""A body that is repeated; each iteration is a commit of its own."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.run import Run
from tests.forms import short_or_long
from tests.integration.driving import Gate, World, error_of, noting
from tests.integration.forks import ended, messages, standing
from tests.integration.workflows import looping


def counting(log: list[int]) -> Any:
    """A handler that leaves the number of its iteration, and returns it."""

    def handler(ctx: Any) -> int:
        log.append(ctx.iteration)
        return int(ctx.iteration)

    return handler


def step_by_step(world: World, worker: Durable, run: Run, messages: int) -> None:
    for _ in range(messages):
        (token_id,) = world.publish()
        worker.engine.advance(token_id)
        assert not world.has_ended(run)


@pytest.mark.parametrize("inline_steps", [1, 100])
def test_each_iteration_is_a_unit_and_a_commit_of_its_own(world: World, inline_steps: int) -> None:
    log: list[int] = []
    committed: list[int] = []

    def handler(ctx: Any) -> int:
        committed.append(world.one("SELECT count(*) FROM durable_journal"))
        return int(counting(log)(ctx))

    worker = world.worker(looping(handler, max_iterations=4), inline_steps=inline_steps)
    run = worker.start("w", {})
    world.drain(worker)

    assert log == committed == [0, 1, 2, 3]
    assert world.units(run) == [
        *(f"poll#{n} completed" for n in range(4)),
        "poll completed",
        "after completed",
    ]
    entries = run.history()
    assert [(e.node, e.position, e.result) for e in entries[:4]] == [
        ("poll", n, n) for n in range(4)
    ]
    assert run.result(timeout=0)["poll"] == 3, "the last iteration's"
    assert ended(world, run) == "completed"


def test_a_run_killed_in_iteration_7_goes_on_with_7(world: World) -> None:
    """P3, P5: never with 0."""
    log: list[int] = []
    gate = Gate()

    def handler(ctx: Any) -> int:
        log.append(ctx.iteration)
        if log == list(range(8)):
            gate()
        return int(ctx.iteration)

    define = looping(handler)
    run = world.take_over(define, gate)

    assert log == [*range(8), 7, 8, 9]
    assert world.units(run)[:10] == [f"poll#{n} completed" for n in range(10)]
    assert ended(world, run) == "completed"


def test_until_is_given_the_result_and_the_iterations_done(world: World) -> None:
    asked: list[tuple[int, int]] = []

    def until(result: int, done: int) -> bool:
        asked.append((result, done))
        return result == 20

    worker = world.worker(looping(lambda ctx: ctx.iteration * 10, until=until))
    run = worker.start("w", {})
    world.drain(worker)

    assert asked == [(0, 1), (10, 2), (20, 3)]
    assert run.result(timeout=0)["poll"] == 20


def test_every_waits_between_the_iterations(world: World) -> None:
    """A row of the outbox that is due then; not before the first, nor after the last."""
    log: list[int] = []
    worker = world.worker(looping(counting(log), max_iterations=3, every=60))
    run = worker.start("w", {})
    for done in (1, 2):
        world.drain(worker)
        assert log == list(range(done))
        (row,) = world.rows(
            "SELECT available_at - clock_timestamp() AS wait, options FROM durable_outbox"
        )
        assert 50 < row["wait"].total_seconds() <= 60
        assert row["options"]["shadow"] == f"w.poll#{done}"
        worker.engine.advance(world.token_id(run))
        assert log == list(range(done)), "a message that comes too early changes nothing"
        world.let_time_pass(60)
    world.drain(worker)

    assert log == [0, 1, 2]
    assert ended(world, run) == "completed"


@pytest.mark.parametrize("on_exhausted", ["complete", "fail"])
def test_a_loop_ends_after_max_iterations(world: World, on_exhausted: str) -> None:
    log: list[int] = []
    worker = world.worker(
        looping(counting(log), max_iterations=3, until=lambda *_: False, on_exhausted=on_exhausted)
    )
    run = worker.start("w", {})
    world.drain(worker)

    assert log == [0, 1, 2]
    if on_exhausted == "complete":
        assert ended(world, run) == "completed"
        assert run.result(timeout=0)["poll"] == 2
        return
    assert ended(world, run) == "failed"
    error = error_of(run)
    assert (error.type, error.unit) == ("LoopExhausted", "poll")
    assert "3 iterations" in error.message
    assert world.units(run)[-2:] == ["poll#2 completed", "poll failed"]


def test_a_loop_that_is_done_with_its_last_iteration_is_not_exhausted(world: World) -> None:
    worker = world.worker(
        looping(counting([]), max_iterations=3, until=lambda _, n: n == 3, on_exhausted="fail")
    )
    run = worker.start("w", {})
    world.drain(worker)

    assert ended(world, run) == "completed"


def test_a_failing_iteration_is_tried_again_alone(world: World) -> None:
    """P3: those before it have been recorded."""
    tries: list[tuple[int, int]] = []

    def flaky(ctx: Any) -> int:
        tries.append((ctx.iteration, ctx.attempt))
        if ctx.iteration == 1 and ctx.attempt < 3:
            raise ConnectionError("again")
        return int(ctx.iteration)

    def define(durable: Durable) -> None:
        step = durable.step(retry=RetryPolicy(3, initial=0), name="flaky")(flaky)
        durable.workflow("w").loop("poll", step, max_iterations=3)

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)

    assert tries == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1)]
    assert [entry.attempt for entry in run.history()[:3]] == [1, 3, 1]
    assert ended(world, run) == "completed"


def test_a_workflow_is_a_loops_body_and_runs_as_a_child_each_time(world: World) -> None:
    def define(durable: Durable) -> None:
        child = durable.workflow("child").step(lambda ctx: ctx.input + 1, name="plus")
        child.returns(lambda ctx: ctx.results["plus"])
        durable.workflow("w").loop(
            "poll",
            child,
            max_iterations=9,
            until=lambda result, n: (result, n) == (8, 3),
            feedback=lambda result: result,
        )

    worker = world.worker(define)
    run = worker.start("w", 5)
    world.drain(worker)

    assert run.result(timeout=0) == {"poll": 8}
    assert len(run.status().children) == 3
    assert ended(world, run) == "completed"


def test_iterations_keep_the_queue_of_their_body(world: World) -> None:
    def define(durable: Durable) -> None:
        step = durable.step(queue="polls", name="body")(lambda _: None)
        durable.workflow("w").step(noting([], "a")).loop("poll", step, max_iterations=2)

    worker = world.worker(define, inline_steps=1)
    run = worker.start("w", {})
    queues = []
    while not world.has_ended(run):
        (row,) = messages(world)
        queues.append((row["options"]["queue"], row["options"]["shadow"]))
        world.lose_hints()
        worker.engine.advance(row["token_id"])

    assert queues == [("durable", "w.a"), ("polls", "w.poll#0"), ("polls", "w.poll#1")]


def test_recovery_brings_a_loop_on_from_where_it_is(world: World) -> None:
    """P2"""
    log: list[int] = []
    worker = world.worker(looping(counting(log), max_iterations=5), inline_steps=2)
    run = worker.start("w", {})
    step_by_step(world, worker, run, 1)
    world.lose_hints()
    world.let_time_pass(3600)
    assert worker.recover() == 1
    assert list(standing(world, run)) == ["poll#2"]
    world.drain(worker)

    assert log == list(range(5))


def test_many_iterations_end(world: World) -> None:
    many = short_or_long(1_000, 10_000)
    worker = world.worker(
        looping(lambda ctx: ctx.iteration, max_iterations=many),
        inline_steps=many // 2,
        inline_seconds=300,
    )
    run = worker.start("w", {})
    world.drain(worker)

    assert world.status(run) == "completed"
    assert world.counts()["journal"] == many + 2
    assert run.result(timeout=0)["poll"] == many - 1
    assert ended(world, run) == "completed"

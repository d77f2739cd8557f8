"""Moving a unit on by hand: try it now, record it, go on after its tries are used up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.errors import ConfigurationError, NotSerializable, RunNotFound, RunRefused
from celery_durable.run import Run
from celery_durable.store import definitions
from tests.integration.driving import Gate, World, all_at_once, error_of, spawn

ANYBODY = "00000000-0000-0000-0000-000000000000"
LATER = RetryPolicy(max_attempts=3, backoff="fixed", initial=3600, jitter=False)
PAUSES = RetryPolicy(max_attempts=1, on_exhausted="pause")


class Flaky:
    """A handler that fails until it is mended; what it was called with."""

    def __init__(self) -> None:
        self.is_mended = False
        self.attempts: list[int] = []

    def __call__(self, ctx: Any) -> str:
        self.attempts.append(ctx.attempt)
        if not self.is_mended:
            raise ValueError("no money")
        return "done"


def flaky(
    world: World, retry: RetryPolicy, more: Callable[[Durable], Any] | None = None
) -> tuple[Durable, Run, Flaky]:
    """A run that stands at `charge`, which has failed once, between `reserve` and `ship`."""
    handler = Flaky()

    def define(durable: Durable) -> None:
        reserve = durable.step(lambda _: None, name="reserve")
        reserve.compensate(lambda _: None)
        charge = durable.step(handler, name="charge", retry=retry)
        durable.workflow("w").step(reserve).step(charge).step(lambda _: None, name="ship")

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    return worker, run, handler


# Try now.


def test_a_unit_between_tries_is_tried_now(world: World) -> None:
    worker, run, handler = flaky(world, LATER)
    handler.is_mended = True
    assert run.retry_now() == ["charge"]
    world.drain(worker)
    assert (handler.attempts, world.status(run)) == ([1, 2], "completed")
    assert world.hints() == 0, "the message for later is gone"


def test_a_try_that_fails_counts_and_the_next_comes_at_its_time(world: World) -> None:
    worker, run, handler = flaky(world, LATER)
    run.retry_now("charge")
    world.drain(worker)
    assert handler.attempts == [1, 2]
    run.retry_now("charge")
    world.drain(worker)
    assert (handler.attempts, world.status(run)) == ([1, 2, 3], "failed")


def test_only_the_named_unit_is_tried(world: World) -> None:
    def fails(_: Any) -> None:
        raise ValueError

    def define(durable: Durable) -> None:
        step = durable.step(fails, name="step", retry=LATER)
        durable.workflow("w").parallel("p", {"x": step, "y": step})

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    assert run.retry_now("p#x") == ["p#x"]
    world.drain(worker)
    assert run.retry_now() == ["p#x", "p#y"]


# Paused once the tries are used up.


def test_a_unit_that_has_used_up_its_tries_waits_with_its_error(world: World) -> None:
    worker, run, handler = flaky(world, PAUSES)
    found = run.status()
    assert (found.status, found.current) == ("paused", ("charge",))
    (unit,) = found.units
    assert unit.error is not None
    assert (unit.waits_for, unit.error.type, unit.error.message) == (
        "operator",
        "ValueError",
        "no money",
    )
    assert world.hints() == 0
    world.let_time_pass(1e6)
    worker.recover()
    world.drain(worker)
    assert handler.attempts == [1]


def test_after_it_is_mended_the_unit_has_one_more_try_and_the_run_goes_on(world: World) -> None:
    worker, run, handler = flaky(world, PAUSES)
    run.retry_now()
    world.drain(worker)
    assert (handler.attempts, run.status().status) == ([1, 2], "paused")
    handler.is_mended = True
    run.retry_now()
    world.drain(worker)
    assert (handler.attempts, world.status(run)) == ([1, 2, 3], "completed")
    (charge,) = [entry for entry in run.history() if entry.unit == "charge"]
    assert [failed.attempt for failed in charge.failures] == [1, 2]


def test_a_cancel_rolls_a_paused_run_back_and_keeps_its_error(world: World) -> None:
    worker, run, _ = flaky(world, PAUSES)
    run.cancel(compensate=True)
    world.drain(worker)
    assert world.status(run) == "cancelled"
    assert world.units(run) == [
        "reserve completed",
        "charge failed",
        "reserve#compensate completed",
    ]
    assert run.history()[1].error.message == "no money"  # type: ignore[union-attr]


def test_a_cancel_without_compensation_ends_it_at_once(world: World) -> None:
    _, run, _ = flaky(world, PAUSES)
    run.cancel()
    assert world.status(run) == "cancelled"
    assert world.units(run) == ["reserve completed", "charge failed"]


def test_giving_up_fails_the_run_all_the_same(world: World) -> None:
    def define(durable: Durable) -> None:
        policy = RetryPolicy(max_attempts=1, on_exhausted="pause", give_up_on=(KeyError,))

        def handler(_: Any) -> None:
            raise KeyError("card")

        durable.workflow("w").step(handler, name="a", retry=policy)

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    assert error_of(run).type == "KeyError"


def test_a_branch_waits_and_its_siblings_end(world: World) -> None:
    handler = Flaky()

    def define(durable: Durable) -> None:
        bad = durable.step(handler, name="bad", retry=PAUSES)
        good = durable.step(lambda _: "fine", name="good")
        durable.workflow("w").parallel("p", {"bad": bad, "good": good})

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    assert run.status().status == "paused"
    handler.is_mended = True
    run.retry_now()
    world.drain(worker)
    assert run.result(timeout=5) == {"p": {"bad": "done", "good": "fine"}}


def test_a_compensation_waits_too(world: World) -> None:
    handler = Flaky()

    def define(durable: Durable) -> None:
        first = durable.step(lambda _: None, name="a")
        first.compensate(handler, retry=PAUSES)

        def fails(_: Any) -> None:
            raise ValueError("b")

        durable.workflow("w").step(first).step(fails, name="b", retry=RetryPolicy(max_attempts=1))

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    assert (world.status(run), run.status().units[0].waits_for) == ("compensating", "operator")
    handler.is_mended = True
    run.retry_now()
    world.drain(worker)
    assert world.units(run) == ["a completed", "b failed", "a#compensate completed"]


def test_crashes_that_are_used_up_pause_too(world: World) -> None:
    gate = Gate()

    def define(durable: Durable) -> None:
        durable.workflow("w").step(lambda _: gate(), name="a", retry=PAUSES)

    doomed = world.worker(define, max_crashes=1)
    run = doomed.start("w")
    at_work = gate.hold(doomed.engine.advance, world.publish()[0])
    world.kill(doomed)
    other = world.worker(define, max_crashes=1)
    world.reap(other)
    world.drain(other)
    assert run.status().units[0].error.type == "WorkerLost"  # type: ignore[union-attr]
    gate.finish(at_work)
    run.retry_now()
    world.drain(other)
    assert world.status(run) == "completed"


def test_the_default_policy_may_say_it_for_all(world: World) -> None:
    handler = Flaky()

    def define(durable: Durable) -> None:
        durable.workflow("w").step(handler, name="a")

    policy = {"max_attempts": 1, "on_exhausted": "pause"}
    worker = world.worker(define, default_retry=policy)
    run = worker.start("w")
    world.drain(worker)
    assert run.status().status == "paused"


# Record by hand.


@pytest.mark.parametrize("retry", [LATER, PAUSES], ids=["between tries", "paused"])
def test_a_skipped_unit_is_recorded_with_its_result_and_the_run_goes_on(
    world: World, retry: RetryPolicy
) -> None:
    worker, run, handler = flaky(world, retry)
    run.skip("charge", {"by": "hand"})
    world.drain(worker)
    assert (handler.attempts, world.status(run)) == ([1], "completed")
    assert run.status().results["charge"] == {"by": "hand"}
    (charge,) = [entry for entry in run.history() if entry.unit == "charge"]
    assert charge.outcome == "completed"
    assert charge.error is not None
    assert (charge.error.type, len(charge.failures)) == ("Skipped", 1)


def test_a_unit_of_a_paused_step_is_skipped_before_its_first_try(world: World) -> None:
    worker, _, handler = flaky(world, PAUSES)
    worker.pause(step="charge")
    run = worker.start("w")
    world.drain(worker)
    run.skip("charge")
    world.drain(worker)
    assert (handler.attempts, world.status(run)) == ([1], "completed")


def test_an_iteration_is_skipped_and_the_loop_s_functions_are_asked(world: World) -> None:
    seen: list[Any] = []

    def define(durable: Durable) -> None:
        def handler(ctx: Any) -> int:
            seen.append(ctx.item)
            if ctx.iteration == 1:
                raise ValueError
            return 10

        durable.workflow("w").loop(
            "l",
            durable.step(handler, name="h", retry=PAUSES),
            max_iterations=5,
            until=lambda result, n: result == 99 and n == 2,
            feedback=lambda result: result + 1,
        )

    worker = world.worker(define)
    run = worker.start("w", 1)
    world.drain(worker)
    run.skip("l#1", 99)
    world.drain(worker)
    assert (seen, world.status(run)) == ([1, 11], "completed")
    assert run.result(timeout=5) == {"l": 99}


def test_an_item_is_skipped_and_the_map_joins(world: World) -> None:
    def define(durable: Durable) -> None:
        def handler(ctx: Any) -> int:
            if ctx.item == 2:
                raise ValueError
            return int(ctx.item)

        item = durable.step(handler, name="h", retry=PAUSES)
        durable.workflow("w").map("m", over=lambda _: [1, 2, 3], handler=item)

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    run.skip("m#1", 20)
    world.drain(worker)
    assert run.result(timeout=5) == {"m": [1, 20, 3]}


def test_a_compensation_is_skipped(world: World) -> None:
    handler = Flaky()

    def define(durable: Durable) -> None:
        first = durable.step(lambda _: None, name="a")
        first.compensate(handler, retry=PAUSES)

        def fails(_: Any) -> None:
            raise ValueError("b")

        durable.workflow("w").step(first).step(fails, name="b", retry=RetryPolicy(max_attempts=1))

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    run.skip("a#compensate")
    world.drain(worker)
    assert world.units(run)[-1] == "a#compensate completed"
    assert run.status().compensation_errors == {}


def test_what_a_skipped_unit_did_by_hand_is_undone_like_any_other(world: World) -> None:
    undone: list[Any] = []

    def define(durable: Durable) -> None:
        def fails(_: Any) -> None:
            raise ValueError

        first = durable.step(fails, name="a", retry=PAUSES)
        first.compensate(lambda ctx: undone.append(ctx.result))
        durable.workflow("w").step(first).step(fails, name="b", retry=RetryPolicy(max_attempts=1))

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    run.skip("a", "paid by cheque")
    world.drain(worker)
    assert (undone, world.status(run)) == (["paid by cheque"], "failed")


def test_a_cancel_that_comes_before_the_record_ends_the_run(world: World) -> None:
    worker, run, _ = flaky(world, PAUSES)
    run.skip("charge")
    run.cancel()
    world.drain(worker)
    assert world.status(run) == "cancelled"
    assert "charge completed" not in world.units(run)


def test_what_was_done_by_hand_is_undone_by_a_cancel_that_comes_before_the_record(
    world: World,
) -> None:
    undone: list[Any] = []

    def define(durable: Durable) -> None:
        charge = durable.step(Flaky(), name="charge", retry=PAUSES)
        charge.compensate(lambda ctx: undone.append(ctx.result))
        durable.workflow("w").step(charge)

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    run.skip("charge", "paid in cash")
    run.cancel(compensate=True)
    world.drain(worker)
    assert (undone, world.status(run)) == (["paid in cash"], "cancelled")


def test_a_branch_that_was_done_by_hand_is_undone_by_such_a_cancel(world: World) -> None:
    undone: list[Any] = []

    def define(durable: Durable) -> None:
        charge = durable.step(Flaky(), name="charge", retry=PAUSES)
        charge.compensate(lambda ctx: undone.append(ctx.result))
        durable.workflow("w").parallel("p", {"x": charge, "y": charge})

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    run.skip("p#x", "paid in cash")
    run.cancel(compensate=True)
    world.drain(worker)
    assert (undone, world.status(run)) == (["paid in cash"], "cancelled")


def test_a_worker_that_was_declared_dead_cannot_commit_over_a_skip(world: World) -> None:
    """A skip against a late commit."""
    gate = Gate()

    def define(durable: Durable) -> None:
        policy = RetryPolicy(max_attempts=2, initial=3600)

        def handler(ctx: Any) -> str:
            if ctx.attempt == 1:
                raise ValueError
            gate()
            return "late"

        durable.workflow("w").step(handler, name="a", retry=policy)

    doomed, other = world.worker(define), world.worker(define)
    run = doomed.start("w")
    world.drain(doomed)
    run.retry_now()
    at_work = gate.hold(doomed.engine.advance, world.publish()[0])
    world.kill(doomed)
    world.reap(other)
    run.skip("a", "by hand")
    world.drain(other)
    gate.finish(at_work)
    assert run.result(timeout=5) == {"a": "by hand"}


def test_of_two_operators_at_once_one_is_refused(world: World) -> None:
    worker, run, _ = flaky(world, PAUSES)

    def skip(result: str) -> Callable[[], str]:
        def call() -> str:
            try:
                worker.run(run.id).skip("charge", result)
            except RunRefused as error:
                return str(error)
            return "skipped"

        return call

    answers = all_at_once([skip("one"), skip("two")])
    assert sorted(answer == "skipped" for answer in answers) == [False, True]
    refused = next(answer for answer in answers if answer != "skipped")
    assert "was skipped or cancelled" in refused
    world.drain(worker)
    assert world.units(run).count("charge completed") == 1


def test_of_a_retry_and_a_skip_at_once_one_is_refused_or_both_are_one(world: World) -> None:
    worker, run, handler = flaky(world, PAUSES)

    def quietly(call: Callable[[], object]) -> Callable[[], bool]:
        def tried() -> bool:
            try:
                call()
            except RunRefused:
                return False
            return True

        return tried

    all_at_once([quietly(lambda: run.skip("charge", 1)), quietly(run.retry_now)])
    handler.is_mended = True
    world.drain(worker)
    assert world.status(run) == "completed"
    assert world.units(run).count("charge completed") == 1


# What cannot be done.


def test_a_unit_that_is_executed_is_left_alone(world: World) -> None:
    gate = Gate()

    def handler(ctx: Any) -> None:
        if ctx.attempt == 1:
            raise ValueError
        gate()

    worker = world.worker(
        lambda durable: durable.workflow("w").step(handler, name="charge", retry=LATER)
    )
    run = worker.start("w")
    world.drain(worker)
    run.retry_now()
    at_work = gate.hold(worker.engine.advance, world.publish()[0])
    with pytest.raises(RunRefused, match="charge is being executed"):
        run.skip("charge")
    with pytest.raises(RunRefused, match="charge is being executed"):
        run.retry_now()
    gate.finish(at_work)
    assert world.status(run) == "completed"


def test_a_unit_that_is_about_to_begin_is_not_skipped(world: World) -> None:
    worker = world.worker(lambda durable: durable.workflow("w").step(lambda _: 1, name="a"))
    run = worker.start("w")
    with pytest.raises(RunRefused, match="a is about to begin"):
        run.skip("a")


@pytest.mark.parametrize("name", ["s", "g", "r#route", "m", "c"])
def test_what_executes_no_step_is_not_skipped(world: World, name: str) -> None:
    def define(durable: Durable) -> None:
        step = durable.step(lambda _: None, name="step")
        durable.workflow("child").step(step)
        durable.workflow("s").sleep("s", 60)
        durable.workflow("g").wait_for_signal("g")
        durable.workflow("r").route("r", lambda _: "x", {"x": step})
        durable.workflow("m").map("m", over=lambda _: [1], handler=step)
        durable.workflow("c").child_workflow("c", "child")

    worker = world.worker(define)
    run = worker.start(name.removesuffix("#route"))
    run.pause()
    with pytest.raises(RunRefused, match="executes no step"):
        run.skip(name)


def test_a_result_that_is_no_json_is_refused(world: World) -> None:
    _, run, _ = flaky(world, PAUSES)
    with pytest.raises(NotSerializable, match="the result of charge"):
        run.skip("charge", object())
    assert world.token(run)["flags"] == 0


def test_a_run_that_has_ended_is_not_steered(world: World) -> None:
    worker = world.worker(lambda durable: durable.workflow("w").step(lambda _: 1, name="a"))
    run = worker.start("w")
    world.drain(worker)
    for call in (lambda: run.skip("a"), run.retry_now):
        with pytest.raises(RunRefused, match="has ended, completed"):
            call()
    with pytest.raises(RunNotFound):
        worker.skip(ANYBODY, "a")
    with pytest.raises(RunNotFound):
        worker.retry_now(ANYBODY)


def test_a_unit_where_the_run_does_not_stand_is_refused_with_where_it_stands(world: World) -> None:
    _, run, _ = flaky(world, PAUSES)
    with pytest.raises(RunRefused, match="does not stand at ship, but at charge"):
        run.retry_now("ship")
    with pytest.raises(RunRefused, match=r"reserve of run .* has ended already"):
        run.skip("reserve")


def test_a_policy_with_another_word_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"on_exhausted=...\) takes one of fail, pause"):
        RetryPolicy(on_exhausted="stop")  # type: ignore[arg-type]


def test_a_skip_and_a_cancel_do_not_wait_for_each_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel locks the token and then the run; whoever skips must not lock them the other way."""
    worker, run, _ = flaky(world, LATER)
    gate = Gate()
    plan = definitions.plan

    def looked_up(*arguments: Any) -> Any:
        found = plan(*arguments)
        gate()
        return found

    monkeypatch.setattr(definitions, "plan", looked_up)
    skipping = gate.hold(run.skip, "charge", 1)
    cancelling = spawn(worker.cancel, run.id)
    cancelling.result(timeout=30)
    with pytest.raises(RunRefused):
        gate.finish(skipping)
    assert world.status(run) == "cancelled"


def test_a_loop_whose_function_kills_workers_after_a_skip_fails(world: World) -> None:
    """P2: a unit that is recorded by hand is bounded in its crashes like any other."""
    calls: list[int] = []
    gates: list[Gate] = []

    def until(_: Any, n: int) -> bool:
        calls.append(n)
        gates[-1]()
        return True

    def define(durable: Durable) -> None:
        step = durable.step(Flaky(), name="s", retry=PAUSES)
        durable.workflow("w").loop("l", step, max_iterations=3, until=until)

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    run.skip("l#0", 1)
    for _ in range(3):
        gates.append(Gate())
        doomed = world.worker(define)
        at_work = gates[-1].hold(doomed.engine.advance, world.publish()[0])
        world.kill(doomed)
        assert world.reap(worker) == 1
        gates[-1].finish(at_work)
    world.drain(worker)
    assert len(calls) == 3
    assert (error_of(run).type, error_of(run).unit) == ("WorkerLost", "l")


def test_a_run_that_is_delayed_and_skipped_has_begun(world: World) -> None:
    worker = world.worker(lambda durable: durable.workflow("w").step(lambda _: 1, name="a"))
    run = worker.start("w", delay=3600)
    run.pause()
    run.skip("a", 2)
    world.drain(worker)
    found = run.status()
    assert found.status == "completed"
    assert found.started_at is not None


def test_what_was_skipped_is_tried_no_more_in_the_words_of_why(world: World) -> None:
    _, run, _ = flaky(world, LATER)
    run.skip("charge", 1)
    assert "tried again" not in str(run.why())
    assert run.status().wake_at is None
    assert world.hints() == 1


def test_a_branch_that_was_skipped_is_not_dropped_by_a_failing_sibling(world: World) -> None:
    undone: list[Any] = []

    def define(durable: Durable) -> None:
        x = durable.step(lambda _: None, name="x")
        x.compensate(lambda ctx: undone.append(ctx.result))
        y = durable.step(Flaky(), name="y", retry=RetryPolicy(max_attempts=1))
        durable.workflow("w").parallel("p", {"x": x, "y": y}, fail_fast=True)

    worker = world.worker(define)
    worker.start("w")
    worker.pause(step="x")
    fork, *_ = world.publish()
    worker.engine.advance(fork)
    (run,) = worker.list()
    worker.skip(run.run_id, "p#x", "by hand")
    branches = world.rows("SELECT id, part FROM durable_token WHERE parent_id IS NOT NULL")
    by_part = {row["part"]: row["id"] for row in branches}
    worker.engine.advance(by_part["y"])
    worker.unpause(step="x")
    world.drain(worker)
    assert undone == ["by hand"]

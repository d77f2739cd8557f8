"""P8: compensation is as durable as progress."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.errors import GiveUp
from tests.integration.driving import ONCE, Define, Gate, World, noting


class Saga:
    """A workflow of `names`, each of which can be undone, and a last step that fails."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.log: list[str] = []
        self.seen: dict[str, Any] = {}

    def define(self, **undo_options: Any) -> Define:
        def define(durable: Durable) -> None:
            workflow = durable.workflow("w")
            for name in self.names:
                step = durable.step(noting(self.log, name, result=f"result of {name}"))
                step.compensate(**undo_options)(self.undo(name))
                workflow.step(step)
            workflow.step(self.fail, name="last", retry=ONCE)

        return define

    def undo(self, name: str) -> Any:
        def handler(ctx: Any) -> None:
            self.log.append(f"undo {name}")
            self.seen[name] = (ctx.result, ctx.error and ctx.error.message, ctx.unit, ctx.step)
            self.while_undoing(name, ctx)

        return handler

    def while_undoing(self, name: str, ctx: Any) -> None:
        """What the test makes of a compensator."""

    def fail(self, ctx: Any) -> None:  # noqa: ARG002
        self.log.append("last")
        raise ValueError("out of stock")


@pytest.mark.parametrize("inline_steps", [1, 100])
def test_what_completed_is_undone_in_reverse_order(world: World, inline_steps: int) -> None:
    """P8: by the order of completion, each journaled."""
    saga = Saga("a", "b", "c")
    worker = world.worker(saga.define(), inline_steps=inline_steps)
    run = worker.start("w", {})

    world.drain(worker)

    assert saga.log == ["a", "b", "c", "last", "undo c", "undo b", "undo a"]
    assert world.units(run) == [
        *(f"{name} completed" for name in ("a", "b", "c")),
        "last failed",
        *(f"{name}#compensate completed" for name in ("c", "b", "a")),
    ]
    snapshot = run.status()
    assert snapshot.status == "failed"
    assert snapshot.error is not None
    assert (snapshot.error.unit, snapshot.error.message) == ("last", "out of stock")
    assert snapshot.compensation_errors == {}


def test_a_compensator_is_given_the_result_and_the_failure(world: World) -> None:
    """P8"""
    saga = Saga("a")
    worker = world.worker(saga.define())
    worker.start("w", {})

    world.drain(worker)

    assert saga.seen == {"a": ("result of a", "out of stock", "a#compensate", "a")}


def test_steps_without_a_compensator_are_passed_over(world: World) -> None:
    """P8"""
    log: list[str] = []

    def fail(ctx: Any) -> None:
        raise GiveUp("no")

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w")
        for name in ("a", "b", "c"):
            step = durable.step(noting(log, name))
            if name != "b":
                step.compensate(noting(log, f"undo {name}"))
            workflow.step(step)
        failing = durable.step(fail)
        failing.compensate(noting(log, "undo what failed"))
        workflow.step(failing).step(noting(log, "never"))

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)

    assert log == ["a", "b", "c", "undo c", "undo a"]
    assert run.status().status == "failed"


def test_a_failure_with_nothing_to_undo_ends_the_run_at_once(world: World) -> None:
    """P8"""
    saga = Saga()
    worker = world.worker(saga.define())
    run = worker.start("w", {})
    world.drain(worker)

    assert run.status().status == "failed"
    assert world.units(run) == ["last failed"]


def test_a_crash_in_the_middle_of_the_rollback_resumes_there(world: World) -> None:
    """P8"""
    gate = Gate()

    class Hanging(Saga):
        def while_undoing(self, name: str, ctx: Any) -> None:  # noqa: ARG002
            if self.log.count("undo b") == 1:
                gate()

    saga = Hanging("a", "b", "c")
    victim, other = world.worker(saga.define()), world.worker(saga.define())
    run = victim.start("w", {})
    (token_id,) = world.publish()
    at_work = gate.hold(victim.engine.advance, token_id)
    assert run.status().status == "compensating"
    world.kill(victim)
    assert world.reap(other) == 1

    world.drain(other)

    assert saga.log == [
        *("a", "b", "c", "last"),
        *("undo c", "undo b", "undo b", "undo a"),
    ]
    assert run.status().status == "failed"
    gate.finish(at_work)
    assert world.units(run).count("b#compensate completed") == 1


def test_a_compensator_that_fails_for_good_is_journaled_and_the_others_run(world: World) -> None:
    """P8"""

    class Stubborn(Saga):
        def while_undoing(self, name: str, ctx: Any) -> None:  # noqa: ARG002
            if name == "b":
                raise ConnectionError("no refund today")

    saga = Stubborn("a", "b", "c")
    worker = world.worker(saga.define(retry=RetryPolicy(max_attempts=2, initial=0)))
    run = worker.start("w", {})

    world.drain(worker)

    assert saga.log[4:] == ["undo c", "undo b", "undo b", "undo a"]
    assert world.units(run)[-3:] == [
        "c#compensate completed",
        "b#compensate failed",
        "a#compensate completed",
    ]
    snapshot = run.status()
    assert snapshot.status == "failed"
    assert list(snapshot.compensation_errors) == ["b#compensate"]
    assert snapshot.compensation_errors["b#compensate"].message == "no refund today"
    assert snapshot.error is not None
    assert snapshot.error.message == "out of stock", "the failure stays the failure"


def test_a_compensator_has_five_attempts_unless_it_says_otherwise(world: World) -> None:
    """P8: whatever the policy of its step is."""

    class Stubborn(Saga):
        def while_undoing(self, name: str, ctx: Any) -> None:  # noqa: ARG002
            self.seen.setdefault("attempts", []).append(ctx.attempt)
            raise ConnectionError

    saga = Stubborn("a")
    worker = world.worker(saga.define())
    run = worker.start("w", {})
    for _ in range(8):
        world.drain(worker)
        world.let_time_pass(100)

    assert saga.seen["attempts"] == [1, 2, 3, 4, 5]
    assert run.status().status == "failed"


def test_a_compensator_that_kills_its_workers_is_given_up_and_the_others_run(
    world: World,
) -> None:
    """P5, P8"""
    saga = Saga("a", "b")
    worker = world.worker(saga.define(), inline_steps=1)
    run = worker.start("w", {})
    for _ in range(3):
        (token_id,) = world.publish()
        worker.engine.advance(token_id)
    world.rows("UPDATE durable_token SET crashes = 3")

    world.drain(worker)

    assert saga.log == ["a", "b", "last", "undo a"]
    errors = run.status().compensation_errors
    assert {unit: error.type for unit, error in errors.items()} == {"b#compensate": "WorkerLost"}


def test_a_transactional_compensator_commits_with_its_entry(world: World) -> None:
    """P6, P8"""
    world.rows("CREATE TABLE refund (attempt integer)")

    class Booking(Saga):
        def while_undoing(self, name: str, ctx: Any) -> None:  # noqa: ARG002
            ctx.session.connection().exec_driver_sql(
                f"INSERT INTO refund VALUES ({int(ctx.attempt)})"
            )
            if ctx.attempt == 1:
                raise ConnectionError

    saga = Booking("a")
    worker = world.worker(
        saga.define(transactional=True, retry=RetryPolicy(max_attempts=2, initial=0))
    )
    run = worker.start("w", {})
    world.drain(worker)

    assert world.rows("SELECT * FROM refund") == [{"attempt": 2}]
    assert run.status().status == "failed"


def test_the_message_of_a_compensation_has_its_own_task_and_queue(world: World) -> None:
    """P8"""
    saga = Saga("a")
    worker = world.worker(saga.define(queue="refunds"), inline_steps=1)
    worker.start("w", {})
    for _ in range(2):
        (token_id,) = world.publish()
        worker.engine.advance(token_id)

    (hint,) = world.rows("SELECT task, options FROM durable_outbox")
    assert hint["task"] == "durable.compensate"
    assert hint["options"] == {"queue": "refunds", "shadow": "w.a#compensate"}


def test_a_cancelled_run_whose_undo_fails_for_good_ends_failed_with_that_error(
    world: World,
) -> None:
    """P8"""

    def define(durable: Any) -> None:
        workflow = durable.workflow("w")
        for name in ("a", "b", "c"):
            step = durable.step(lambda _: None, name=name)
            step.compensate(refuse, retry=RetryPolicy(max_attempts=1))
            workflow.step(step)

    def refuse(ctx: Any) -> None:
        raise ValueError(f"no {ctx.unit}")

    worker = world.worker(define, inline_steps=1)
    run = worker.start("w", {})
    for token_id in (*world.publish(),):
        worker.engine.advance(token_id)
    run.cancel(compensate=True)
    world.drain(worker)
    snapshot = run.status()
    assert snapshot.status == "failed"
    assert snapshot.error is not None
    assert snapshot.error.message == "no a#compensate"
    assert set(snapshot.compensation_errors) == {"a#compensate"}

"""A cancel ends a run wherever it stands; once it has committed no further unit begins."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.engine.ids import uuid7
from celery_durable.errors import RunCancelled, RunNotFound
from celery_durable.store.commit import statement
from celery_durable.store.commit.statement import FlagRaised
from tests.integration.driving import Define, Gate, World, defining, noting
from tests.integration.forks import ended
from tests.integration.workflows import fail


def undoable_steps(log: list[str], *names: str, gate: Gate | None = None) -> Define:
    """Steps that can be undone; the last one waits at the gate."""

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w")
        for name in names:
            step = durable.step(noting(log, name, gate=gate if name == names[-1] else None))
            step.compensate(noting(log, f"undo {name}"))
            workflow.step(step)

    return define


@pytest.mark.parametrize("compensate", [False, True])
def test_a_run_that_has_not_begun_ends_at_once(world: World, compensate: bool) -> None:
    log: list[str] = []
    worker = world.worker(defining(log, "a"))
    run = worker.start("w", {})

    run.cancel(compensate=compensate, reason="ordered twice")
    world.drain(worker)

    assert ended(world, run) == "cancelled"
    assert log == []
    with pytest.raises(RunCancelled, match="ordered twice"):
        run.result(timeout=0)


def test_a_delayed_run_ends_long_before_its_time(world: World) -> None:
    log: list[str] = []
    worker = world.worker(defining(log, "a"))
    run = worker.start("w", {}, delay=3600)

    run.cancel()
    world.drain(worker)

    assert ended(world, run) == "cancelled"
    assert run.status().started_at is None
    world.let_time_pass(3601)
    world.drain(worker)
    assert log == []


def test_a_run_between_two_tries_ends_at_once(world: World) -> None:
    log: list[str] = []

    def fail(ctx: Any) -> None:
        log.append("fail")
        raise ValueError

    def define(durable: Durable) -> None:
        durable.workflow("w").step(fail, retry=RetryPolicy(initial=3600))

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)

    run.cancel()
    world.drain(worker)

    assert ended(world, run) == "cancelled"
    assert log == ["fail"]


def test_a_run_between_two_tries_is_undone_when_that_is_asked(world: World) -> None:
    log: list[str] = []

    def define(durable: Durable) -> None:
        a = durable.step(noting(log, "a"))
        a.compensate(noting(log, "undo a"))
        durable.workflow("w").step(a).step(fail, retry=RetryPolicy(initial=3600))

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)

    run.cancel(compensate=True)
    world.drain(worker)

    assert ended(world, run) == "cancelled"
    assert log == ["a", "undo a"]


def test_a_cancel_between_two_steps_lets_no_further_one_begin(world: World) -> None:
    log: list[str] = []
    worker = world.worker(defining(log, "a", "b"), inline_steps=1)
    run = worker.start("w", {})
    (token_id,) = world.publish()
    worker.engine.advance(token_id)

    run.cancel()
    world.drain(worker)

    assert ended(world, run) == "cancelled"
    assert log == ["a"]
    assert world.units(run) == ["a completed"]


class Executing:
    """A worker in the middle of the step `b` of a run whose step `a` has completed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.log: list[str] = []
        self.gate = Gate()
        self.worker = world.worker(undoable_steps(self.log, "a", "b", gate=self.gate))
        self.run = self.worker.start("w", {})
        (token_id,) = world.publish()
        self.at_work = self.gate.hold(self.worker.engine.advance, token_id)

    def finish(self) -> str:
        self.gate.finish(self.at_work)
        self.world.drain(self.worker)
        return ended(self.world, self.run)


def test_a_unit_that_is_executed_ends_and_its_result_is_dropped(world: World) -> None:
    scene = Executing(world)

    scene.run.cancel(reason="too late")

    assert scene.finish() == "cancelled"
    assert scene.log == ["a", "b"]
    assert world.units(scene.run) == ["a completed", "b cancelled"]
    (_, dropped) = scene.run.history()
    assert dropped.result is None


def test_with_compensation_its_result_counts_and_everything_is_undone(world: World) -> None:
    scene = Executing(world)

    scene.run.cancel(compensate=True)

    assert scene.finish() == "cancelled"
    assert scene.log == ["a", "b", "undo b", "undo a"]
    assert world.units(scene.run) == [
        "a completed",
        "b completed",
        "b#compensate completed",
        "a#compensate completed",
    ]


def test_a_later_cancel_never_takes_compensation_back(world: World) -> None:
    scene = Executing(world)

    scene.run.cancel(compensate=True)
    scene.run.cancel(compensate=False)

    assert scene.finish() == "cancelled"
    assert scene.log == ["a", "b", "undo b", "undo a"]


def test_another_cancel_while_it_is_decided_again_is_seen_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P3, P8: as often as a flag goes up."""
    scene = Executing(world)
    commit = statement.commit
    seen: list[FlagRaised] = []

    def committing(*arguments: Any) -> statement.Answer:
        outcome = commit(*arguments)
        if isinstance(outcome, FlagRaised):
            if not seen:
                scene.run.cancel(compensate=True)
            seen.append(outcome)
        return outcome

    monkeypatch.setattr(statement, "commit", committing)
    scene.run.cancel()

    assert scene.finish() == "cancelled"
    assert len(seen) == 2
    assert scene.log == ["a", "b", "undo b", "undo a"]


def test_a_cancel_is_seen_by_a_commit_that_goes_straight_on(world: World) -> None:
    """It committed in the caller's transaction while the step ran; nobody has applied it yet."""
    log: list[str] = []
    gate = Gate()
    worker = world.worker(defining(log, "a", "b", gate=gate))
    run = worker.start("w", {})
    (token_id,) = world.publish()
    at_work = gate.hold(worker.engine.advance, token_id)
    with world.connect() as connection, connection.transaction():
        run.cancel(session=connection)
    assert world.counts()["inbox"] == 1

    gate.finish(at_work)

    assert log == ["a"], "the next unit does not begin"
    assert world.status(run) == "cancelled"
    assert (world.has_ended(run), world.counts()["inbox"]) == (True, 0)
    assert world.units(run) == ["a completed"]


def test_a_cancel_in_the_callers_transaction_is_applied_by_the_hint(world: World) -> None:
    log: list[str] = []
    worker = world.worker(defining(log, "a"))
    run = worker.start("w", {}, delay=3600)
    with world.connect() as connection, connection.transaction():
        run.cancel(session=connection, reason="in time")
    assert world.status(run) == "pending"

    assert world.drain(worker) >= 1

    assert ended(world, run) == "cancelled"
    assert log == []


def test_a_callers_long_transaction_blocks_no_worker(world: World) -> None:
    log: list[str] = []
    worker = world.worker(defining(log, "a", "b"), inline_steps=1)
    run = worker.start("w", {})
    with world.connect() as connection, connection.transaction():
        run.cancel(session=connection)
        world.drain(worker)
        assert run.status().status == "completed"
    world.drain(worker)
    worker.recover()

    assert log == ["a", "b"]
    assert run.status().status == "completed", "it had ended before the cancel was committed"
    assert world.counts()["inbox"] == 0


def test_cancelling_a_run_that_is_rolled_back_changes_nothing(world: World) -> None:
    log: list[str] = []

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w")
        for name in ("a", "b"):
            step = durable.step(noting(log, name))
            step.compensate(noting(log, f"undo {name}"))
            workflow.step(step)
        workflow.step(fail, retry=RetryPolicy(1))

    worker = world.worker(define, inline_steps=1)
    run = worker.start("w", {})
    for _ in range(3):
        (token_id,) = world.publish()
        worker.engine.advance(token_id)
    assert run.status().status == "compensating"

    run.cancel()
    world.drain(worker)

    assert ended(world, run) == "failed"
    assert log == ["a", "b", "undo b", "undo a"]


def test_a_compensator_that_waits_for_its_next_try_is_not_hurried_by_a_cancel(
    world: World,
) -> None:
    tries: list[int] = []

    def undo(ctx: Any) -> None:
        tries.append(ctx.attempt)
        raise ValueError

    def define(durable: Durable) -> None:
        a = durable.step(noting([], "a"))
        a.compensate(retry=RetryPolicy(max_attempts=2, initial=3600, jitter=False))(undo)
        durable.workflow("w").step(a).step(fail, retry=RetryPolicy(1))

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)

    run.cancel()
    world.drain(worker)
    assert tries == [1]
    world.let_time_pass(3601)
    world.drain(worker)
    assert tries == [1, 2]
    assert ended(world, run) == "failed"


@pytest.mark.parametrize("compensate", [False, True])
def test_a_run_that_has_ended_stays_as_it_is(world: World, compensate: bool) -> None:
    worker = world.worker(defining([], "a"))
    run = worker.start("w", {})
    world.drain(worker)

    run.cancel(compensate=compensate)

    assert ended(world, run) == "completed"
    assert world.hints() == 0


def test_a_flagged_unit_whose_worker_died_is_not_executed_again(world: World) -> None:
    scene = Executing(world)
    other = world.worker(undoable_steps(scene.log, "a", "b"))
    scene.run.cancel(compensate=True)
    world.kill(scene.worker)
    assert world.reap(other) == 1

    world.drain(other)

    assert scene.log == ["a", "b", "undo a"]
    assert ended(world, scene.run) == "cancelled"
    scene.gate.finish(scene.at_work)


def test_an_unknown_run_cannot_be_cancelled(world: World) -> None:
    client = world.worker()
    with pytest.raises(RunNotFound):
        client.cancel(uuid7())
    assert set(world.counts().values()) == {0}

"""Branches that fail, are dropped, or lose their worker."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.errors import RunFailed
from tests.integration.driving import ONCE, Define, Gate, World, error_of, noting
from tests.integration.forks import advance, ended, forked, messages, standing
from tests.integration.workflows import failing, saying, undoable


def saga(log: list[str], *, fail_fast: bool = False) -> Define:
    """A step, and branches of which the second fails; all can be undone."""

    def define(durable: Durable) -> None:
        bad = durable.step(retry=ONCE, name="bad")(failing("out of stock"))
        bad.compensate(noting(log, "never"))
        branches = [undoable(durable, log, "x"), bad, undoable(durable, log, "y")]
        durable.workflow("w").step(undoable(durable, log, "before")).parallel(
            "checks", branches, fail_fast=fail_fast
        ).step(noting(log, "after"))

    return define


def waiting_at(gate: Gate, log: list[str]) -> Any:
    """A handler that ends when the test lets it."""

    def handler(_: Any) -> None:
        gate()
        log.append("slow")

    return handler


def test_all_settle_and_the_completed_are_undone_newest_first(world: World) -> None:
    """P8"""
    log: list[str] = []
    worker = world.worker(saga(log))
    run = forked(world, worker)
    assert log == ["before"]

    advance(world, worker, run, "checks#y", "checks#bad")
    assert world.status(run) == "running", "a branch has not settled"
    advance(world, worker, run, "checks#x")
    world.drain(worker)

    assert log[1:3] == ["checks#y", "checks#x"]
    assert log[3:] == ["checks#x#compensate", "checks#y#compensate", "before#compensate"]
    assert world.units(run) == [
        "before completed",
        "checks#y completed",
        "checks#bad failed",
        "checks#x completed",
        "checks#x#compensate completed",
        "checks#y#compensate completed",
        "before#compensate completed",
    ]
    with pytest.raises(RunFailed) as failed:
        run.result(timeout=0)
    assert "out of stock" in str(failed.value)
    assert error_of(run).unit == "checks#bad"
    assert ended(world, run) == "failed"


def test_a_compensator_of_a_branch_is_given_its_branch_and_result(world: World) -> None:
    """P8"""
    seen: list[Any] = []

    def define(durable: Durable) -> None:
        good = durable.step(name="good")(noting([], "good", {"id": 7}))
        good.compensate(
            lambda ctx: seen.append((ctx.branch, ctx.result, ctx.error.message, ctx.step, ctx.unit))
        )
        durable.workflow("w").parallel("checks", {"good": good, "bad": failing("oh")})

    worker = world.worker(define, default_retry={"max_attempts": 1})
    worker.start("w", {})
    world.drain(worker)

    assert seen == [("good", {"id": 7}, "oh", "checks", "checks#good#compensate")]


def test_a_compensator_of_a_branch_that_fails_for_good_is_reported(world: World) -> None:
    """P8: the others still run."""
    log: list[str] = []

    def define(durable: Durable) -> None:
        stuck = durable.step(name="stuck")(saying(log))
        stuck.compensate(retry=ONCE)(failing("no refund"))
        durable.workflow("w").parallel("checks", [undoable(durable, log, "good"), stuck]).step(
            failing(), name="last", retry=ONCE
        )

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)

    assert log == ["checks#good", "checks#stuck", "checks#good#compensate"]
    errors = run.status().compensation_errors
    assert {unit: error.message for unit, error in errors.items()} == {
        "checks#stuck#compensate": "no refund"
    }
    assert ended(world, run) == "failed"


def test_without_fail_fast_every_branch_runs(world: World) -> None:
    log: list[str] = []
    worker = world.worker(saga(log))
    run = forked(world, worker)
    advance(world, worker, run, "checks#bad")

    assert set(standing(world, run)) == {"checks", "checks#x", "checks#y"}


def test_fail_fast_drops_the_branches_that_have_not_begun(world: World) -> None:
    log: list[str] = []
    worker = world.worker(saga(log, fail_fast=True))
    run = forked(world, worker)
    late = standing(world, run)["checks#y"]["id"]
    advance(world, worker, run, "checks#x", "checks#bad")

    worker.engine.advance(late)
    world.drain(worker)

    assert log == ["before", "checks#x", "checks#x#compensate", "before#compensate"]
    assert "checks#y" not in " ".join(world.units(run))
    assert ended(world, run) == "failed"


def test_fail_fast_lets_a_branch_in_hand_end_and_it_is_undone(world: World) -> None:
    log: list[str] = []
    gate = Gate()

    def define(durable: Durable) -> None:
        slow = durable.step(name="slow")(waiting_at(gate, log))
        slow.compensate(noting(log, "undo slow"))
        durable.workflow("w").parallel(
            "checks", {"slow": slow, "bad": failing(), "new": noting(log, "new")}, fail_fast=True
        )

    worker = world.worker(define, default_retry={"max_attempts": 1})
    run = forked(world, worker)
    at_work = gate.hold(worker.engine.advance, standing(world, run)["checks#slow"]["id"])
    advance(world, worker, run, "checks#bad")
    assert set(standing(world, run)) == {"checks", "checks#slow"}
    assert messages(world) == []

    gate.finish(at_work)
    world.drain(worker)
    assert log == ["slow", "undo slow"]
    assert ended(world, run) == "failed"


def test_fail_fast_lets_a_branch_between_two_tries_go_on(world: World) -> None:
    """It has begun, and what it has done outside nobody knows."""
    log: list[str] = []

    def flaky(ctx: Any) -> None:
        log.append(f"try {ctx.attempt}")
        if ctx.attempt == 1:
            raise ConnectionError

    def define(durable: Durable) -> None:
        step = durable.step(name="flaky", retry=RetryPolicy(2, initial=60))(flaky)
        step.compensate(noting(log, "undo flaky"))
        bad = durable.step(name="bad", retry=ONCE)(failing())
        durable.workflow("w").parallel("checks", [step, bad], fail_fast=True)

    worker = world.worker(define)
    run = forked(world, worker)
    advance(world, worker, run, "checks#flaky", "checks#bad")
    world.drain(worker)
    assert world.status(run) == "running"

    world.let_time_pass(100)
    world.drain(worker)
    assert log == ["try 1", "try 2", "undo flaky"]
    assert ended(world, run) == "failed"


def test_the_first_branch_that_failed_is_the_runs_error(world: World) -> None:
    def define(durable: Durable) -> None:
        branches = {name: failing(name) for name in ("a", "b")}
        durable.workflow("w").parallel("checks", branches)

    worker = world.worker(define, default_retry={"max_attempts": 1})
    run = forked(world, worker)
    advance(world, worker, run, "checks#b", "checks#a")
    world.drain(worker)

    error = error_of(run)
    assert (error.unit, error.message) == ("checks#b", "b")
    assert world.units(run) == ["checks#b failed", "checks#a failed"]


def test_a_worker_that_dies_in_a_branch_hurts_no_other(world: World) -> None:
    """P4, P5"""
    log: list[str] = []
    gate = Gate()

    def hang(ctx: Any) -> str:
        log.append(ctx.unit)
        if log.count(ctx.unit) == 1:
            gate()
            return "too late"
        return "in time"

    def define(durable: Durable) -> None:
        durable.workflow("w").parallel("checks", {"hang": hang, "other": saying(log)})

    doomed, other = world.worker(define), world.worker(define)
    run = forked(world, doomed)
    at_work = gate.hold(doomed.engine.advance, standing(world, run)["checks#hang"]["id"])
    world.kill(doomed)
    assert world.reap(other) == 1
    tokens = standing(world, run)
    assert [tokens[f"checks#{name}"]["crashes"] for name in ("hang", "other")] == [1, 0]

    gate.finish(at_work)
    assert world.units(run) == [], "it had been declared dead: what it did is dropped"
    advance(world, other, run, "checks#other")
    world.drain(other)
    assert log == ["checks#hang", "checks#other", "checks#hang"]
    assert run.result(timeout=0) == {"checks": {"hang": "in time", "other": None}}
    assert ended(world, run) == "completed"


def test_a_branch_that_kills_its_workers_is_given_up_and_the_node_fails(world: World) -> None:
    """P5, P8"""
    log: list[str] = []

    def define(durable: Durable) -> None:
        durable.workflow("w").parallel(
            "checks", [undoable(durable, log, "good"), durable.step(name="bad")(saying(log))]
        )

    worker = world.worker(define)
    run = forked(world, worker)
    world.rows("UPDATE durable_token SET crashes = 3 WHERE unit = 'checks#bad'")
    advance(world, worker, run, "checks#good", "checks#bad")
    world.drain(worker)

    assert log == ["checks#good", "checks#good#compensate"]
    error = error_of(run)
    assert (error.type, error.unit) == ("WorkerLost", "checks#bad")
    assert ended(world, run) == "failed"


@pytest.mark.parametrize("compensate", [False, True])
def test_a_cancel_drops_what_has_not_begun_and_waits_for_what_has(
    world: World, compensate: bool
) -> None:
    log: list[str] = []
    gate = Gate()

    def define(durable: Durable) -> None:
        slow = durable.step(name="slow")(waiting_at(gate, log))
        slow.compensate(noting(log, "undo slow"))
        quick = undoable(durable, log, "quick")
        durable.workflow("w").parallel("checks", [slow, quick, undoable(durable, log, "new")])

    worker = world.worker(define)
    run = forked(world, worker)
    advance(world, worker, run, "checks#quick")
    at_work = gate.hold(worker.engine.advance, standing(world, run)["checks#slow"]["id"])
    run.cancel(compensate=compensate)
    world.drain(worker)
    assert set(standing(world, run)) == {"checks", "checks#slow"}
    assert world.status(run) == "running"

    gate.finish(at_work)
    world.drain(worker)
    undone = ["undo slow", "checks#quick#compensate"] if compensate else []
    assert log == ["checks#quick", "slow", *undone]
    assert ended(world, run) == "cancelled"

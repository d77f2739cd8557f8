"""Runs that take too long fail and are rolled back; those that have not begun in time expire."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from celery_durable import Durable, RetryPolicy, RunCancelled, RunFailed
from celery_durable.background import deadlines
from celery_durable.core.claim import Claim
from celery_durable.errors import ConfigurationError, InvalidWorkflow
from celery_durable.run import Run
from celery_durable.store import tokens
from celery_durable.store.bundle import claiming
from celery_durable.store.connection import PsycopgConnection
from tests.addresses import conninfo
from tests.integration.driving import (
    ONCE,
    Define,
    Gate,
    World,
    all_at_once,
    claimed,
    defining,
    error_of,
    noting,
    spawn,
    warnings,
    worker_id,
)
from tests.integration.workflows import fail, failing
from tests.waiting import wait_until

LONG = 3600


def pass_deadline(world: World, *runs: Run) -> None:
    """The deadlines of these runs have just passed."""
    passed = "UPDATE durable_run SET {0} = now() WHERE id = ANY(%s) AND {0} IS NOT NULL"
    for column in ("times_out_at", "expires_at"):
        world.rows(passed.format(column), [run.id for run in runs])


def undoable(log: list[str], *names: str, gate: Gate | None = None, **options: Any) -> Define:
    """A workflow of steps that are undone, and a wait after them."""

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w", **options)
        for name in names:
            held = gate if name == names[-1] else None
            step = durable.step(noting(log, name, gate=held), retry=ONCE)
            step.compensate(noting(log, f"undo {name}"))
            workflow.step(step)
        workflow.wait_for_signal("go")

    return define


# Timeouts.


def test_a_run_that_takes_too_long_fails_and_is_rolled_back(
    world: World, log: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """P8"""
    worker = world.worker(undoable(log, "a", "b"))
    run = worker.start("w", timeout=LONG)
    world.drain(worker)
    assert world.reap(worker) == 0, "it has time"
    pass_deadline(world, run)
    assert world.reap(worker) == 1
    assert f"Run {run.id} of w has reached its timeout: it fails" in warnings(caplog)
    world.drain(worker)

    assert log == ["a", "b", "undo b", "undo a"]
    error = error_of(run)
    assert (error.type, error.unit) == ("RunTimeout", "go")
    with pytest.raises(RunFailed, match="at go: RunTimeout: the run took longer than its timeout"):
        run.result(timeout=0)
    assert world.reap(worker) == 0
    assert world.counts()["inbox"] == 0


def test_what_has_nothing_to_undo_ends_though_nobody_consumes_its_queue(world: World) -> None:
    """P2"""
    client = world.worker(lambda durable: durable.workflow("w").wait_for_signal("go"))
    run = client.start("w", timeout=LONG)
    pass_deadline(world, run)
    assert client.recover() >= 1

    assert error_of(run).type == "RunTimeout"
    assert run.status().status == "failed"
    assert world.has_ended(run)


def test_a_unit_that_is_executed_when_the_time_is_up_counts_and_is_undone(
    world: World, log: list[str]
) -> None:
    """P8: as after a cancel with compensation."""
    gate = Gate()
    worker = world.worker(undoable(log, "a", gate=gate), inline_steps=1)
    run = worker.start("w", timeout=LONG)
    at_work = gate.hold(worker.engine.advance, world.token_id(run))
    pass_deadline(world, run)
    world.reap(worker)
    world.drain(worker)
    assert run.status().status == "running"
    assert "timed out" in str(run.why())
    gate.finish(at_work)
    world.drain(worker)

    assert log == ["a", "undo a"]
    assert world.units(run) == ["a completed", "a#compensate completed"]
    assert (run.status().status, error_of(run).type, error_of(run).unit) == (
        "failed",
        "RunTimeout",
        "a",
    )


def test_a_unit_that_would_be_tried_again_is_not(world: World, log: list[str]) -> None:
    def define(durable: Durable) -> None:
        step = durable.step(failing(), name="a", retry=RetryPolicy(max_attempts=9, initial=LONG))
        durable.workflow("w", timeout=LONG).step(step)

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    pass_deadline(world, run)
    world.reap(worker)
    world.drain(worker)
    assert error_of(run).type == "RunTimeout"


def test_branches_and_items_end_with_the_run(world: World, log: list[str]) -> None:
    def define(durable: Durable) -> None:
        step = durable.step(noting(log, "item"), retry=ONCE)
        step.compensate(noting(log, "undo item"))
        inner = durable.workflow("inner").step(step).wait_for_signal("go")
        durable.workflow("w").map("m", over=lambda _: [1, 2, 3], handler=inner, max_concurrency=2)

    worker = world.worker(define)
    run = worker.start("w", timeout=LONG)
    world.drain(worker)
    pass_deadline(world, run)
    world.reap(worker)
    world.drain(worker)

    assert (run.status().status, error_of(run).type, error_of(run).unit) == (
        "failed",
        "RunTimeout",
        "m",
    )
    assert {child.status for child in run.status().children} == {"cancelled"}
    assert log == ["item", "item", "undo item", "undo item"]
    assert world.counts()["token"] == world.counts()["item"] == 0


def test_a_child_that_takes_too_long_fails_the_unit_that_it_is(world: World) -> None:
    """P8: the deadlines of a workflow hold for its runs that are children."""

    def define(durable: Durable) -> None:
        child = durable.workflow("child", timeout=LONG).wait_for_signal("go")
        durable.workflow("w").child_workflow("c", child)

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    assert run.status().times_out_at is None
    (child,) = run.status().children
    pass_deadline(world, worker.run(child.run_id))
    world.reap(worker)
    world.drain(worker)

    assert (run.status().status, error_of(run).type, error_of(run).unit) == (
        "failed",
        "ChildFailed",
        "c",
    )
    assert "RunTimeout" in error_of(run).message


def test_a_run_that_is_compensating_is_left_alone(world: World, log: list[str]) -> None:
    """P8: it ends with the error that it failed with."""
    gate = Gate()

    def define(durable: Durable) -> None:
        step = durable.step(noting(log, "a"), retry=ONCE)
        step.compensate(noting(log, "undo a", gate=gate))
        durable.workflow("w").step(step).step(failing(), name="b", retry=ONCE)

    worker = world.worker(define)
    run = worker.start("w", timeout=LONG)
    at_work = gate.hold(world.drain, worker)
    assert run.status().status == "compensating"
    pass_deadline(world, run)
    assert world.reap(worker) == 0
    gate.finish(at_work)
    assert error_of(run).unit == "b"
    assert run.status().cancel_requested_at is None


@pytest.mark.parametrize("first", ["cancel", "timeout"])
def test_of_a_cancel_and_a_timeout_the_first_says_how_the_run_ends(
    world: World, log: list[str], first: str
) -> None:
    gate = Gate()
    worker = world.worker(undoable(log, "a", gate=gate), inline_steps=1)
    run = worker.start("w", timeout=LONG)
    at_work = gate.hold(worker.engine.advance, world.token_id(run))
    if first == "cancel":
        run.cancel(compensate=True, reason="no more")
    pass_deadline(world, run)
    assert world.reap(worker) == (1 if first == "timeout" else 0)
    if first == "timeout":
        run.cancel(reason="no more")
    gate.finish(at_work)
    world.drain(worker)

    status = run.status()
    assert log == ["a", "undo a"], "a later cancel takes nothing back"
    if first == "cancel":
        assert (status.status, status.cancel_reason) == ("cancelled", "no more")
    else:
        assert (status.status, status.cancel_reason) == ("failed", "timed out")
        assert error_of(run).type == "RunTimeout"


def test_a_run_that_ends_before_its_timeout_is_applied_has_ended(world: World) -> None:
    gate = Gate()
    worker = world.worker(defining([], "a", gate=gate))
    run = worker.start("w", timeout=LONG)
    at_work = gate.hold(worker.engine.advance, world.token_id(run))
    pass_deadline(world, run)
    world.reap(worker)
    gate.finish(at_work)
    assert run.status().status == "completed"
    worker.recover()
    assert run.status().status == "completed"
    assert world.counts()["inbox"] == 0


def test_reapers_at_once_put_one_command(world: World) -> None:
    worker = world.worker(lambda durable: durable.workflow("w").wait_for_signal("go"))
    runs = [worker.start("w", timeout=LONG) for _ in range(20)]
    pass_deadline(world, *runs)

    def enforce() -> int:
        with worker.database.autocommit() as connection:
            return deadlines.enforce(connection, 500)

    assert sum(all_at_once([enforce] * 4)) == 20
    assert world.counts()["inbox"] == 20


def test_a_run_whose_row_is_locked_holds_up_no_other(world: World) -> None:
    worker = world.worker(lambda durable: durable.workflow("w").wait_for_signal("go"))
    held, free = (worker.start("w", timeout=LONG) for _ in range(2))
    pass_deadline(world, held, free)
    with world.connect() as other, other.transaction():
        other.execute("SELECT 1 FROM durable_run WHERE id = %s FOR UPDATE", [held.id])
        assert world.reap(worker) == 1
    assert world.reap(worker) == 1


# Expiry.


def test_a_run_that_has_not_begun_in_time_is_cancelled(
    world: World, log: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    client = world.worker(defining(log, "a"))
    run = client.start("w", expires=LONG)
    assert run.status().expires_at is not None
    assert world.reap(client) == 0
    pass_deadline(world, run)
    assert client.recover() >= 1
    assert f"Run {run.id} of w has not begun in time: it is cancelled" in warnings(caplog)

    with pytest.raises(RunCancelled, match="expired"):
        run.result(timeout=0)
    assert run.status().cancel_reason == "expired"
    world.drain(client)
    assert log == []
    assert world.units(run) == []
    assert world.has_ended(run)


def test_one_that_has_begun_goes_on_and_is_not_looked_at_again(world: World) -> None:
    gate = Gate()
    worker = world.worker(defining([], "a", gate=gate))
    run = worker.start("w", expires=LONG)
    at_work = gate.hold(worker.engine.advance, world.token_id(run))
    assert run.status().expires_at is None
    pass_deadline(world, run)
    world.let_looks_come(30)
    assert world.reap(worker) == 0
    assert world.one("SELECT expires_at FROM durable_run") is None
    gate.finish(at_work)
    assert run.status().status == "completed"


def test_a_run_that_expired_begins_no_more_though_nobody_has_cancelled_it_yet(
    world: World, log: list[str]
) -> None:
    worker = world.worker(defining(log, "a"))
    runs = [worker.start("w", expires=LONG) for _ in range(3)]
    pass_deadline(world, *runs)
    token_ids = world.publish()
    worker.engine.advance(token_ids[0])
    worker.engine.advance_together(token_ids)
    assert log == []
    assert world.one("SELECT count(*) FROM durable_token WHERE begun") == 0
    with worker.database.autocommit() as connection:
        assert claiming.claim(connection, token_ids, worker_id(worker), uuid4()) == []
    assert world.reap(worker) == 3
    world.drain(worker)
    assert {run.status().status for run in runs} == {"cancelled"}


def test_a_run_that_was_only_claimed_by_who_does_not_know_it_has_not_begun(world: World) -> None:
    """P10"""
    client, stranger = world.worker(defining([], "a")), world.worker()
    run = client.start("w", expires=LONG)
    stranger.engine.advance(world.token_id(run))
    assert world.token(run)["begun"] is False
    pass_deadline(world, run)
    assert world.reap(client) == 1
    world.drain(client)
    assert run.status().status == "cancelled"


def test_a_run_that_a_bundle_gives_back_has_not_begun(world: World) -> None:
    gate = Gate()

    def define(durable: Durable) -> None:
        step = durable.step(lambda ctx: gate() if ctx.input else None, name="a")
        durable.workflow("w").step(step)

    worker = world.worker(define)
    busy, waiting = worker.start("w", 1), worker.start("w", 0, expires=LONG)
    at_work = gate.hold(worker.engine.advance_together, world.publish())
    wait_until(lambda: world.token(waiting)["claimed_by"] is None, message="it to be given back")
    assert world.token(waiting)["begun"] is False
    pass_deadline(world, waiting)
    assert world.reap(worker) == 1
    gate.finish(at_work)
    world.drain(worker)
    assert [run.status().status for run in (busy, waiting)] == ["completed", "cancelled"]


def test_a_run_that_is_given_back_at_its_second_step_has_begun(world: World) -> None:
    """P3"""
    gate = Gate()

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w").step(lambda _: 0, name="a")
        workflow.step(lambda ctx: gate() if ctx.input else 0, name="b")

    worker = world.worker(define)
    worker.start("w", 1)
    waiting = worker.start("w", 0, expires=LONG)
    at_work = gate.hold(worker.engine.advance_together, world.publish())
    wait_until(lambda: world.token(waiting)["claimed_by"] is None, message="it to be given back")
    token = world.token(waiting)
    assert (token["unit"], token["begun"]) == ("b", True)
    pass_deadline(world, waiting)
    assert world.reap(worker) == 0
    gate.finish(at_work)
    world.drain(worker)
    assert waiting.status().status == "completed"


def test_a_claim_that_was_not_the_first_leaves_begun_what_has_begun(world: World) -> None:
    worker = world.worker(defining([], "a"))
    run = worker.start("w", expires=LONG)
    for _ in range(2):
        claim = claimed(worker, world.token_id(run))
        assert claim is not None
        worker.engine._claims.abandon(claim)
    claim = claimed(worker, world.token_id(run))
    assert claim is not None
    worker.engine._claims.release(claim)
    assert world.token(run)["begun"] is True


def test_a_claim_that_is_given_back_keeps_no_run_from_expiring(world: World) -> None:
    """P12: as by a worker that does not know the run's workflow."""
    worker = world.worker(defining([], "a"))
    run = worker.start("w", expires=LONG)
    claim = claimed(worker, world.token_id(run))
    assert claim is not None
    pass_deadline(world, run)
    assert world.reap(worker) == 0
    worker.engine._claims.release(claim)
    world.reap(worker)
    assert run.status().cancel_reason == "expired"


def test_a_run_that_is_just_being_claimed_begins_and_does_not_expire(world: World) -> None:
    """P3: the claim was there first, though nobody can see it yet."""
    worker = world.worker(defining([], "a"))
    run = worker.start("w", expires=LONG)
    with psycopg.connect(conninfo(world.url)) as raw:
        assert claim_on(raw, worker, world.token_id(run))
        pass_deadline(world, run)
        assert world.reap(worker) == 0, "the token is locked"
        raw.commit()
    assert world.reap(worker) == 0
    assert run.status().cancel_requested_at is None
    assert world.token(run)["flags"] == 0


def test_who_claims_a_run_that_is_just_being_cancelled_finds_the_cancel(
    world: World, log: list[str]
) -> None:
    """P3"""
    worker = world.worker(defining(log, "a"))
    run = worker.start("w", expires=LONG)
    token_id = world.token_id(run)
    with psycopg.connect(conninfo(world.url)) as raw:
        # Whoever claims it meanwhile still sees a run that has time.
        raw.execute("UPDATE durable_run SET expires_at = now() - interval '1 second'")
        assert deadlines.enforce(PsycopgConnection(raw, "public"), 10) == 1
        late = spawn(worker.engine.advance, token_id)
        wait_until(world.waiting_for_locks, message="the claim to wait")
        raw.commit()
    late.result(20)
    assert log == []
    assert run.status().status == "cancelled"


def test_a_delayed_run_expires_too(world: World) -> None:
    worker = world.worker(defining([], "a"))
    run = worker.start("w", delay=LONG, expires=2 * LONG)
    pass_deadline(world, run)
    worker.recover()
    assert run.status().status == "cancelled"


def test_a_delayed_run_that_no_worker_has_begun_fails_at_its_timeout(world: World) -> None:
    worker = world.worker(defining([], "a"))
    run = worker.start("w", delay=LONG, timeout=LONG)
    pass_deadline(world, run)
    worker.recover()
    assert (run.status().status, error_of(run).type) == ("failed", "RunTimeout")


# What a start says.


def test_timeouts_count_from_the_beginning_and_expiries_from_the_start(world: World) -> None:
    worker = world.worker(defining([], "a"))
    plain = worker.start("w", delay=100, timeout=timedelta(seconds=50), expires=200)
    status = plain.status()
    assert status.times_out_at is not None
    assert status.expires_at is not None
    a_little = timedelta(seconds=1)
    assert abs(status.times_out_at - status.created_at - timedelta(seconds=150)) < a_little
    assert abs(status.expires_at - status.created_at - timedelta(seconds=200)) < a_little
    bare = worker.start("w").status()
    assert (bare.times_out_at, bare.expires_at) == (None, None)


def test_a_start_overrides_what_the_workflow_says(world: World) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w", timeout=LONG, expires=timedelta(hours=2)).step(noting([], "a"))

    worker, client = world.worker(define), world.worker()
    worker.start("w")

    def seconds(run: Run) -> list[int]:
        status = run.status()
        assert status.times_out_at is not None
        assert status.expires_at is not None
        ends = status.times_out_at, status.expires_at
        return [round((at - status.created_at).total_seconds()) for at in ends]

    (many,) = worker.start_many("w", [{}])
    workflow = worker.registry.find("w")
    assert workflow is not None
    assert seconds(many) == seconds(client.start("w")) == [LONG, 2 * LONG]
    assert seconds(workflow.start(timeout=60)) == [60, 2 * LONG]
    assert seconds(client.start("w", expires=60)) == [LONG, 60]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout": 0}, "timeout= takes seconds or a timedelta, above 0"),
        ({"timeout": "1"}, "timeout= takes"),
        ({"expires": -1}, "expires= takes"),
        ({"expires": timedelta(0)}, "expires= takes"),
        ({"delay": 60, "expires": 60}, "would begin after it has expired: expires=60"),
    ],
)
def test_a_deadline_that_makes_no_sense_is_refused(
    world: World, options: dict[str, Any], words: str
) -> None:
    """P12"""
    worker = world.worker(defining([], "a"))
    with pytest.raises(ConfigurationError, match=words):
        worker.start("w", **options)
    assert world.counts()["run"] == 0


def test_a_delay_longer_than_the_expiry_of_the_workflow_is_refused(world: World) -> None:
    """P12"""
    worker = world.worker(lambda made: made.workflow("w", expires=60).step(noting([], "a")))
    for start in (
        lambda: worker.start("w", delay=60),
        lambda: worker.start_many("w", [1, 2], delay=60),
    ):
        with pytest.raises(ConfigurationError, match="would begin after it has expired"):
            start()
    assert world.counts()["run"] == 0


@pytest.mark.parametrize("name", ["timeout", "expires"])
@pytest.mark.parametrize("wrong", [0, -1, "5", True])
def test_a_workflow_takes_no_deadline_that_makes_no_sense(name: str, wrong: Any) -> None:
    """P12"""
    with pytest.raises(InvalidWorkflow, match=f"Workflow 'w': {name}= takes seconds or a"):
        Durable().workflow("w", **{name: wrong})


def claim_on(raw: psycopg.Connection[Any], worker: Durable, token_id: UUID) -> Claim | None:
    """The claim of a worker whose transaction is open."""
    connection = PsycopgConnection(raw, "public")
    return tokens.claim(connection, token_id, worker_id(worker), uuid4())


def test_what_is_undone_after_the_expiry_belongs_to_a_run_that_has_begun(world: World) -> None:
    """P8: the token of a rollback has not begun, but its run has."""
    undone: list[str] = []
    is_mended = False

    def undo(_: Any) -> None:
        if not is_mended:
            raise ValueError("bank closed")
        undone.append("a")

    def define(durable: Durable) -> None:
        step = durable.step(lambda _: None, name="a")
        step.compensate(undo, retry=ONCE)
        durable.workflow("w", expires=LONG).step(step).step(fail, name="b", retry=ONCE)

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    expire(world)
    is_mended = True
    run.retry_compensation()
    world.drain(worker)
    assert (undone, world.status(run)) == (["a"], "failed")


def test_branches_that_are_forked_after_the_expiry_begin(world: World) -> None:
    def define(durable: Durable) -> None:
        branch = durable.step(lambda ctx: ctx.branch, name="branch")
        waits = durable.workflow("w", expires=LONG).wait_for_signal("go")
        waits.parallel("p", {"x": branch, "y": branch})

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    expire(world)
    run.resume("go")
    world.drain(worker)
    assert world.status(run) == "completed"


def expire(world: World) -> None:
    """It is later than the time at which runs expire that have not begun."""
    world.rows("UPDATE durable_run SET expires_at = clock_timestamp() - interval '1 second'")

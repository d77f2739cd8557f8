"""Signals: what has become of runs and units is told in the process that has committed it."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from celery_durable import Durable, GiveUp, RetryPolicy
from celery_durable.engine import bundle
from celery_durable.errors import ErrorRecord
from celery_durable.worker import tasks
from tests.integration.driving import ONCE, World, defining, noting
from tests.integration.hearing import Heard, hearing
from tests.integration.watching import lose_the_answer
from tests.integration.workflows import fail, waiting
from tests.waiting import wait_until


def declined(_: Any) -> None:
    raise GiveUp("card declined")


def about(heard: Heard, name: str, *fields: str) -> tuple[Any, ...]:
    told = heard.the(name)
    return tuple(told[field] for field in fields)


def test_a_run_is_told_when_it_starts_and_when_it_completes(world: World) -> None:
    worker = world.worker(defining([], "a", "b"))
    with hearing() as heard:
        run = worker.start("w", {}, key="k")
        assert heard.names() == ["run_started"]
        world.drain(worker)
    assert heard == [
        (
            "run_started",
            {
                "sender": "w",
                "workflow": "w",
                "version": 1,
                "run_id": run.id,
                "key": "k",
                "parent_run_id": None,
            },
        ),
        ("run_completed", {"sender": "w", "workflow": "w", "version": 1, "run_id": run.id}),
    ]


def test_a_receiver_finds_in_the_tables_what_it_is_told(world: World) -> None:
    """The signal is sent after the commit."""
    worker = world.worker(defining([], "a"))
    seen: list[str] = []
    with hearing(also=lambda: seen.append(world.one("SELECT status FROM durable_run"))):
        worker.start("w", {})
        world.drain(worker)
    assert seen == ["running", "completed"]


def test_a_start_that_finds_a_run_with_its_key_tells_nothing(world: World) -> None:
    worker = world.worker(defining([], "a"))
    worker.start("w", {}, key="k")
    with hearing() as heard:
        assert not worker.start("w", {}, key="k").created
    assert not heard


def test_every_run_that_is_started_in_one_transaction_is_told(world: World) -> None:
    worker = world.worker(defining([], "a"))
    with hearing("run_started") as heard:
        runs = worker.start_many("w", [1, 2, 3])
    assert [told["run_id"] for told in heard.of("run_started")] == [run.id for run in runs]


def test_a_run_of_a_schedule_is_told_by_the_worker_that_has_started_it(world: World) -> None:
    worker = world.worker(defining([], "a"))
    nightly = {"workflow": "w", "schedule": "nightly", "overlap": "skip"}
    with hearing("run_started") as heard:
        for _ in range(2):
            worker.app.tasks[tasks.START].apply(kwargs=nightly, throw=True)
    assert len(heard) == 1


def test_a_start_that_joins_a_transaction_tells_nothing(world: World) -> None:
    """It does not know whether the caller commits."""
    worker = world.worker(defining([], "a"))
    engine = sa.create_engine(world.url)
    with hearing() as heard, Session(engine) as session:
        worker.start("w", {}, session=session)
        worker.start_many("w", [1, 2], session=session)
        session.commit()
    engine.dispose()
    assert not heard
    assert world.counts()["run"] == 3


def test_a_unit_that_is_tried_again_is_told_with_its_error_and_the_delay(world: World) -> None:
    policy = RetryPolicy(2, backoff="fixed", initial=40, jitter=False)

    def define(durable: Durable) -> None:
        durable.workflow("w").step(fail, name="charge", retry=policy)

    worker = world.worker(define)
    run = worker.start("w", {})
    with hearing() as heard:
        world.drain(worker)
        assert heard.names() == ["unit_retried"]
        fields = ("run_id", "workflow", "unit", "attempt", "delay")
        assert about(heard, "unit_retried", *fields) == (run.id, "w", "charge", 1, 40.0)
        error = heard.the("unit_retried")["error"]
        assert isinstance(error, ErrorRecord)
        assert (error.type, error.message) == ("ValueError", "no")

        heard.clear()
        world.let_time_pass(60)
        world.drain(worker)
    assert heard.names() == ["unit_failed", "run_failed"]
    assert about(heard, "unit_failed", "unit", "attempt") == ("charge", 2)
    assert heard.the("run_failed")["error"].unit == "charge"


def test_a_run_is_told_as_failed_once_it_is_rolled_back_and_with_its_first_error(
    world: World,
) -> None:
    log: list[str] = []

    def define(durable: Durable) -> None:
        first = durable.step(name="a", compensate=noting(log, "undone"))(noting(log, "a"))
        durable.workflow("w").step(first).step(declined, name="b")

    worker = world.worker(define)
    worker.start("w", {})
    with hearing(also=lambda: log.append("heard")) as heard:
        world.drain(worker)
    assert log == ["a", "heard", "undone", "heard"]
    assert heard.names() == ["unit_failed", "run_failed"]
    assert heard.the("run_failed")["error"].message == "card declined"


def test_a_compensation_that_fails_is_told_as_a_unit_that_has_failed(world: World) -> None:
    def define(durable: Durable) -> None:
        first = durable.step(name="a")(lambda _: None)
        first.compensate(retry=ONCE)(fail)
        durable.workflow("w").step(first).step(declined, name="b")

    worker = world.worker(define)
    worker.start("w", {})
    with hearing("unit_failed") as heard:
        world.drain(worker)
    assert [told["unit"] for told in heard.of("unit_failed")] == ["b", "a#compensate"]


def test_a_branch_that_fails_is_told_by_its_own_name(world: World) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").map("m", over=lambda _: [1, 2], handler=declined, on_error="keep")

    worker = world.worker(define)
    worker.start("w", {})
    with hearing() as heard:
        worker.engine.advance_together(world.publish())
        worker.engine.advance_together(world.publish())
        world.drain(worker)
    assert sorted(told["unit"] for told in heard.of("unit_failed")) == ["m#0", "m#1"]
    assert heard.names()[-1] == "run_completed"


def test_a_child_is_told_as_started_by_the_worker_of_its_parent(world: World) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").step(durable.workflow("child").step(lambda _: None, name="a"))

    worker = world.worker(define)
    run = worker.start("w", {})
    with hearing() as heard:
        world.drain(worker)
    assert [(name, told["sender"]) for name, told in heard] == [
        ("run_started", "child"),
        ("run_completed", "child"),
        ("run_completed", "w"),
    ]
    assert heard.the("run_started")["parent_run_id"] == run.id


def test_a_run_that_waits_is_told_as_cancelled_by_the_client_that_cancels_it(world: World) -> None:
    worker, client = world.worker(waiting), world.worker()
    run = worker.start("w", {})
    world.drain(worker)
    with hearing() as heard:
        client.cancel(run.id)
    assert heard == [
        ("run_cancelled", {"sender": "w", "workflow": "w", "version": 1, "run_id": run.id})
    ]


def test_every_run_of_a_tree_that_is_cancelled_is_told(world: World) -> None:
    def define(durable: Durable) -> None:
        child = durable.workflow("child").wait_for_signal("go")
        durable.workflow("w").step(child)

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)
    with hearing() as heard:
        run.cancel()
    assert [(name, told["sender"]) for name, told in heard] == [
        ("run_cancelled", "child"),
        ("run_cancelled", "w"),
    ]


def test_a_cancel_that_a_worker_commits_is_told_there(world: World) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").step(cancelling, name="a").step(lambda _: None, name="b")

    def cancelling(ctx: Any) -> None:
        worker.cancel(ctx.run_id)

    worker = world.worker(define)
    worker.start("w", {})
    with hearing() as heard:
        world.drain(worker)
    assert heard.names() == ["run_cancelled"]


def test_the_runs_of_a_bundle_are_told_one_by_one(world: World) -> None:
    worker = world.worker(defining([], "a", "b"))
    runs = worker.start_many("w", [None] * 5)
    with hearing() as heard:
        worker.engine.advance_together(world.publish())
    assert {told["run_id"] for told in heard.of("run_completed")} == {run.id for run in runs}
    assert len(heard) == len(runs)


def test_no_receiver_is_called_by_the_thread_that_looks_after_bundles(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It commits what is ready while a unit takes long; a receiver must not hold it up."""
    monkeypatch.setattr(bundle, "WRITE_AFTER", 0.005)
    ended = "SELECT count(*) FROM durable_run WHERE finished_at IS NOT NULL"

    def handler(ctx: Any) -> None:
        if ctx.input == 1:
            wait_until(lambda: world.one(ended) == 1, message="the guard to end the first run")

    worker = world.worker(lambda durable: durable.workflow("w").step(handler, name="a"))
    worker.start_many("w", [0, 1])
    threads: list[str] = []
    here = threading.current_thread().name
    with hearing("run_completed", also=lambda: threads.append(threading.current_thread().name)):
        worker.engine.advance_together(world.publish())
    assert threads == [here, here]


def test_a_receiver_that_raises_is_logged_and_changes_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    worker = world.worker(defining([], "a"))

    def mishear() -> None:
        raise RuntimeError("nobody listens")

    with hearing(also=mishear) as heard:
        run = worker.start("w", {})
        world.drain(worker)
    assert heard.names() == ["run_started", "run_completed"]
    assert run.status().status == "completed"
    assert caplog.text.count("RuntimeError: nobody listens") == 2


def test_what_a_dropped_unit_did_is_not_told(world: World) -> None:
    """Its claim was taken away: another has told of it."""

    def losing(_: Any) -> None:
        world.rows("UPDATE durable_token SET fence = gen_random_uuid()")

    worker = world.worker(lambda durable: durable.workflow("w").step(losing, name="a"))
    worker.start("w", {})
    with hearing() as heard:
        world.drain(worker)
    assert not heard


def test_a_commit_whose_answer_was_lost_is_not_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of two decisions it was is not known."""
    worker = world.worker(defining([], "a"))
    run = worker.start("w", {})
    lost = lose_the_answer(
        monkeypatch, lambda executed: "DELETE FROM public.durable_token" in executed.text
    )
    with hearing() as heard:
        world.drain(worker)
    assert lost
    assert not heard
    assert run.status().status == "completed"


def test_a_receiver_may_ask_for_the_runs_of_one_workflow(world: World) -> None:
    def define(durable: Durable) -> None:
        for name in ("w", "other"):
            durable.workflow(name).step(lambda _: None, name="a")

    worker = world.worker(define)
    with hearing("run_started", sender="other") as heard:
        worker.start("w", {})
        run = worker.start("other", {})
    assert [told["run_id"] for told in heard.of("run_started")] == [run.id]


def test_nobody_is_connected_when_a_process_begins() -> None:
    asked = "from celery_durable import Durable, signals; print(signals.are_heard())"
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"


def test_a_run_that_waits_for_an_operator_is_told(world: World) -> None:
    policy = RetryPolicy(max_attempts=1, on_exhausted="pause")
    worker = world.worker(lambda durable: durable.workflow("w").step(fail, name="a", retry=policy))
    with hearing() as heard:
        run = worker.start("w", {})
        report = worker.engine.advance_together(world.publish())
    assert heard.names() == ["run_started", "run_paused"]
    unit, error = about(heard, "run_paused", "unit", "error")
    assert (unit, error.type) == ("a", "ValueError")
    assert repr(report) == f"w {run.id}: a failed; paused"


def test_a_run_that_is_tried_again_is_told_as_one_that_starts(world: World) -> None:
    worker = world.worker(lambda durable: durable.workflow("w").step(fail, name="a", retry=ONCE))
    run = worker.start("w", {})
    world.drain(worker)
    with hearing() as heard:
        new = run.retry()
    assert (heard.names(), heard.the("run_started")["run_id"]) == (["run_started"], new.id)

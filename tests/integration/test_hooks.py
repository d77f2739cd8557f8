"""`on_completed` and `on_failed`: a task is in the outbox if, and only if, a run's end commits."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest

from celery_durable import Durable, GiveUp
from celery_durable.core.status import Status
from celery_durable.run import Run
from celery_durable.workflow.hooks import task_id_of
from tests.integration.driving import Define, World, noting
from tests.integration.relaying import Recorder, Relays, drain
from tests.integration.watching import lose_the_answer
from tests.integration.workflows import undoable


def declined(_: Any) -> None:
    raise GiveUp("card declined")


def hooked(*steps: Any, name: str = "w", transactional: bool = False, **signatures: Any) -> Define:
    """A workflow of these handlers with both hooks, `done` and `failed`, unless `signatures` say
    otherwise.
    """

    def define(durable: Durable) -> None:
        chosen = {
            "on_completed": durable.app.signature("done", args=("ops",)),
            "on_failed": durable.app.signature("failed", kwargs={"channel": "ops"}),
            **signatures,
        }
        workflow = durable.workflow(name, **chosen)
        for number, step in enumerate(steps):
            workflow.step(step, name=f"s{number}", transactional=transactional)

    return define


def passes(_: Any) -> None:
    """A step that completes."""


def ended(world: World, define: Define) -> Run:
    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)
    assert world.has_ended(run)
    return run


def test_a_completed_run_sends_its_task_with_its_id_first(world: World) -> None:
    """P1: as Celery puts the result first in a link."""
    run = ended(world, hooked(passes, passes))
    (sent,) = world.sent()
    assert (sent["task"], sent["args"], sent["kwargs"]) == ("done", [str(run.id), "ops"], {})
    assert sent["options"] == {"task_id": task_id_of(run.id, Status.COMPLETED)}
    assert sent["run_id"] == run.id


def test_a_failed_run_sends_the_other_task_once_it_is_rolled_back(world: World) -> None:
    log: list[str] = []

    def define(durable: Durable) -> None:
        on_failed = durable.app.signature("failed", kwargs={"channel": "ops"})
        workflow = durable.workflow("w", on_failed=on_failed)
        workflow.step(undoable(durable, log, "a")).step(declined, name="b")

    run = ended(world, define)
    assert log == ["a", "a#compensate"]
    (sent,) = world.sent()
    assert (sent["task"], sent["args"], sent["kwargs"]) == (
        "failed",
        [str(run.id)],
        {"channel": "ops"},
    )


def test_a_run_that_has_taken_too_long_sends_it_though_nobody_executes_it(world: World) -> None:
    """A deadline ends an idle run by SQL, unless a task is to be sent, which is in the code."""

    def define(durable: Durable) -> None:
        on_failed = durable.app.signature("failed")
        durable.workflow("w", on_failed=on_failed, timeout=3600).wait_for_signal("go")

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)
    past = "clock_timestamp() - interval '1 second'"
    world.rows(f"UPDATE durable_run SET times_out_at = {past}")
    worker.recover()
    world.drain(worker)
    assert world.status(run) == "failed"
    assert [sent["task"] for sent in world.sent()] == ["failed"]


@pytest.mark.parametrize("step", [passes, declined])
def test_an_immutable_signature_gets_its_own_arguments_alone(world: World, step: Any) -> None:
    def define(durable: Durable) -> None:
        told = durable.app.signature("told", args=(1,), immutable=True)
        durable.workflow("w", on_completed=told, on_failed=told).step(step, name="a")

    ended(world, define)
    (sent,) = world.sent()
    assert (sent["task"], sent["args"]) == ("told", [1])


def test_a_cancelled_run_sends_nothing(world: World) -> None:
    def define(durable: Durable) -> None:
        told = durable.app.signature("told")
        workflow = durable.workflow("w", on_completed=told, on_failed=told)
        workflow.wait_for_signal("go")

    worker, client = world.worker(define), world.worker()
    run = worker.start("w", {})
    world.drain(worker)
    client.cancel(run.id)
    assert world.status(run) == "cancelled"
    assert not world.sent()


def test_a_run_without_that_hook_sends_nothing(world: World) -> None:
    ended(world, hooked(declined, on_failed=None))
    assert not world.sent()


def test_the_runs_of_a_bundle_send_their_tasks_each(world: World) -> None:
    """They end one by one; their other steps are committed together."""
    worker = world.worker(hooked(passes, passes))
    runs = worker.start_many("w", [None] * 5)
    worker.engine.advance_together(world.publish())
    assert {world.status(run) for run in runs} == {"completed"}
    assert {UUID(sent["args"][0]) for sent in world.sent()} == {run.id for run in runs}


def test_the_task_is_sent_by_a_transactional_step_too(world: World) -> None:
    ended(world, hooked(passes, transactional=True))
    assert [sent["task"] for sent in world.sent()] == ["done"]


def test_the_task_of_a_run_with_a_result_function_is_sent(world: World) -> None:
    def define(durable: Durable) -> None:
        workflow = durable.workflow("w", on_completed=durable.app.signature("done"))
        workflow.step(passes, name="a").returns(lambda ctx: ctx.run_id)

    ended(world, define)
    assert len(world.sent()) == 1


def test_a_child_sends_its_task_and_its_parent_its_own(world: World) -> None:
    def define(durable: Durable) -> None:
        done = durable.app.signature("done")
        child = durable.workflow("child", on_completed=done).step(passes, name="a")
        durable.workflow("w", on_completed=done).step(child)

    run = ended(world, define)
    assert len(world.sent()) == 2
    assert world.sent()[1]["args"] == [str(run.id)]


@pytest.mark.parametrize(
    ("table", "event", "when"),
    [
        ("durable_run", "BEFORE UPDATE ON durable_run", "true"),
        ("durable_outbox", "BEFORE INSERT ON durable_outbox", "NEW.token_id IS NULL"),
    ],
)
def test_a_run_ends_and_sends_its_task_or_does_neither(
    world: World, table: str, event: str, when: str
) -> None:
    """P1"""
    worker = world.worker(hooked(passes))
    run = worker.start("w", {})
    (hint,) = world.publish()
    world.trigger(event, "RAISE EXCEPTION 'not yet';", when)
    with pytest.raises(psycopg.Error, match="not yet"):
        worker.engine.advance(hint)
    assert not world.has_ended(run)
    assert not world.sent()

    world.drop_trigger(table)
    world.drain(worker)
    assert world.status(run) == "completed"
    assert len(world.sent()) == 1


def test_a_commit_that_is_sent_again_sends_one_task(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1: its first answer was lost."""
    worker = world.worker(hooked(passes))
    run = worker.start("w", {})
    lost = lose_the_answer(
        monkeypatch, lambda executed: "DELETE FROM public.durable_token" in executed.text
    )
    world.drain(worker)
    assert lost
    assert world.status(run) == "completed"
    assert len(world.sent()) == 1


def test_a_worker_that_dies_after_the_commit_has_sent_the_task(
    world: World, relays: Relays
) -> None:
    """P2: the row is there, and any relay publishes it."""
    worker = world.worker(hooked(passes))
    run = worker.start("w", {})
    world.drain(worker)
    world.kill(worker)
    recorder = Recorder()
    assert drain(relays.make(world.worker(), recorder)) == 1
    (message,) = recorder.taken
    assert (message.task, message.args) == ("done", [str(run.id), "ops"])
    assert message.options["task_id"] == task_id_of(run.id, Status.COMPLETED)
    assert not world.sent()


def test_the_relay_is_woken_for_the_task(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = world.worker(hooked(passes))
    worker.start("w", {})
    (hint,) = world.publish()
    woken: list[bool] = []
    monkeypatch.setattr(worker.engine._claims, "_notify", lambda: woken.append(True))
    worker.engine.advance(hint)
    assert woken == [True]


def test_queue_and_priority_of_the_signature_are_those_of_the_row(world: World) -> None:
    """The relay looks at them: at the queues that are full, and at what goes first."""

    def define(durable: Durable) -> None:
        done = durable.app.signature("done", options={"queue": "mail", "priority": 7})
        durable.workflow("w", on_completed=done).step(passes, name="a")

    ended(world, define)
    (sent,) = world.sent()
    assert (sent["queue"], sent["priority"]) == ("mail", 7)
    assert sent["options"]["queue"] == "mail"


def test_the_code_of_the_worker_that_ends_a_run_says_what_is_sent(world: World) -> None:
    """A hook is no part of the plan: a deploy may add one while runs are in flight."""
    log: list[str] = []
    before = world.worker(hooked(noting(log, "a"), on_completed=None, on_failed=None))
    run = before.start("w", {})
    world.drain(world.worker(hooked(noting(log, "a"))))
    assert world.status(run) == "completed"
    assert [sent["task"] for sent in world.sent()] == ["done"]

"""Pausing runs, workflows, versions and steps: no further unit begins, and nothing is lost."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

import pytest

from celery_durable import Durable
from celery_durable.core.pause import Pause
from celery_durable.errors import ConfigurationError, RunNotFound, RunRefused, UnknownWorkflow
from celery_durable.store import steering
from tests.integration.driving import Gate, World, defining, spawn

ANYBODY = "00000000-0000-0000-0000-000000000000"


def two(log: list[str]) -> Any:
    """A workflow of two steps that note their names."""
    return defining(log, "a", "b")


def test_a_paused_run_begins_nothing_until_it_is_unpaused(world: World) -> None:
    log: list[str] = []
    worker = world.worker(two(log))
    run = worker.start("w")
    assert run.pause(reason="an incident")
    assert world.drain(worker) == 1
    assert (log, run.status().status) == ([], "paused")

    assert run.unpause()
    world.drain(worker)
    assert (log, world.status(run)) == (["a", "b"], "completed")


def test_a_message_for_a_paused_run_comes_to_nothing(world: World) -> None:
    worker = world.worker(two([]))
    run = worker.start("w")
    run.pause()
    worker.engine.advance(world.publish()[0])
    assert (world.hints(), world.token(run)["begun"]) == (0, False)


def test_what_is_executed_ends_and_is_recorded(world: World) -> None:
    """A worker that would go straight on learns of the pause from its commit."""
    gate, log = Gate(), list[str]()

    def define(durable: Durable) -> None:
        durable.workflow("w").step(lambda _: gate(), name="a").step(
            lambda _: log.append("b"), name="b"
        )

    worker = world.worker(define)
    run = worker.start("w")
    at_work = gate.hold(worker.engine.advance, world.publish()[0])
    run.pause()
    gate.finish(at_work)

    assert world.units(run) == ["a completed"]
    assert (log, run.status().status) == ([], "paused")
    world.drain(worker)
    run.unpause()
    world.drain(worker)
    assert (log, world.status(run)) == (["b"], "completed")


def test_a_bundle_leaves_out_what_is_paused_and_goes_on_with_the_others(world: World) -> None:
    log: list[str] = []
    worker = world.worker(two(log))
    paused, *others = [worker.start("w", n) for n in range(4)]
    paused.pause()
    worker.engine.advance_together(world.publish())
    assert world.status(paused) == "running"
    assert {world.status(run) for run in others} == {"completed"}
    assert world.units(paused) == []
    assert world.hints(paused) == 0, "a message would come round and round"


def test_a_run_that_is_paused_in_a_bundle_stops_after_its_unit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is slow here: what is slow leaves its bundle, and learns of pauses by itself.
    monkeypatch.setattr("celery_durable.engine.guard.LOOK_EVERY", 60.0)
    monkeypatch.setattr("celery_durable.engine.bundle.WRITE_AFTER", 60.0)
    monkeypatch.setattr("celery_durable.engine.bundle.LOOK_AGAIN_AFTER", 60.0)
    monkeypatch.setattr("celery_durable.engine.slow_units.SLOW_FROM", 60.0)
    paused: list[UUID] = []

    def handler(ctx: Any) -> None:
        if not paused:
            paused.append(ctx.run_id)
            worker.pause(ctx.run_id)

    def define(durable: Durable) -> None:
        durable.workflow("w").step(handler, name="a").step(lambda _: None, name="b")

    worker = world.worker(define)
    runs = [worker.start("w") for _ in range(3)]
    worker.engine.advance_together(world.publish())
    states = {run.id: run.status().status for run in runs}
    assert states == {run.id: "paused" if run.id in paused else "completed" for run in runs}
    assert world.units(worker.run(paused[0])) == ["a completed"]


@pytest.mark.parametrize(
    "what",
    [
        {"workflow": "w"},
        {"workflow": "w", "version": 1},
        {"step": "b"},
        {"workflow": "w", "step": "b"},
    ],
    ids=str,
)
def test_a_workflow_a_version_and_a_step_are_paused(world: World, what: dict[str, Any]) -> None:
    log: list[str] = []
    worker = world.worker(two(log))
    run = worker.start("w")
    world.drain(worker)
    assert world.status(run) == "completed"
    log.clear()

    worker.pause(**what, reason="deploy")
    later = worker.start("w")
    world.drain(worker)
    assert log == (["a"] if "step" in what else [])
    assert later.status().status == "paused"
    assert worker.unpause(**what)
    world.drain(worker)
    assert (log, world.status(later)) == (["a", "b"], "completed")


def test_other_workflows_and_versions_go_on(world: World) -> None:
    def define(durable: Durable) -> None:
        for name, version in (("w", 1), ("w", 2), ("other", 1)):
            durable.workflow(name, version=version).step(lambda _: None, name="a")

    worker = world.worker(define)
    runs = [worker.start("w", version=1), worker.start("w", version=2), worker.start("other")]
    worker.pause(workflow="w", version=1)
    world.drain(worker)
    assert [run.status().status for run in runs] == ["paused", "completed", "completed"]


def test_a_branch_is_paused_by_its_name_and_its_siblings_are_not(world: World) -> None:
    log: list[str] = []

    def define(durable: Durable) -> None:
        branches = {
            name: durable.step(lambda ctx: log.append(str(ctx.branch)), name=name) for name in "xy"
        }
        durable.workflow("w").parallel("p", branches)

    worker = world.worker(define)
    run = worker.start("w")
    worker.pause(step="x")
    world.drain(worker)
    assert (log, run.status().status) == (["y"], "paused")
    worker.unpause(step="x")
    world.drain(worker)
    assert (log, world.status(run)) == (["y", "x"], "completed")


def test_a_signal_is_kept_for_a_paused_run(world: World) -> None:
    worker = world.worker(lambda durable: durable.workflow("w").wait_for_signal("go"))
    run = worker.start("w")
    world.drain(worker)
    run.pause()
    assert run.resume("go", 1).accepted
    world.drain(worker)
    assert run.status().status == "paused"
    run.unpause()
    world.drain(worker)
    assert run.result(timeout=5) == {"go": 1}


def test_a_sleep_that_is_over_waits_for_the_end_of_the_pause(world: World) -> None:
    worker = world.worker(lambda durable: durable.workflow("w").sleep("s", 60))
    run = worker.start("w")
    world.drain(worker)
    run.pause()
    world.let_time_pass(61)
    world.drain(worker)
    assert run.status().status == "paused"
    run.unpause()
    world.drain(worker)
    assert world.status(run) == "completed"


def test_a_delayed_start_waits_for_the_end_of_the_pause(world: World) -> None:
    log: list[str] = []
    worker = world.worker(two(log))
    run = worker.start("w", delay=60)
    worker.pause(workflow="w")
    world.let_time_pass(61)
    world.drain(worker)
    assert log == []
    worker.unpause(workflow="w")
    world.drain(worker)
    assert world.status(run) == "completed"


def test_two_pauses_hold_until_both_are_lifted(world: World) -> None:
    log: list[str] = []
    worker = world.worker(two(log))
    run = worker.start("w")
    run.pause()
    worker.pause(workflow="w")
    run.unpause()
    world.drain(worker)
    assert log == []
    worker.unpause(workflow="w")
    world.drain(worker)
    assert log == ["a", "b"]


def test_who_pauses_twice_changes_nothing(world: World) -> None:
    worker = world.worker(two([]))
    run = worker.start("w")
    assert run.pause(reason="first")
    assert not run.pause(reason="second")
    assert world.one("SELECT reason FROM durable_pause") == "first"
    assert run.unpause()
    assert not run.unpause()


def test_recovery_leaves_a_paused_run_alone_and_finds_it_after_a_crash_of_unpause(
    world: World,
) -> None:
    """P2: whoever unpauses may die before it has put a hint."""
    log: list[str] = []
    worker = world.worker(two(log))
    run = worker.start("w")
    run.pause()
    world.drain(worker)
    world.let_time_pass(3600)
    worker.recover()
    assert world.hints() == 0

    world.rows("DELETE FROM durable_pause")
    worker.recover()
    world.drain(worker)
    assert world.status(run) == "completed"


@pytest.mark.parametrize("compensate", [False, True])
def test_a_cancel_ends_a_paused_run(world: World, compensate: bool) -> None:
    log: list[str] = []

    def define(durable: Durable) -> None:
        first = durable.step(lambda _: None, name="a")
        first.compensate(lambda _: log.append("undone"))
        durable.workflow("w").step(first).wait_for_signal("go")

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    run.pause()
    run.cancel(compensate=compensate)
    world.drain(worker)
    assert world.status(run) == "cancelled"
    assert log == ["undone"] * compensate
    assert world.one("SELECT count(*) FROM durable_pause") == 0


def test_a_cancel_of_a_tree_ends_a_paused_child(world: World) -> None:
    log: list[str] = []

    def define(durable: Durable) -> None:
        first = durable.step(lambda _: None, name="a")
        first.compensate(lambda _: log.append("undone"))
        durable.workflow("child").step(first).wait_for_signal("go")
        durable.workflow("w").child_workflow("c", "child")

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    (child,) = run.status().children
    worker.pause(child.run_id)
    run.cancel(compensate=True)
    world.drain(worker)
    assert [world.status(run), worker.status(child.run_id).status] == ["cancelled", "cancelled"]
    assert log == ["undone"]


def test_a_crash_under_a_pause_frees_the_unit_and_begins_nothing(world: World) -> None:
    gate, log = Gate(), list[int]()

    def define(durable: Durable) -> None:
        def handler(ctx: Any) -> None:
            log.append(ctx.attempt)
            gate()

        durable.workflow("w").step(handler, name="a")

    doomed, other = world.worker(define), world.worker(define)
    run = doomed.start("w")
    at_work = gate.hold(doomed.engine.advance, world.publish()[0])
    run.pause()
    world.kill(doomed)
    assert world.reap(other) == 1
    world.drain(other)
    assert (len(log), run.status().status) == (1, "paused")
    gate.finish(at_work)
    run.unpause()
    world.drain(other)
    assert world.status(run) == "completed"


def test_a_claim_that_waits_for_the_row_of_a_paused_token_does_not_begin(world: World) -> None:
    """Of a pause and a claim at once one is first; a claim after the pause is refused."""
    log: list[str] = []
    worker = world.worker(two(log))
    run = worker.start("w")
    hint = world.publish()[0]
    started = threading.Barrier(2)

    def advance() -> None:
        started.wait(timeout=30)
        worker.engine.advance(hint)

    at_work = spawn(advance)
    started.wait(timeout=30)
    run.pause()
    at_work.result(timeout=30)
    begun = len(log)
    world.drain(worker)
    assert len(log) == begun
    run.unpause()
    world.drain(worker)
    assert log == ["a", "b"]


def test_a_million_others_are_not_read_to_wake_one(world: World) -> None:
    """Unpausing a run looks its tokens up."""
    worker = world.worker(two([]))
    for _ in range(50):
        worker.start("w")
    run = worker.start("w")
    run.pause()
    world.drain(worker)
    with worker.database.autocommit() as connection:
        reached = steering.wake(connection, Pause(), [run.id], UUID(int=0))
    assert reached == world.token_id(run)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Name a run, a workflow or a step"),
        ({"run_id": ANYBODY, "workflow": "w"}, "Name a run, or a workflow"),
        ({"version": 1, "step": "a"}, "version= is that of a workflow"),
        ({"workflow": "w", "version": 0}, "version"),
        ({"step": "aa"}, "No step of a workflow is called 'aa'"),
        ({"workflow": "w", "step": "c"}, "No step of workflow 'w' is called 'c'"),
        ({"workflow": "w", "reason": ""}, "reason"),
        ({"run_id": "no"}, "A run id is a UUID"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(world: World, arguments: dict[str, Any], message: str) -> None:
    worker = world.worker(two([]))
    worker.start("w")
    with pytest.raises(ConfigurationError, match=message):
        worker.pause(**arguments)
    assert world.one("SELECT count(*) FROM durable_pause") == 0


def test_what_does_not_exist_or_has_ended_is_not_paused(world: World) -> None:
    worker = world.worker(two([]))
    run = worker.start("w")
    world.drain(worker)
    with pytest.raises(RunRefused, match="has ended, completed"):
        run.pause()
    with pytest.raises(RunNotFound):
        worker.pause(ANYBODY)
    with pytest.raises(UnknownWorkflow, match="'w'"):
        worker.pause(workflow="ww")
    with pytest.raises(UnknownWorkflow):
        worker.pause(workflow="w", version=7)


def test_the_list_finds_paused_runs(world: World) -> None:
    worker = world.worker(two([]))
    paused, other = worker.start("w"), worker.start("w")
    paused.pause()
    assert [run.run_id for run in worker.list(status="paused")] == [paused.id]
    assert [run.run_id for run in worker.list(status="running")] == [other.id]


def test_the_pause_of_a_run_that_has_ended_is_forgotten(world: World) -> None:
    """Each commit that goes straight on would look for it."""
    gate = Gate()
    worker = world.worker(lambda durable: durable.workflow("w").step(lambda _: gate(), name="a"))
    run, other = worker.start("w"), worker.start("w", delay=3600)
    at_work = gate.hold(worker.engine.advance, world.publish()[0])
    run.pause()
    other.pause()
    gate.finish(at_work)
    worker.recover()
    assert [one.pause.run_id for one in worker.pauses()] == [other.id]


def test_a_step_of_a_workflow_that_nobody_has_started_yet_is_paused(world: World) -> None:
    worker = world.worker(two([]))
    assert worker.pause(step="b")
    assert worker.pause(workflow="w")


def test_unpausing_hints_what_was_held_and_nothing_else(world: World) -> None:
    def define(durable: Durable) -> None:
        for name in ("w", "other"):
            durable.workflow(name).step(lambda _: None, name="a")

    worker = world.worker(define)
    held, other = worker.start("w"), worker.start("other")
    worker.pause(workflow="w")
    world.publish()
    worker.unpause(workflow="w")
    assert (world.hints(held), world.hints(other)) == (1, 0)


def test_a_cancel_of_what_compensates_leaves_its_pause(world: World) -> None:
    undone: list[str] = []

    def define(durable: Durable) -> None:
        first = durable.step(lambda _: None, name="a")
        first.compensate(lambda _: undone.append("a"))
        durable.workflow("w").step(first).wait_for_signal("go")

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    worker.pause(step="a")
    run.cancel(compensate=True)
    world.drain(worker)
    run.pause()
    worker.unpause(step="a")
    run.cancel()
    world.drain(worker)
    assert (undone, world.status(run)) == ([], "compensating")
    run.unpause()
    world.drain(worker)
    assert (undone, world.status(run)) == (["a"], "cancelled")

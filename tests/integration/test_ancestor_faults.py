"""Faults of the engine that came before this one, as far as they concern nodes: none comes back.

Each test is named for the fault (DESIGN section 12); those of linear runs are in other files, and
errors in selectors and mappers in `test_errors_between_steps`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.core.admit import RELEASE_FIRST
from celery_durable.run import Run
from tests.integration.driving import LONG, ONCE, World, all_at_once, error_of, noting, worker_id
from tests.integration.forks import advance, ended, messages, recovered, standing
from tests.integration.workflows import failing, saying, undoable


def kind_and_unit(run: Run) -> tuple[str, str]:
    """The type of the run's error, and its unit."""
    error = error_of(run)
    return error.type, error.unit


def test_an_early_signal_is_dropped(world: World) -> None:
    """P9: it waits in the inbox."""

    def define(durable: Durable) -> None:
        durable.workflow("w").step(noting([], "a")).wait_for_signal("gate", "go")

    worker = world.worker(define)
    run = worker.start("w", {})
    assert run.resume("go", {"by": "me"}).outcome == "stored"
    world.drain(worker)

    assert run.result(timeout=0)["gate"] == {"by": "me"}
    assert ended(world, run) == "completed"


@pytest.mark.parametrize("on_timeout", ["fail", "continue"])
def test_a_signal_timeout_is_accepted_and_ignored(world: World, on_timeout: Any) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").wait_for_signal("gate", timeout=60, on_timeout=on_timeout)

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)
    assert world.status(run) == "running"
    world.let_time_pass(60)
    world.drain(worker)

    if on_timeout == "continue":
        assert run.result(timeout=0) == {"gate": None}
        assert ended(world, run) == "completed"
        return
    assert kind_and_unit(run) == ("SignalTimeout", "gate")
    assert ended(world, run) == "failed"


def test_recovery_fires_timers_early_and_resets_attempts(world: World) -> None:
    """P2: a sleep, a wait between iterations, a backoff in a branch, a signal's timeout."""
    tries: list[int] = []

    def flaky(ctx: Any) -> None:
        tries.append(ctx.attempt)
        raise ConnectionError

    def define(durable: Durable) -> None:
        durable.workflow("nap").sleep("nap", LONG)
        durable.workflow("loop").loop("l", noting([], "l"), max_iterations=2, every=LONG)
        durable.workflow("signal").wait_for_signal("s", timeout=LONG)
        step = durable.step(retry=RetryPolicy(5, initial=LONG, jitter=False, maximum=LONG))(flaky)
        durable.workflow("fork").parallel("p", {"flaky": step})

    worker = world.worker(define)
    runs = [worker.start(name, {}) for name in ("nap", "loop", "signal", "fork")]
    world.drain(worker)
    stood = [standing(world, run) for run in runs]
    for _ in range(3):
        assert recovered(world, worker) == 0
        world.drain(worker)

    assert tries == [1]
    now = [standing(world, run) for run in runs]
    kept = ("unit", "attempt", "wake_at", "fence", "wait")
    assert [[one[k] for k in kept] for run in now for one in run.values()] == [
        [one[k] for k in kept] for run in stood for one in run.values()
    ]
    world.let_time_pass(LONG)
    recovered(world, worker)
    world.drain(worker)
    assert tries == [1, 2]
    assert [world.status(run) for run in runs] == ["completed", "completed", "failed", "running"]


def test_parallel_entries_run_in_one_process_and_are_journaled_only_when_all_are_done(
    world: World,
) -> None:
    """P3: each by whoever takes its message, and at once."""

    def define(durable: Durable) -> None:
        durable.workflow("w").parallel("p", {name: saying([], name) for name in ("x", "y")})

    workers = [world.worker(define), world.worker(define)]
    run = workers[0].start("w", {})
    advance(world, workers[0], run, "p")
    advance(world, workers[0], run, "p#x")
    assert world.units(run) == ["p#x completed"]
    advance(world, workers[1], run, "p#y")
    assert [entry.worker for entry in run.history()] == [worker_id(one) for one in workers]


def test_entry_names_collide(world: World) -> None:
    """Units of different nodes never have one name, whatever their parts are called."""

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w")
        for node in ("p", "q", "route", "0"):
            workflow.parallel(
                node, {part: saying([], [node, part]) for part in ("p", "q", "0", "route", "x")}
            )
        workflow.step(saying([], "x"), name="x")
        workflow.map("m", over=lambda _: [0, 1], handler=saying([], "m"))
        workflow.loop("l", saying([], "l"), max_iterations=2)
        workflow.route("r", lambda _: "route", {"route": saying([], "r")})

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)

    result = run.result(timeout=0)
    for node in ("p", "q", "route", "0"):
        assert result[node] == {part: [node, part] for part in ("p", "q", "0", "route", "x")}
    assert (result["x"], result["m"], result["l"], result["r"]) == ("x", ["m", "m"], "l", "r")
    units = world.units(run)
    assert len(units) == len(set(units))
    assert ended(world, run) == "completed"


@pytest.mark.parametrize("name", ["compensate", "route", "0", "returns", "rollback"])
def test_a_branch_called_compensate_suppresses_a_rollback(world: World, name: str) -> None:
    """P8: a branch may have the words of our own units; so may the node."""
    log: list[str] = []

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w").step(undoable(durable, log, "p"))
        branches = {name: undoable(durable, log, "x"), "y": undoable(durable, log, "y")}
        workflow.parallel(name, branches).step(failing(), name="last", retry=ONCE)

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)

    unit = f"{name}#{name}"
    assert log == [
        "p",
        unit,
        f"{name}#y",
        f"{name}#y#compensate",
        f"{unit}#compensate",
        "p#compensate",
    ]
    assert run.status().compensation_errors == {}
    assert ended(world, run) == "failed"


def test_loop_iterations_are_journaled_at_the_end(world: World) -> None:
    """P3: each with its own commit, and it is what the next one sees."""
    seen: list[list[str]] = []
    runs: list[Run] = []

    def define(durable: Durable) -> None:
        durable.workflow("w").loop(
            "l", lambda _: seen.append(world.units(runs[0])), max_iterations=3
        )

    worker = world.worker(define)
    runs.append(worker.start("w", {}))
    world.drain(worker)

    assert seen == [[], ["l#0 completed"], ["l#0 completed", "l#1 completed"]]


def test_an_unknown_route_is_a_silent_success(world: World) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").route("r", lambda _: "c", {"a": saying([]), "b": saying([])})

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)

    assert kind_and_unit(run) == ("UnknownRoute", "r#route")
    assert ended(world, run) == "failed"


@pytest.mark.parametrize("kind", ["parallel", "map", "loop"])
def test_completed_branches_of_the_failed_node_are_not_compensated(world: World, kind: str) -> None:
    """P8: nor items, nor iterations."""
    undone: list[str] = []

    def second_fails(ctx: Any) -> None:
        if ctx.unit in ("n#b", "n#1"):
            raise ValueError("no")

    def define(durable: Durable) -> None:
        step = durable.step(second_fails, retry=ONCE)
        step.compensate(lambda ctx: undone.append(ctx.unit))
        workflow = durable.workflow("w")
        if kind == "parallel":
            workflow.parallel("n", {"a": step, "b": step})
        elif kind == "map":
            workflow.map("n", over=lambda _: [0, 1], handler=step)
        else:
            workflow.loop("n", step, max_iterations=2)

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)

    assert undone == ["n#a#compensate" if kind == "parallel" else "n#0#compensate"]
    assert ended(world, run) == "failed"


def test_a_child_can_push_a_parent_past_a_gate_it_was_not_waiting_for(world: World) -> None:
    """P3, P9: whatever messages come again, a parent that waits for a signal waits for it."""

    def define(durable: Durable) -> None:
        child = durable.workflow("child").step(noting([], "c"))
        durable.workflow("w").child_workflow("kid", child).parallel(
            "fork", {"one": child, "two": saying([])}
        ).wait_for_signal("gate").child_workflow("other", child)

    worker = world.worker(define)
    run = worker.start("w", {})
    told = []
    while hints := world.publish():
        told += hints
        for token_id in hints:
            worker.engine.advance(token_id)
    for token_id in told * 2:
        worker.engine.advance(token_id)
    assert recovered(world, worker) == 0
    world.drain(worker)

    assert list(standing(world, run)) == ["gate"]
    assert run.status().awaiting == ("gate",)
    run.resume("gate")
    world.drain(worker)
    assert ended(world, run) == "completed"


@pytest.mark.parametrize("place", ["node", "branch", "item"])
def test_a_cancelled_child_strands_its_parent(world: World, place: str) -> None:
    """P2: the parent hears of it, and fails with what happened to the child."""

    def define(durable: Durable) -> None:
        child = durable.workflow("child").wait_for_signal("never")
        workflow = durable.workflow("w")
        if place == "node":
            workflow.child_workflow("n", child)
        elif place == "branch":
            workflow.parallel("n", {"kid": child})
        else:
            workflow.map("n", over=lambda _: [1], handler=child)

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)
    (child,) = run.status().children
    worker.cancel(child.run_id, reason="not wanted")
    world.drain(worker)

    kind, unit = kind_and_unit(run)
    assert kind == "ChildFailed"
    assert unit == {"node": "n", "branch": "n#kid", "item": "n#0"}[place]
    error = error_of(run)
    assert "cancelled" in error.message
    assert "not wanted" in error.message
    assert ended(world, run) == "failed"


@pytest.mark.parametrize("compensate", [False, True])
def test_cancel_and_completion_lock_in_opposite_orders(world: World, compensate: bool) -> None:
    """Branches leave through the gate while a cancel takes hold of them all: nobody deadlocks."""

    def define(durable: Durable) -> None:
        child = durable.workflow("child").step(noting([], "c"))
        durable.workflow("w").parallel(
            "p", {"kid": child, **{f"b{n}": undoable(durable, [], "b") for n in range(3)}}
        )

    workers = [world.worker(define) for _ in range(4)]
    client = world.worker()
    for _ in range(15):
        run = workers[0].start("w", {})
        world.lose_hints()
        advance(world, workers[0], run, "p")
        hints = [row["token_id"] for row in messages(world)]
        world.lose_hints()
        pairs = zip(workers, hints, strict=True)
        calls = [partial(one.engine.advance, hint) for one, hint in pairs]
        all_at_once([*calls, partial(client.cancel, run.id, compensate=compensate)])
        # Who met the cancel as it started the child looks at its branch again after a while.
        world.let_time_pass(RELEASE_FIRST)
        world.drain(*workers)
        assert ended(world, run) in ("cancelled", "completed")


def test_removing_a_step_completes_runs_silently(world: World) -> None:
    """P10: a run that stands at a node which is gone is not taken past it."""
    log: list[str] = []

    def before(durable: Durable) -> None:
        durable.workflow("w").step(noting(log, "a")).parallel(
            "p", {"x": saying(log), "y": saying(log)}
        )

    def after(durable: Durable) -> None:
        durable.workflow("w").step(noting(log, "a"))

    old = world.worker(before)
    run = old.start("w", {})
    old.engine.advance(world.token_id(run))
    advance(world, old, run, "p#x")
    world.drain(world.worker(after))
    assert world.status(run) == "running"
    assert set(standing(world, run)) == {"p", "p#y"}

    world.let_time_pass(100)
    world.drain(old)
    assert log == ["a", "p#x", "p#y"]
    assert ended(world, run) == "completed"

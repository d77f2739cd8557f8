"""P8: with compensate="cascade", a parent that rolls back has its completed child undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from celery_durable import Durable
from celery_durable.core.status import Status
from tests.integration.driving import ONCE, Gate, World, noting
from tests.integration.test_children import children

Undo = Callable[[Any], None]


def cascading(undo: Undo, undo_last: Undo, levels: int) -> Callable[[Durable], None]:
    """A parent that fails after its child, which has so many levels of children of its own."""

    def fail(ctx: Any) -> None:
        raise ValueError("the parent's error")

    def define(durable: Durable) -> None:
        below: Any = None
        for level in range(levels):
            workflow = durable.workflow(f"level {level}")
            if below is not None:
                workflow.child_workflow("below", below, compensate="cascade")
            for name, compensate in (("a", undo), ("b", undo_last if level == 0 else undo)):
                step = durable.step(name=name, compensate=compensate)(lambda ctx: ctx.workflow)
                workflow.step(step)
            below = workflow
        durable.workflow("w").step(below, name="plain").child_workflow(
            "c", below, compensate="cascade"
        ).step(fail, name="f", retry=ONCE)

    return define


@pytest.mark.parametrize("inline_steps", [1, 100])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_parent_that_rolls_back_undoes_the_completed_child(
    world: World, levels: int, inline_steps: int
) -> None:
    """P8"""
    log: list[tuple[UUID, str]] = []

    def undo(ctx: Any) -> None:
        log.append((ctx.run_id, f"{ctx.result} {ctx.unit}"))

    worker = world.worker(cascading(undo, undo, levels), inline_steps=inline_steps)
    run = worker.start("w")
    world.drain(worker)

    assert run.status().status is Status.FAILED
    assert run.status().compensation_errors == {}
    expected = [
        f"level {level} {unit}#compensate" for level in reversed(range(levels)) for unit in "ba"
    ]
    assert [told for _, told in log] == expected
    plain, undone = children(world, run)
    assert (plain["status"], undone["status"]) == ("completed", "cancelled")
    assert world.units(run)[-1] == "c#compensate completed"
    statuses = world.rows("SELECT status FROM durable_run")
    assert [row["status"] for row in statuses].count("cancelled") == levels
    assert {one for one, _ in log} >= {undone["id"]}


@pytest.mark.parametrize("levels", [1, 2])
def test_a_childs_compensator_that_fails_for_good_is_the_parents_compensation_error(
    world: World, levels: int
) -> None:
    """P8"""
    log: list[str] = []

    def fail_to_undo(ctx: Any) -> None:
        raise ValueError("cannot be undone")

    define = cascading(noting(log, "undo"), fail_to_undo, levels)
    worker = world.worker(define, default_retry={"max_attempts": 1})
    run = worker.start("w")
    for _ in range(20):
        world.drain(worker)
        world.let_time_pass(600)

    status = run.status()
    assert status.status is Status.FAILED
    assert status.error is not None
    assert "the parent's error" in status.error.message
    (error,) = status.compensation_errors.values()
    assert set(status.compensation_errors) == {"c#compensate"}
    assert error.type == "ChildFailed"
    assert "cannot be undone" in error.message
    assert log == ["undo"] * (2 * levels - 1), "the others still ran"
    assert children(world, run)[1]["status"] == "failed"


def test_a_rollback_of_a_child_goes_on_where_its_worker_died(world: World) -> None:
    """P8"""
    log: list[str] = []
    gate = Gate()

    def undo(ctx: Any) -> None:
        log.append(ctx.unit)
        if log == ["b#compensate", "a#compensate"]:
            gate()

    first, second = (world.worker(cascading(undo, undo, 1)) for _ in range(2))
    run = first.start("w")
    at_work = gate.hold(world.drain, first)
    world.kill(first)
    assert world.reap(second) == 1
    world.drain(second)
    gate.finish(at_work)

    assert log == ["b#compensate", "a#compensate", "a#compensate"]
    assert run.status().status is Status.FAILED
    assert children(world, run)[1]["status"] == "cancelled"


@pytest.mark.parametrize("of_child", [False, True])
def test_a_cancel_while_a_child_is_undone_changes_nothing(world: World, of_child: bool) -> None:
    """P8"""
    log: list[str] = []
    gate = Gate()

    def undo(ctx: Any) -> None:
        log.append(ctx.unit)
        if len(log) == 1:
            gate()

    worker = world.worker(cascading(undo, undo, 1))
    run = worker.start("w")
    at_work = gate.hold(world.drain, worker)
    assert run.status().status is Status.COMPENSATING
    child = worker.run(children(world, run)[1]["id"])
    assert child.status().status is Status.COMPENSATING
    (child if of_child else run).cancel()
    gate.finish(at_work)
    world.drain(worker)

    assert log == ["b#compensate", "a#compensate"]
    assert run.status().status is Status.FAILED
    assert world.counts()["inbox"] == world.counts()["token"] == 0


@pytest.mark.parametrize("ends", ["completes", "fails"])
def test_children_in_branches_are_undone_too(world: World, ends: str) -> None:
    """P8: a child in a branch has no cascade, so only steps of the parent are undone."""
    log: list[str] = []

    def define(durable: Durable) -> None:
        undoable = durable.step(name="a", compensate=noting(log, "undo a"))(lambda _: 1)
        child = durable.workflow("child").step(undoable)
        fail = durable.step(lambda _: 1 / (ends == "completes"), name="f", retry=ONCE)
        workflow = durable.workflow("w").step(undoable, name="mine")
        workflow.parallel("p", {"c": child, "f": fail})

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)

    assert run.status().status == ("completed" if ends == "completes" else "failed")
    assert log == ([] if ends == "completes" else ["undo a"])
    assert [row["status"] for row in children(world, run)] == ["completed"]

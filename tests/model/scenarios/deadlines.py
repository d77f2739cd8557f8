"""Runs that take too long, or do not begin in time: against commits, cancels, rollbacks, claims."""

from __future__ import annotations

from collections.abc import Callable

from celery_durable import Durable
from tests.model.bench import Bench, Scenario
from tests.model.scenarios.parts import cancel, ends, joined_cancel, step
from tests.model.world import Limits, World

MINUTE = 60.0


def undoable(durable: Durable) -> None:
    first, second = step(durable, "a", undo=True), step(durable, "b", undo=True)
    durable.workflow("w", timeout=MINUTE).step(first).step(second)


def plain(durable: Durable) -> None:
    durable.workflow("w", timeout=MINUTE).step(step(durable, "a")).step(step(durable, "b"))


def one_undoable(durable: Durable) -> None:
    durable.workflow("w", timeout=MINUTE).step(step(durable, "a", undo=True)).step(
        step(durable, "b")
    )


def failing(durable: Durable) -> None:
    workflow = durable.workflow("w", timeout=MINUTE).step(step(durable, "a", undo=True))
    workflow.step(step(durable, "b", fails=9))


def branches(durable: Durable) -> None:
    parts = [step(durable, "x", undo=True), step(durable, "y", undo=True)]
    durable.workflow("w", timeout=MINUTE).parallel("p", parts)


def waiting(durable: Durable) -> None:
    workflow = durable.workflow("w", timeout=MINUTE).step(step(durable, "a", undo=True))
    workflow.wait_for_signal("go")


def parent(durable: Durable) -> None:
    child = durable.workflow("child").step(step(durable, "c", undo=True))
    durable.workflow("w", timeout=MINUTE).child_workflow("kid", child)


def child(durable: Durable) -> None:
    late = durable.workflow("child", timeout=MINUTE).step(step(durable, "c", undo=True))
    durable.workflow("w").step(step(durable, "a", undo=True)).child_workflow("kid", late)


def expiring(durable: Durable) -> None:
    durable.workflow("w", expires=MINUTE).step(step(durable, "a")).step(step(durable, "b"))


def both(durable: Durable) -> None:
    durable.workflow("w", expires=MINUTE, timeout=2 * MINUTE).step(step(durable, "a", undo=True))


def fails_with(*types: str) -> Callable[[Bench, World], None]:
    """A run that failed has one of these errors."""

    def expects(_bench: Bench, world: World) -> None:
        for run in world.tables.run:
            if run["status"] == "failed":
                assert run["error"]["type"].rpartition(".")[2] in types, run["error"]

    return expects


TIMED_OUT = fails_with("RunTimeout")

DEADLINES = (
    Scenario(
        "run timeout: against the commit",
        undoable,
        inline_steps=5,
        limits=Limits(crashes=1),
        longer=Limits(crashes=1, duplicates=1, answers=1, recoveries=1),
        seats=1,
        expects=TIMED_OUT,
        ends=ends("completed", "failed"),
    ),
    Scenario(
        "run timeout: nothing to undo, messages are lost",
        plain,
        limits=Limits(losses=1, recoveries=1),
        longer=Limits(losses=1, crashes=1, recoveries=1),
        seats=1,
        expects=TIMED_OUT,
        ends=ends("completed", "failed"),
    ),
    Scenario(
        "run timeout: against a cancel",
        one_undoable,
        acts=(cancel(),),
        longer=Limits(crashes=1),
        seats=1,
        expects=TIMED_OUT,
        is_large=True,
        ends=ends("completed", "cancelled", "failed"),
    ),
    Scenario(
        "run timeout: against a cancel with compensation",
        one_undoable,
        acts=(joined_cancel(compensate=True),),
        longer=Limits(crashes=1),
        seats=1,
        expects=TIMED_OUT,
        ends=ends("completed", "cancelled", "failed"),
    ),
    Scenario(
        "run timeout: against a rollback",
        failing,
        seats=1,
        longer=Limits(crashes=1, duplicates=1),
        expects=fails_with("Refused", "RunTimeout"),
        ends=ends("failed"),
    ),
    Scenario(
        "run timeout: while branches are executed",
        branches,
        inline_steps=5,
        seats=1,
        longer=Limits(crashes=1),
        expects=TIMED_OUT,
        ends=ends("completed", "failed"),
    ),
    Scenario(
        "run timeout: while it waits for a signal",
        waiting,
        limits=Limits(crashes=1),
        longer=Limits(crashes=1, duplicates=1),
        seats=1,
        expects=TIMED_OUT,
        ends=ends("failed"),
    ),
    Scenario(
        "run timeout: with a child",
        parent,
        inline_steps=5,
        longer=Limits(crashes=1),
        expects=TIMED_OUT,
        ends=ends("completed,completed", "failed", "failed,cancelled", "failed,completed"),
    ),
    Scenario(
        "run timeout: of a child",
        child,
        inline_steps=5,
        seats=1,
        longer=Limits(crashes=1),
        expects=fails_with("RunTimeout", "ChildFailed"),
        ends=ends("completed,completed", "failed,failed"),
    ),
    Scenario(
        "run timeout: before a delayed run begins",
        plain,
        delay=MINUTE,
        seats=1,
        limits=Limits(crashes=1),
        expects=TIMED_OUT,
        ends=ends("completed", "failed"),
    ),
    Scenario(
        "expiry: against the claim",
        expiring,
        limits=Limits(crashes=1, duplicates=1),
        longer=Limits(crashes=2, duplicates=1, losses=1, recoveries=1),
        ends=ends("completed", "cancelled"),
    ),
    Scenario(
        "expiry: against a bundle that looks again",
        expiring,
        starts=("w", "w"),
        bundles=True,
        looks=True,
        guarded=True,
        seats=1,
        ends=ends("completed,completed", "completed,cancelled", "cancelled,cancelled"),
    ),
    Scenario(
        "expiry: and a timeout after it",
        both,
        acts=(cancel(),),
        seats=1,
        expects=TIMED_OUT,
        is_large=True,
        ends=ends("completed", "cancelled", "failed"),
    ),
)

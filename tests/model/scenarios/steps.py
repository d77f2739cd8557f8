"""Steps one after the other: crashes, duplicates, retries, cancels, the way back."""

from __future__ import annotations

from celery_durable import Durable
from tests.model.bench import Scenario
from tests.model.scenarios.parts import TWICE, cancel, ends, joined_cancel, step
from tests.model.world import Limits


def two_steps(durable: Durable) -> None:
    durable.workflow("w").step(step(durable, "a")).step(step(durable, "b"))


def undoable(durable: Durable) -> None:
    first, second = step(durable, "a", undo=True), step(durable, "b", undo=True)
    durable.workflow("w").step(first).step(second).step(step(durable, "c"))


def one_undoable(durable: Durable) -> None:
    durable.workflow("w").step(step(durable, "a", undo=True)).step(step(durable, "b"))


def failing(durable: Durable) -> None:
    first, second = step(durable, "a", undo=True), step(durable, "b", undo=True)
    durable.workflow("w").step(first).step(second).step(step(durable, "c", fails=9))


def retried(durable: Durable) -> None:
    durable.workflow("w").step(step(durable, "a", fails=1, retry=TWICE)).step(step(durable, "b"))


def timed(durable: Durable) -> None:
    durable.workflow("w").step(step(durable, "a", undo=True)).step(
        step(durable, "b", timeout=60, retry=TWICE)
    )


def returning(durable: Durable) -> None:
    workflow = durable.workflow("w").step(step(durable, "a", undo=True))
    workflow.returns(lambda ctx: ctx.results["a"])


STEPS = (
    Scenario(
        "linear: a crash and a duplicate",
        two_steps,
        limits=Limits(crashes=1, duplicates=1),
        longer=Limits(crashes=2, duplicates=1, recoveries=1),
        ends=ends("completed"),
    ),
    Scenario(
        "linear: a worker is taken for dead and lives",
        two_steps,
        inline_steps=5,
        limits=Limits(zombies=1, duplicates=1),
        longer=Limits(zombies=1, crashes=1, recoveries=1),
        ends=ends("completed"),
    ),
    Scenario(
        "linear: a unit whose workers die as often as is allowed",
        one_undoable,
        limits=Limits(crashes=2),
        longer=Limits(crashes=3, duplicates=1),
        max_crashes=2,
        ends=ends("completed", "failed"),
    ),
    Scenario(
        "linear: a lost message and a recovery",
        two_steps,
        limits=Limits(losses=1, crashes=1, recoveries=1),
        longer=Limits(losses=2, crashes=1, recoveries=2),
        ends=ends("completed"),
    ),
    Scenario(
        "linear: the answer to a commit is lost",
        one_undoable,
        inline_steps=5,
        acts=(joined_cancel(compensate=True),),
        limits=Limits(answers=1, recoveries=1),
        seats=1,
        ends=ends("completed", "cancelled"),
    ),
    Scenario(
        "retry: a backoff and a duplicate",
        retried,
        limits=Limits(duplicates=1, crashes=1),
        longer=Limits(duplicates=2, crashes=2),
        ends=ends("completed"),
    ),
    Scenario(
        "retry: cancelled during the backoff",
        retried,
        acts=(cancel(),),
        seats=1,
        ends=ends("completed", "cancelled"),
    ),
    Scenario(
        "cancel: between two steps",
        two_steps,
        acts=(cancel(),),
        limits=Limits(crashes=1),
        longer=Limits(crashes=1, duplicates=1, losses=1, recoveries=1),
        seats=1,
        ends=ends("completed", "cancelled"),
    ),
    Scenario(
        "cancel: in the caller's transaction",
        two_steps,
        inline_steps=5,
        acts=(joined_cancel(),),
        limits=Limits(crashes=1),
        seats=1,
        ends=ends("completed", "cancelled"),
    ),
    Scenario(
        "cancel: with compensation, against the commit",
        undoable,
        inline_steps=5,
        acts=(cancel(compensate=True),),
        longer=Limits(crashes=1, duplicates=1, losses=1, answers=1, recoveries=1),
        seats=1,
        ends=ends("completed", "cancelled"),
    ),
    Scenario(
        "cancel: plain, and another with compensation",
        one_undoable,
        acts=(joined_cancel(), cancel(compensate=True, after="joined cancel")),
        longer=Limits(crashes=1),
        seats=1,
        ends=ends("completed", "cancelled"),
    ),
    Scenario(
        "cancel: before a delayed run begins",
        two_steps,
        acts=(cancel(),),
        delay=60.0,
        seats=1,
        ends=ends("completed", "cancelled"),
    ),
    Scenario(
        "cancel: against what makes the result",
        returning,
        acts=(cancel(compensate=True),),
        longer=Limits(crashes=1),
        seats=1,
        ends=ends("completed", "cancelled"),
    ),
    Scenario(
        "rollback: a crash in the middle",
        failing,
        inline_steps=5,
        limits=Limits(crashes=1, duplicates=1),
        longer=Limits(crashes=2, duplicates=1),
        ends=ends("failed"),
    ),
    Scenario(
        "rollback: cancelled while it goes back",
        failing,
        inline_steps=5,
        acts=(cancel(),),
        seats=1,
        ends=ends("failed", "cancelled"),
    ),
    Scenario(
        "timeout: a worker that is too late is fenced off",
        timed,
        pool="threads",
        limits=Limits(duplicates=1),
        longer=Limits(crashes=1, duplicates=1),
        ends=ends("completed", "failed"),
    ),
)

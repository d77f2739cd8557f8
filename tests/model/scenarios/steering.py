"""What operators do, against workers that are at it: pause, try now, record by hand."""

from __future__ import annotations

from celery_durable import Durable, RetryPolicy
from tests.model.bench import Bench, Scenario
from tests.model.laws import holds
from tests.model.scenarios.parts import (
    TWICE,
    cancel,
    ends,
    pause,
    resume,
    skip,
    step,
    try_now,
    unpause,
)
from tests.model.world import Limits, World

PAUSES = RetryPolicy(max_attempts=1, on_exhausted="pause")
PAUSED = (pause(), unpause(after="pause"))


def two_steps(durable: Durable) -> None:
    durable.workflow("w").step(step(durable, "a")).step(step(durable, "b"))


def undoable(durable: Durable) -> None:
    durable.workflow("w").step(step(durable, "a", undo=True)).wait_for_signal("go")


def two_branches(durable: Durable) -> None:
    branches = [step(durable, "x"), step(durable, "y")]
    durable.workflow("w").parallel("p", branches)


def waiting(durable: Durable) -> None:
    durable.workflow("w").wait_for_signal("go").step(step(durable, "b"))


def retried(durable: Durable) -> None:
    first = step(durable, "a", fails=1, retry=TWICE)
    durable.workflow("w").step(first).step(step(durable, "b"))


def exhausted(durable: Durable) -> None:
    first = step(durable, "first", undo=True)
    second = step(durable, "a", fails=1, retry=PAUSES)
    durable.workflow("w").step(first).step(second)


def recorded_once(_bench: Bench, world: World) -> None:
    """However it went on, `a` is recorded once, and what was recorded is what counts."""
    found = [e for e in world.tables.journal if e["unit"] == "a"]
    holds(len(found) <= 1, "P3: recorded once", found)


STEERING = (
    Scenario(
        "pause: a run that goes straight on",
        two_steps,
        acts=PAUSED,
        inline_steps=9,
        seats=1,
        limits=Limits(crashes=1),
        longer=Limits(crashes=1, duplicates=1, losses=1, recoveries=1),
        ends=ends("completed"),
    ),
    Scenario(
        "pause: a run whose worker is taken for dead",
        two_steps,
        acts=PAUSED,
        inline_steps=9,
        limits=Limits(zombies=1),
        ends=ends("completed"),
    ),
    Scenario(
        "pause: against a cancel",
        undoable,
        acts=(*PAUSED, cancel(compensate=True)),
        begins_parked=True,
        seats=1,
        is_large=True,
        ends=ends("cancelled"),
    ),
    Scenario(
        "pause: branches, and their join",
        two_branches,
        acts=PAUSED,
        inline_steps=9,
        seats=1,
        ends=ends("completed"),
    ),
    Scenario(
        "pause: against a signal",
        waiting,
        acts=(*PAUSED, resume()),
        inline_steps=9,
        seats=1,
        ends=ends("completed"),
    ),
    Scenario(
        "pause: one of a bundle",
        two_steps,
        acts=PAUSED,
        starts=("w", "w"),
        inline_steps=9,
        seats=1,
        bundles=True,
        looks=True,
        ends=ends("completed,completed"),
    ),
    Scenario(
        "skip: against the next try, and a late commit",
        retried,
        acts=(skip("a"),),
        limits=Limits(zombies=1),
        longer=Limits(zombies=1, crashes=1, duplicates=1),
        expects=recorded_once,
        ends=ends("completed"),
    ),
    Scenario(
        "skip: against a cancel",
        exhausted,
        acts=(skip("a"), cancel(compensate=True)),
        longer=Limits(crashes=1),
        begins_parked=True,
        seats=1,
        expects=recorded_once,
        ends=ends("completed", "cancelled"),
    ),
    Scenario(
        "try now: twice, and recorded by hand",
        exhausted,
        acts=(try_now(1), try_now(2), skip("a")),
        longer=Limits(crashes=1),
        begins_parked=True,
        seats=1,
        expects=recorded_once,
        ends=ends("completed"),
    ),
    Scenario(
        "try now: against a cancel",
        exhausted,
        acts=(try_now(1), cancel(compensate=True)),
        longer=Limits(crashes=1),
        begins_parked=True,
        seats=1,
        ends=ends("completed", "cancelled"),
    ),
)

"""Bundles: two tokens of one message, against each other and against everything else."""

from __future__ import annotations

from celery_durable import Durable
from tests.model.bench import Scenario
from tests.model.scenarios.parts import cancel, ends, joined_cancel, step
from tests.model.world import Limits

TWO = ("w", "w")


def two_steps(durable: Durable) -> None:
    durable.workflow("w").step(step(durable, "a")).step(step(durable, "b"))


def beating(durable: Durable) -> None:
    """While a handler talks to Postgres, others go on."""
    workflow = durable.workflow("w")
    for name in ("a", "b"):
        workflow.step(step(durable, name, gives=lambda ctx: bool(ctx.heartbeat())))


def one_step(durable: Durable) -> None:
    durable.workflow("w").step(step(durable, "a"))


def undone(durable: Durable) -> None:
    durable.workflow("w").step(step(durable, "a", undo=True)).step(step(durable, "b", fails=1))


def three_branches(durable: Durable) -> None:
    durable.workflow("w").parallel("p", [step(durable, name) for name in ("x", "y", "z")])


def two_branches(durable: Durable) -> None:
    durable.workflow("w").parallel("p", [step(durable, name) for name in ("x", "y")])


def windowed(durable: Durable) -> None:
    durable.workflow("w").map(
        "m", over=lambda _ctx: [1, 2, 3], handler=step(durable, "item"), max_concurrency=2
    )


def fails_fast(durable: Durable) -> None:
    branches = [step(durable, "x", fails=9), step(durable, "y", undo=True)]
    durable.workflow("w").parallel("p", branches, fail_fast=True)


BUNDLES = (
    Scenario(
        "bundle: two runs, a crash",
        two_steps,
        starts=TWO,
        bundles=True,
        inline_steps=5,
        limits=Limits(crashes=1),
        longer=Limits(crashes=2, duplicates=1, losses=1, recoveries=1),
        ends=ends("completed,completed"),
    ),
    Scenario(
        "bundle: two runs, each message twice",
        one_step,
        starts=TWO,
        bundles=True,
        limits=Limits(duplicates=1),
        longer=Limits(duplicates=2, crashes=1),
        ends=ends("completed,completed"),
    ),
    Scenario(
        "bundle: a budget of one unit",
        two_steps,
        starts=TWO,
        bundles=True,
        limits=Limits(crashes=1),
        longer=Limits(crashes=1, duplicates=1),
        ends=ends("completed,completed"),
    ),
    Scenario(
        "bundle: taken for dead",
        two_steps,
        starts=TWO,
        bundles=True,
        looks=True,
        inline_steps=5,
        limits=Limits(zombies=1),
        longer=Limits(zombies=1, duplicates=1),
        ends=ends("completed,completed"),
    ),
    Scenario(
        "bundle: a lost answer",
        two_steps,
        starts=TWO,
        bundles=True,
        inline_steps=5,
        limits=Limits(answers=1),
        longer=Limits(answers=1, crashes=1),
        seats=1,
        ends=ends("completed,completed"),
    ),
    Scenario(
        "bundle: a cancel of one, whose units begin late",
        beating,
        starts=TWO,
        bundles=True,
        looks=True,
        inline_steps=5,
        acts=(cancel(),),
        longer=Limits(crashes=1),
        seats=1,
        ends=ends("completed,completed", "cancelled,completed"),
    ),
    Scenario(
        "bundle: a cancel in the caller's transaction",
        two_steps,
        starts=TWO,
        bundles=True,
        inline_steps=5,
        acts=(joined_cancel(),),
        limits=Limits(crashes=1),
        seats=1,
        ends=ends("completed,completed", "cancelled,completed"),
    ),
    Scenario(
        "bundle: a cancel with compensation, and a rollback",
        undone,
        starts=TWO,
        bundles=True,
        looks=True,
        inline_steps=5,
        acts=(joined_cancel(compensate=True),),
        longer=Limits(crashes=1),
        seats=1,
        ends=ends("failed,failed", "cancelled,failed"),
    ),
    Scenario(
        "bundle: the guard writes, and gives back",
        two_steps,
        starts=TWO,
        bundles=True,
        guarded=True,
        inline_steps=5,
        limits=Limits(crashes=1),
        longer=Limits(crashes=1, duplicates=1, zombies=1),
        ends=ends("completed,completed"),
    ),
    Scenario(
        "bundle: the guard against a cancel",
        two_steps,
        starts=TWO,
        bundles=True,
        guarded=True,
        looks=True,
        inline_steps=5,
        acts=(cancel(),),
        seats=1,
        longer=Limits(crashes=1),
        ends=ends("completed,completed", "cancelled,completed"),
    ),
    Scenario(
        "bundle: branches leave together, a crash",
        three_branches,
        bundles=True,
        limits=Limits(crashes=1),
        longer=Limits(crashes=1, duplicates=1),
        ends=ends("completed"),
    ),
    Scenario(
        "bundle: branches of two runs",
        two_branches,
        starts=TWO,
        bundles=True,
        seats=1,
        ends=ends("completed,completed"),
    ),
    Scenario(
        "bundle: branches, cancelled",
        two_branches,
        bundles=True,
        acts=(joined_cancel(),),
        seats=1,
        longer=Limits(crashes=1),
        ends=ends("completed", "cancelled"),
    ),
    Scenario(
        "bundle: a window that two leave",
        windowed,
        bundles=True,
        limits=Limits(crashes=1),
        longer=Limits(crashes=1, duplicates=1),
        ends=ends("completed"),
    ),
    Scenario(
        "bundle: fail_fast",
        fails_fast,
        bundles=True,
        limits=Limits(crashes=1),
        longer=Limits(crashes=1, duplicates=1),
        ends=ends("failed"),
    ),
)

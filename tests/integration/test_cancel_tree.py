"""Cancelling a tree of runs: everything below ends, and whoever waits for it waits until it has."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from celery_durable import Durable
from tests.forms import short_or_long
from tests.integration.driving import Gate, World, error_of, noting


class Tree:
    """Three levels: `w` has a child `middle` in a step, which has one, `low`, in a branch.

    Each has an undoable step before its child; the lowest waits for a signal, or is at the gate.
    """

    def __init__(self, world: World, *, at_gate: bool, **settings: Any) -> None:
        self.world = world
        self.log: list[str] = []
        self.gate = Gate()
        self.at_gate = at_gate
        self.workers = [world.worker(self.define, **settings) for _ in range(2)]
        self.run = self.workers[0].start("w")

    def define(self, durable: Durable) -> None:
        def undoable(name: str) -> Any:
            return durable.step(name=name, compensate=noting(self.log, f"undo {name}"))(
                noting(self.log, name)
            )

        low = durable.workflow("low").step(undoable("l"))
        if self.at_gate:
            low.step(durable.step(name="g", compensate=noting(self.log, "undo g"))(self.wait))
        else:
            low.wait_for_signal("s", timeout=3600)
        low.step(undoable("never l"))
        middle = durable.workflow("middle").step(undoable("m"))
        middle.parallel("p", {"low": low, "q": undoable("q")}).step(undoable("never m"))
        durable.workflow("w").step(undoable("t")).child_workflow(
            "c", middle, compensate="cascade"
        ).step(undoable("never t"))

    def wait(self, _: Any) -> None:
        self.log.append("g")
        self.gate()

    def statuses(self) -> list[str]:
        rows = self.world.rows("SELECT status FROM durable_run ORDER BY id")
        return [row["status"] for row in rows]

    def assert_cancelled(self, *undone: str) -> None:
        assert self.statuses() == ["cancelled"] * 3
        assert sorted(self.log) == sorted(["t", "m", "q", "l", *undone])
        counts = self.world.counts()
        assert (counts["token"], counts["inbox"], counts["item"]) == (0, 0, 0)


COMPENSATES = pytest.mark.parametrize("compensate", [False, True])
UNDONE = ["undo t", "undo m", "undo q", "undo l"]


@COMPENSATES
@pytest.mark.parametrize("joins", [False, True])
def test_a_cancel_reaches_all_descendants_that_wait(
    world: World, compensate: bool, joins: bool
) -> None:
    tree = Tree(world, at_gate=False)
    world.drain(*tree.workers)
    assert tree.statuses() == ["running"] * 3
    if joins:
        with world.connect() as connection, connection.transaction():
            tree.run.cancel(compensate=compensate, session=connection)
    else:
        tree.run.cancel(compensate=compensate)
    world.drain(*tree.workers)

    tree.assert_cancelled(*(UNDONE if compensate else []))


@COMPENSATES
def test_a_parent_that_is_cancelled_stays_until_its_descendants_have_ended(
    world: World, compensate: bool
) -> None:
    tree = Tree(world, at_gate=True)
    at_work = tree.gate.hold(world.drain, tree.workers[0])
    tree.run.cancel(compensate=compensate)
    world.drain(tree.workers[1])
    tree.workers[1].recover()
    assert tree.statuses() == ["running"] * 3

    tree.gate.finish(at_work)
    world.drain(*tree.workers)
    tree.assert_cancelled("g", *([*UNDONE, "undo g"] if compensate else []))
    if compensate:
        assert tree.log.index("undo g") < tree.log.index("undo l") < tree.log.index("undo m")
        assert tree.log[-1] == "undo t"


@COMPENSATES
def test_a_cancel_at_any_moment_ends_the_tree(world: World, compensate: bool) -> None:
    """One hint after the other is followed; the cancel comes after the n-th."""
    for n in range(0, 12, short_or_long(3, 1)):
        tree = Tree(world, at_gate=False, inline_steps=1)
        for _ in range(n):
            for token_id in world.publish()[:1] or [uuid4()]:
                tree.workers[0].engine.advance(token_id)
        begun = list(tree.log)
        tree.run.cancel(compensate=compensate)
        world.lose_hints()
        world.let_time_pass(60)
        for _ in range(8):
            tree.workers[0].recover()
            world.drain(*tree.workers)
            world.let_time_pass(60)
        assert set(tree.statuses()) == {"cancelled"}
        done = [one for one in tree.log if not one.startswith("undo")]
        assert done == begun, "nothing begins any more"
        assert len(tree.log) == len(begun) * (1 + compensate)
        assert world.counts()["inbox"] == world.counts()["token"] == 0
        world.rows("DELETE FROM durable_run")


def test_of_three_levels_the_middle_one_is_cancelled_alone(world: World) -> None:
    tree = Tree(world, at_gate=False)
    world.drain(*tree.workers)
    middle = tree.workers[0].run(tree.run.status().children[0].run_id)
    middle.cancel()
    world.drain(*tree.workers)

    assert tree.statuses() == ["failed", "cancelled", "cancelled"]
    assert error_of(tree.run).type == "ChildFailed"
    assert tree.log[-1] == "undo t", "the parent's own steps are undone as after any failure"


@COMPENSATES
@pytest.mark.parametrize("window", [None, 7])
def test_a_map_with_a_thousand_items_ends_at_once(
    world: World, window: int | None, compensate: bool
) -> None:
    log: list[int] = []
    gate = Gate()

    def item(ctx: Any) -> None:
        log.append(ctx.item)
        if ctx.item == 3:
            gate()

    def define(durable: Durable) -> None:
        step = durable.step(name="i", compensate=noting([], "undo"))(item)
        durable.workflow("w").map(
            "m", over=lambda _: list(range(1000)), handler=step, max_concurrency=window
        )

    worker = world.worker(define)
    run = worker.start("w")
    worker.engine.advance(world.publish()[0])
    hints = world.publish()[:4]
    for token_id in hints[:3]:
        worker.engine.advance(token_id)
    at_work = gate.hold(worker.engine.advance, hints[3])
    run.cancel(compensate=compensate)

    tokens = world.rows("SELECT unit, remaining FROM durable_token ORDER BY parent_id NULLS FIRST")
    assert tokens == [{"unit": "m", "remaining": 1}, {"unit": "m#3", "remaining": None}]
    assert world.counts()["item"] == 0
    gate.finish(at_work)
    world.drain(worker)
    assert log == [0, 1, 2, 3]
    assert world.status(run) == "cancelled"
    assert len(world.units(run)) == (8 if compensate else 4)

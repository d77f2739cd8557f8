"""A cancel against a completion, over and over: no deadlock, no illegal end, nothing left."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.run import Run
from tests.forms import is_long, short_or_long
from tests.integration.driving import PATIENCE, World, all_at_once, noting

ROUNDS = short_or_long(12, 40)
STEPS = ("a", "b", "last")


class Racing:
    """Three steps, two of which can be undone; for some inputs the last one fails.

    A run's canceller starts when the step that its input names has been executed: it races against
    that step's commit.
    """

    def __init__(self) -> None:
        self.executed = {n: threading.Event() for n in range(ROUNDS)}

    def define(self, durable: Durable) -> None:
        workflow = durable.workflow("w")
        for name in STEPS:
            step = durable.step(name=name, retry=RetryPolicy(1))(self.execute)
            if name != "last":
                step.compensate(noting([], f"undo {name}"))
            workflow.step(step)

    def execute(self, ctx: Any) -> None:
        if ctx.step == ctx.input["at"]:
            self.executed[ctx.input["n"]].set()
        if ctx.step == "last" and ctx.input["n"] % 3 == 0:
            raise ValueError("no")

    def cancel(self, run: Run, n: int, *, compensate: bool) -> None:
        assert self.executed[n].wait(PATIENCE)
        run.cancel(compensate=compensate)


def deliver(worker: Durable, token_id: UUID) -> None:
    for _ in range(2 * len(STEPS)):
        worker.engine.advance(token_id)


def legal_ends(units: list[str]) -> set[str]:
    """The statuses a run may have ended with that has this journal."""
    completed = {unit.split()[0] for unit in units if unit.endswith(" completed")}
    undone = {unit.split("#")[0] for unit in completed if "#" in unit}
    done = {unit for unit in completed if "#" not in unit}
    if done == {"a", "b", "last"} and not undone:
        return {"completed"}
    if undone == done - {"last"} and "last failed" in units:
        return {"failed", "cancelled"}
    if not undone or undone == done - {"last"}:
        return {"cancelled"}
    return set()


@pytest.mark.parametrize("inline_steps", [1, 100])
def test_a_cancel_against_a_completion_always_ends_legally(world: World, inline_steps: int) -> None:
    """P3, P4, P8"""
    chance = random.Random(inline_steps)
    racing = Racing()
    workers = [world.worker(racing.define, inline_steps=inline_steps) for _ in range(2)]
    runs: list[Run] = []
    for n in range(ROUNDS):
        run = workers[0].start("w", {"n": n, "at": chance.choice(STEPS)})
        runs.append(run)
        token_id = world.token_id(run)
        calls: list[Callable[[], Any]] = [partial(deliver, one, token_id) for one in workers]
        calls += [
            partial(racing.cancel, run, n, compensate=chance.random() < 0.5)
            for _ in range(chance.randint(1, 2))
        ]
        if chance.random() < 0.2:
            calls.append(workers[1].recover)
        all_at_once(calls)
    while world.drain(*workers):
        pass

    for run in runs:
        units = world.units(run)
        assert world.status(run) in legal_ends(units), units
        assert len(units) == len(set(units)), "a unit is recorded once"
    assert {table: world.counts()[table] for table in ("token", "inbox", "outbox")} == {
        "token": 0,
        "inbox": 0,
        "outbox": 0,
    }
    assert not is_long() or len({world.status(run) for run in runs}) > 1, "the race was no race"

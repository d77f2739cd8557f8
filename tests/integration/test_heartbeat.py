"""What a unit says of itself while it is at work, and what it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.errors import PayloadTooLarge, RunCancelled, WorkerLost
from celery_durable.workflow import context
from tests.integration.driving import Gate, World, noting
from tests.integration.forks import advance, ended, standing
from tests.integration.workflows import fail


@pytest.fixture(autouse=True)
def always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that asks looks at the database, however short ago it looked."""
    monkeypatch.setattr(context, "BEAT_EVERY", 0.0)


class AtWork:
    """A run of one undoable step, in the middle of which the test has its say."""

    def __init__(self, world: World, *acts: Callable[[Any], Any], unit: str = "slow") -> None:
        self.world = world
        self.acts = acts
        self.gates = [Gate() for _ in acts]
        self.told: list[Any] = []
        self.log: list[str] = []
        self.worker = world.worker(self.define, default_retry={"max_attempts": 1})
        self.run = self.worker.start("w", {})
        if unit != "slow":
            advance(world, self.worker, self.run, "slow")
        token_id = standing(world, self.run)[unit]["id"]
        self.at_work = self.gates[0].hold(self.worker.engine.advance, token_id)

    def define(self, durable: Durable) -> None:
        step = durable.step(name="slow")(self.handle)
        step.compensate(noting(self.log, "undo"))
        durable.workflow("w").step(step)

    def handle(self, ctx: Any) -> None:
        for gate, act in zip(self.gates, self.acts, strict=True):
            gate()
            try:
                self.told.append(act(ctx))
            except Exception as error:
                self.told.append(error)
                raise

    def next(self) -> None:
        """Let the handler do its next act, and come to the gate after it, or to its end."""
        at = next(n for n, gate in enumerate(self.gates) if not gate._open.is_set())
        self.gates[at].open()
        if at + 1 < len(self.gates):
            self.gates[at + 1].wait_until_reached()
        else:
            self.at_work.result(20)
            self.world.drain(self.worker)


def beat(ctx: Any) -> None:
    ctx.heartbeat()


def is_cancelled(ctx: Any) -> bool:
    return bool(ctx.cancelled)


def test_what_a_unit_says_is_in_the_status_while_it_is_at_work(world: World) -> None:
    scene = AtWork(
        world,
        lambda ctx: ctx.progress(0.25, "a quarter"),
        lambda ctx: ctx.heartbeat({"page": 7}),
        beat,
    )
    assert scene.run.status().progress == {}
    scene.next()
    said = scene.run.status().progress["slow"]
    assert (said.fraction, said.message) == (0.25, "a quarter")
    scene.next()
    assert scene.run.status().progress["slow"].details == {"page": 7}
    scene.next()
    assert scene.run.status().progress == {}
    assert ended(world, scene.run) == "completed"


def test_what_is_said_before_a_retry_is_gone_with_the_attempt(world: World) -> None:
    def fail(ctx: Any) -> None:
        ctx.progress(0.5)
        raise ValueError

    worker = world.worker(lambda durable: durable.workflow("w").step(fail, name="slow"))
    run = worker.start("w", {})
    world.drain(worker)

    assert run.status().attempt == 2
    assert run.status().progress == {}


def test_a_heartbeat_without_details_leaves_those_before(world: World) -> None:
    scene = AtWork(world, lambda ctx: ctx.heartbeat("details"), beat, beat)
    scene.next()
    scene.next()
    assert scene.run.status().progress["slow"].details == "details"
    scene.next()


def test_each_branch_says_its_own(world: World) -> None:
    class Branches(AtWork):
        def define(self, durable: Durable) -> None:
            durable.workflow("w").parallel("slow", {"a": self.handle, "b": noting([], "b")})

    scene = Branches(world, lambda ctx: ctx.progress(0.5), beat, unit="slow#a")
    scene.next()
    assert set(scene.run.status().progress) == {"slow#a"}
    scene.next()
    assert ended(world, scene.run) == "completed"


@pytest.mark.parametrize("fraction", [-0.1, 1.1, "half", None, True, float("nan")])
def test_a_fraction_is_from_0_to_1(world: World, fraction: Any) -> None:
    scene = AtWork(world, lambda ctx: ctx.progress(fraction))
    scene.next()

    assert isinstance(scene.told[0], TypeError | ValueError)
    assert ended(world, scene.run) == "failed"


def test_details_are_bounded(world: World) -> None:
    scene = AtWork(world, lambda ctx: ctx.heartbeat("x" * 1_000_000))
    scene.next()

    assert isinstance(scene.told[0], PayloadTooLarge)
    assert ended(world, scene.run) == "failed"


def test_a_unit_is_told_of_a_cancel(world: World) -> None:
    scene = AtWork(world, is_cancelled, is_cancelled, beat)
    scene.next()
    scene.run.cancel(reason="not wanted")
    scene.next()
    scene.next()

    assert scene.told[:2] == [False, True]
    assert isinstance(scene.told[2], RunCancelled)
    assert scene.log == []
    assert ended(world, scene.run) == "cancelled"


def test_a_unit_whose_work_still_counts_is_not_told_of_a_cancel(world: World) -> None:
    """P8: it is allowed to end, and is then undone."""
    scene = AtWork(world, is_cancelled, beat)
    scene.run.cancel(compensate=True)
    scene.next()
    scene.next()

    assert scene.told == [False, None]
    assert scene.log == ["undo"]
    assert world.units(scene.run) == ["slow completed", "slow#compensate completed"]
    assert ended(world, scene.run) == "cancelled"


def test_a_branch_is_told_of_a_cancel(world: World) -> None:
    class Branches(AtWork):
        def define(self, durable: Durable) -> None:
            durable.workflow("w").parallel("slow", {"a": self.handle, "b": noting([], "b")})

    scene = Branches(world, is_cancelled, beat, unit="slow#a")
    scene.run.cancel()
    scene.next()
    scene.next()

    assert scene.told[0] is True
    assert isinstance(scene.told[1], RunCancelled)
    assert ended(world, scene.run) == "cancelled"


def test_a_compensator_is_not_told_of_a_cancel(world: World) -> None:
    """P8: what undoes is not stopped."""
    told: list[bool] = []
    gate = Gate()

    def undo(ctx: Any) -> None:
        gate()
        told.append(ctx.cancelled)
        ctx.heartbeat()

    def define(durable: Durable) -> None:
        a = durable.step(name="a")(noting([], "a"))
        a.compensate(undo)
        durable.workflow("w").step(a).step(fail)

    worker = world.worker(define, default_retry={"max_attempts": 1})
    run = worker.start("w", {})
    at_work = gate.hold(world.drain, worker)
    run.cancel()
    gate.finish(at_work)
    world.drain(worker)

    assert told == [False]
    assert ended(world, run) == "failed"


@pytest.mark.parametrize("act", [beat, is_cancelled, lambda ctx: ctx.progress(0.5)])
def test_a_worker_that_has_lost_the_unit_is_told(world: World, act: Callable[[Any], Any]) -> None:
    """P4: what it does is thrown away."""
    scene = AtWork(world, act)
    other = world.worker()
    world.kill(scene.worker)
    assert world.reap(other) == 1
    scene.gates[0].finish(scene.at_work)

    (told,) = scene.told
    assert isinstance(told, WorkerLost)
    assert "slow" in str(told)
    assert world.units(scene.run) == []
    assert world.status(scene.run) == "running"

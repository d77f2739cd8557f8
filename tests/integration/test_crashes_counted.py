"""A crash counts against what the dead process was at, not against what was only looked at."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable import Durable, Suspend
from celery_durable.engine.waits import Waits
from tests.integration.driving import Gate, World, noting


def test_deaths_over_a_parked_step_do_not_count_against_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P3: as many workers die as look at it when its answer has come."""
    log: list[str] = []

    def ask(ctx: Any) -> Any:
        log.append("resumed" if ctx.is_resumed else "asked")
        return "done" if ctx.is_resumed else Suspend(signal="s")

    def define(durable: Durable) -> None:
        durable.workflow("w").step(ask)

    living = world.worker(define, max_crashes=2)
    run = living.start("w", {})
    world.drain(living)
    run.resume("s", 1)
    world.publish()
    look, gates = Waits.check, [Gate(), Gate()]
    for gate in gates:
        victim = world.worker(define, max_crashes=2)

        def looking(self: Waits, *arguments: Any, here: Gate = gate) -> Any:
            here()
            return look(self, *arguments)

        with monkeypatch.context() as patched:
            patched.setattr(Waits, "check", looking)
            gate.hold(victim.engine.advance, world.token_id(run))
        world.kill(victim)
        assert world.reap(living) == 1

    world.drain(living)
    for gate in gates:
        gate.open()

    assert log == ["asked", "resumed"]
    assert run.status().status == "completed"


def test_a_loop_whose_own_function_kills_its_workers_fails_and_its_children_are_undone(
    world: World,
) -> None:
    """P8: the child has completed; only the loop around it cannot go on."""
    log: list[str] = []
    gates = [Gate(), Gate()]

    def until(_result: Any, _done: int) -> bool:
        log.append("until")
        gates[len(log) - 2]()
        return True

    def define(durable: Durable) -> None:
        step = durable.step(noting(log, "x"))
        child = durable.workflow("c").step(step)
        durable.workflow("w").loop("poll", child, max_iterations=3, until=until)

    living = world.worker(define, max_crashes=2)
    run = living.start("w", {})
    for _ in ("the run's own hint", "its child's"):
        (token_id,) = world.publish()
        living.engine.advance(token_id)
    world.publish()
    for gate in gates:
        victim = world.worker(define, max_crashes=2)
        gate.hold(victim.engine.advance, world.token_id(run))
        world.kill(victim)
        assert world.reap(living) == 1

    world.drain(living)
    for gate in gates:
        gate.open()

    assert log == ["x", "until", "until"]
    snapshot = run.status()
    assert snapshot.status == "failed"
    assert snapshot.error is not None
    assert (snapshot.error.type, snapshot.error.unit) == ("WorkerLost", "poll")
    assert world.units(run) == ["poll#0 completed", "poll failed"]

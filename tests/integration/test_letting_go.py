"""A claim that is let go, taken away or put back: who comes next knows that the unit had begun."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.engine import loop
from celery_durable.process import interrupts
from celery_durable.run import Run
from celery_durable.worker import process
from tests.integration.driving import ONCE, Gate, World, error_of, noting, worker_id
from tests.integration.forks import advance, ended, messages, standing
from tests.integration.workflows import failing
from tests.waiting import wait_until

PASS_DEADLINE = (
    "UPDATE durable_token SET deadline_at = clock_timestamp() - interval '1 second'"
    " WHERE claimed_by IS NOT NULL"
)


def broken() -> int:
    raise LookupError("no default")


@dataclass
class Answer:
    """A result of a child run."""

    n: int


@dataclass
class LaterAnswer:
    """What a new release has made of it: nothing that is stored can be read."""

    n: int
    more: int = field(default_factory=broken)


def test_a_claim_is_let_go_though_its_row_is_locked_just_now(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: a heartbeat or a cancel may be at the row; nobody else would let it go."""
    monkeypatch.setattr(process, "_is_ending", [True])
    monkeypatch.setattr(loop, "SAYS_IT_STOPS_WITHIN", 0.01)
    gate = Gate()

    def exits(ctx: Any) -> None:
        gate()
        raise SystemExit("told to")

    worker = world.worker(lambda durable: durable.workflow("w").step(exits, name="a"))
    run = worker.start("w", {})
    (token_id,) = world.publish()
    at_work = gate.hold(worker.engine.advance, token_id)
    with world.connect() as other, other.transaction():
        other.execute("UPDATE durable_token SET progress = '1'")
        gate.open()
        wait_until(lambda: at_work.done() or world.waiting_for_locks(), message="the letting go")
    with pytest.raises(SystemExit, match="told to"):
        at_work.result(20)

    assert standing(world, run)["a"]["claimed_by"] is None


def test_a_hint_of_an_earlier_unit_does_not_limit_a_later_one(world: World) -> None:
    """P9 lets a signal come early: its hint has the time limit of the unit in hand."""
    gate = Gate()
    log: list[str] = []

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w").step(lambda _: gate(), name="short", timeout=5)
        workflow.step(noting(log, "long"))

    worker = world.worker(define)
    run = worker.start("w", {})
    (token_id,) = world.publish()
    at_work = gate.hold(worker.engine.advance, token_id)
    run.resume("go", 1)
    gate.finish(at_work)
    stale = messages(world)[0]["options"]["soft_time_limit"]
    world.publish()

    worker.engine.advance(token_id, stale)
    assert (stale, log) == (5, [])
    (message,) = messages(world)
    assert "soft_time_limit" not in message["options"]
    world.publish()
    worker.engine.advance(token_id, None)
    assert log == ["long"]


def test_a_message_with_a_limit_whose_claim_took_long_is_sent_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pool has counted since it took the message: the unit would not have its time."""
    log: list[str] = []
    worker = world.worker(lambda durable: durable.workflow("w").step(noting(log, "a"), timeout=5))
    run = worker.start("w", {})
    for early, done in [(-1.0, []), (60.0, ["a"])]:
        monkeypatch.setattr(interrupts, "EARLY", early)
        (token_id,) = world.publish()
        worker.engine.advance(token_id, 5)
        assert log == done
    assert run.history()[0].attempt == 1


def test_a_message_that_always_comes_with_another_limit_is_sent_less_and_less_often(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Something of the user's may write into every message; it is told once that matters."""
    log: list[str] = []
    worker = world.worker(lambda durable: durable.workflow("w").step(noting(log, "a")))
    run = worker.start("w", {})
    pauses: list[float] = []
    for _ in range(12):
        (message,) = messages(world)
        world.lose_hints()
        worker.engine.advance(message["token_id"], 5)
        waits = world.one("SELECT wake_at - hinted_at FROM durable_token")
        pauses.append(0 if waits is None else round(waits.total_seconds(), 2))
        world.let_time_pass(pauses[-1] + 1)
    assert log == []
    assert pauses[:4] == [0, 0.05, 0.1, 0.2]
    assert max(pauses) == pauses[-1] == 30
    assert caplog.text.count(f"a of run {run.id} has come 4 times with a time limit of 5 s") == 1


class Pair:
    """Two branches: `y` fails, and drops `x` if that has not begun."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.gate = Gate()
        self.slow, self.other = (world.worker(self.define) for _ in range(2))
        self.run = self.slow.start("w", {})
        world.publish()
        advance(world, self.other, self.run, "p")
        world.publish()
        branch = standing(world, self.run)["p#x"]["id"]
        self.at_work = self.gate.hold(self.slow.engine.advance, branch)

    def define(self, durable: Durable) -> None:
        x = durable.step(name="x", timeout=5, retry=ONCE)(self.hang)
        y = durable.step(name="y", retry=ONCE)(failing())
        durable.workflow("w").parallel("p", {"x": x, "y": y}, fail_fast=True)

    def hang(self, _: Any) -> None:
        if not self.gate.reached.is_set():
            self.gate()

    def fail_while_x_is_looked_at_by_nobody(self) -> list[str]:
        """The journal, after all is done."""
        assert self.world.reap(self.other) == 1
        advance(self.world, self.other, self.run, "p#y")
        self.world.drain(self.other)
        self.gate.finish(self.at_work)
        return self.world.units(self.run)


def test_a_branch_that_timed_out_is_not_dropped_by_fail_fast(world: World) -> None:
    """P8: its effect may be there, so it is in the journal."""
    pair = Pair(world)
    world.rows(PASS_DEADLINE)

    assert "p#x failed" in pair.fail_while_x_is_looked_at_by_nobody()
    assert ended(world, pair.run) == "failed"


def test_a_branch_whose_draining_worker_died_is_not_dropped_by_fail_fast(world: World) -> None:
    """P8: no crash is counted, and yet it had begun."""
    pair = Pair(world)
    world.rows("UPDATE durable_worker SET draining = true WHERE id = %s", worker_id(pair.slow))
    world.kill(pair.slow)

    assert "p#x completed" in pair.fail_while_x_is_looked_at_by_nobody()
    assert ended(world, pair.run) == "failed"


def test_a_compensator_that_took_too_long_has_had_a_try_though_the_run_is_cancelled(
    world: World,
) -> None:
    """P8"""
    gate = Gate()
    tries: list[int] = []

    def undo(ctx: Any) -> None:
        tries.append(ctx.attempt)
        if len(tries) == 1:
            gate()

    def define(durable: Durable) -> None:
        step = durable.step(name="a")(noting([], "a"))
        step.compensate(undo, timeout=5, retry=ONCE)
        durable.workflow("w").step(step).step(failing(), name="b", retry=ONCE)

    slow, other = world.worker(define), world.worker(define)
    run = slow.start("w", {})
    (token_id,) = world.publish()
    slow.engine.advance(token_id)
    (token_id,) = world.publish()
    at_work = gate.hold(slow.engine.advance, token_id)
    world.rows(PASS_DEADLINE)
    assert world.reap(other) == 1
    run.cancel()
    world.drain(other)
    gate.finish(at_work)

    assert tries == [1]
    assert "a#compensate failed" in world.units(run)


def test_a_childs_result_that_is_another_for_a_later_release_fails_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P12: it is no fault of the engine, which would be tried for ever."""

    def define(durable: Durable) -> None:
        child = durable.workflow("child").step(lambda _: Answer(1), name="a")
        durable.workflow("w").loop(
            "poll", child, until=lambda result, _: result.n, max_iterations=3
        )

    worker = world.worker(define, inline_steps=1)
    run = worker.start("w", {})
    while not child_has_ended(world):
        for token_id in world.publish():
            worker.engine.advance(token_id)
    monkeypatch.setattr(sys.modules[__name__], "Answer", LaterAnswer)
    world.drain(worker)

    assert ended(world, run) == "failed"
    assert_failed_in(run, "poll")


def child_has_ended(world: World) -> bool:
    query = "SELECT count(*) FROM durable_run WHERE workflow = 'child' AND finished_at IS NOT NULL"
    return bool(world.one(query))


def assert_failed_in(run: Run, unit: str) -> None:
    assert error_of(run).unit == unit

"""P2: a run that is not finished always has something that will move it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.errors import RetryLater
from celery_durable.run import Run
from tests.integration.driving import LONG, World, all_at_once, claimed, defining, noting


def recover_alone(world: World, worker: Durable, run: Run, at_most: int = 20) -> None:
    """The broker loses every message; only what recovery sends next ever arrives."""
    for _ in range(at_most):
        world.lose_hints()
        world.let_time_pass(LONG)
        worker.recover()
        for token_id in world.publish():
            worker.engine.advance(token_id)
        if world.has_ended(run):
            return
    pytest.fail(f"the run stands still at {world.token(run)}")


def fails_at(log: list[str], name: str) -> Callable[[Any], Any]:
    def handler(ctx: Any) -> None:
        log.append(name)
        raise ValueError(name)

    handler.__name__ = name
    return handler


def test_recovery_alone_brings_a_run_to_its_end(world: World) -> None:
    """P2"""
    log: list[str] = []
    worker = world.worker(defining(log, "a", "b", "c"), inline_steps=1)
    run = worker.start("w", {})

    recover_alone(world, worker, run)

    assert log == ["a", "b", "c"]
    assert run.status().status == "completed"


def test_recovery_alone_brings_a_rollback_to_its_end(world: World) -> None:
    """P2, P8"""
    log: list[str] = []

    def define(durable: Durable) -> None:
        a = durable.step(noting(log, "a"))
        a.compensate(noting(log, "undo a"))
        durable.workflow("w").step(a).step(fails_at(log, "b"), retry=RetryPolicy(max_attempts=2))

    worker = world.worker(define, inline_steps=1)
    run = worker.start("w", {})

    recover_alone(world, worker, run)

    assert log == ["a", "b", "b", "undo a"]
    assert run.status().status == "failed"


def test_recovery_alone_brings_a_delayed_run_to_its_end(world: World) -> None:
    """P2"""
    log: list[str] = []
    worker = world.worker(defining(log, "a"))
    run = worker.start("w", {}, delay=1000)

    recover_alone(world, worker, run)

    assert log == ["a"]


def test_recovery_alone_carries_a_cancel_out(world: World) -> None:
    """P2"""
    log: list[str] = []
    worker = world.worker(defining(log, "a"))
    run = worker.start("w", {})
    with world.connect() as connection, connection.transaction():
        run.cancel(session=connection)

    recover_alone(world, worker, run)

    assert log == []
    assert run.status().status == "cancelled"
    assert world.counts()["inbox"] == 0


def test_recovery_alone_brings_a_run_to_its_end_after_a_crash_at_every_claim(world: World) -> None:
    """P2: the claim was written, and its worker is gone before it could do anything."""
    log: list[str] = []
    define = defining(log, "a", "b")
    alive = world.worker(define, inline_steps=1)
    run = alive.start("w", {})
    for _ in range(2):
        gone = uuid4()
        assert claimed(alive, world.token_id(run))
        world.rows("UPDATE durable_token SET claimed_by = %s", gone)
        world.lose_hints()

        assert alive.recover() == 1
        for token_id in world.publish():
            alive.engine.advance(token_id)

    assert log == ["a", "b"]
    assert run.status().status == "completed"


def test_a_delayed_start_is_not_early(world: World) -> None:
    """P2"""
    log: list[str] = []
    worker = world.worker(defining(log, "a"))
    run = worker.start("w", {}, delay=60)

    assert world.publish() == [], "its hint is not due"
    worker.engine.advance(world.token_id(run))
    assert log == []
    assert run.status().status == "pending"

    world.let_time_pass(61)
    world.drain(worker)
    assert log == ["a"]
    snapshot = run.status()
    assert snapshot.status == "completed"
    assert snapshot.started_at is not None
    assert snapshot.started_at > snapshot.created_at


def test_a_retry_waits_for_its_backoff(world: World) -> None:
    """P2"""
    log: list[str] = []
    retry = RetryPolicy(max_attempts=2, initial=60, jitter=False)

    def define(durable: Durable) -> None:
        durable.workflow("w").step(fails_at(log, "a"), retry=retry)

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)

    worker.engine.advance(world.token_id(run))
    worker.recover()
    assert world.publish() == []
    assert log == ["a"], "the second try is a minute away"
    snapshot = run.status()
    assert snapshot.attempt == 2
    assert snapshot.wake_at is not None
    assert snapshot.status == "running"

    world.let_time_pass(61)
    world.drain(worker)
    assert log == ["a", "a"]
    assert run.status().status == "failed"


def test_a_step_that_asks_for_later_is_tried_later_and_does_not_count(world: World) -> None:
    """P2"""
    attempts: list[int] = []

    def poll(ctx: Any) -> str:
        attempts.append(ctx.attempt)
        if len(attempts) < 5:
            raise RetryLater(30)
        return "there"

    def define(durable: Durable) -> None:
        durable.workflow("w").step(poll, retry=RetryPolicy(max_attempts=1))

    worker = world.worker(define)
    run = worker.start("w", {})
    for _ in range(5):
        world.drain(worker)
        world.let_time_pass(31)

    assert attempts == [1, 1, 1, 1, 1]
    assert run.status().results == {"poll": "there"}


def test_recovery_by_many_at_once_puts_one_hint(world: World) -> None:
    """P2"""
    workers = [world.worker(defining([], "a")) for _ in range(2)]
    workers[0].start_many("w", [{}] * 20)
    world.lose_hints()
    world.let_time_pass(LONG)

    moved = all_at_once([w.recover for w in workers * 4])

    assert sum(moved) == 20
    assert world.hints() == 20
    assert world.one("SELECT count(DISTINCT token_id) FROM durable_outbox") == 20


def test_a_hint_that_may_still_come_is_not_sent_again(world: World) -> None:
    """P2: neither while the outbox holds it, nor before its time; each time twice as late."""
    worker = world.worker(defining([], "a"))
    worker.start("w", {})
    world.let_time_pass(LONG)
    assert worker.recover() == 0, "the outbox has it"

    world.lose_hints()
    assert worker.recover() == 1
    for patience in (20, 40, 80):
        world.lose_hints()
        world.let_time_pass(patience - 5)
        assert worker.recover() == 0, f"not before {patience} s"
        world.let_time_pass(6)
        assert worker.recover() == 1
    token = world.rows("SELECT hints FROM durable_token")
    assert token == [{"hints": 4}]


def test_the_patience_with_hints_starts_again_at_a_commit(world: World) -> None:
    """P2"""
    worker = world.worker(defining([], "a", "b"), inline_steps=1)
    run = worker.start("w", {})
    for _ in range(3):
        world.lose_hints()
        world.let_time_pass(LONG)
        worker.recover()
    (token_id,) = world.publish()
    worker.engine.advance(token_id)

    world.lose_hints()
    world.let_time_pass(11)
    assert worker.recover() == 1
    assert not world.has_ended(run)


def test_a_timer_far_away_does_not_hide_a_lost_hint(world: World) -> None:
    """P2: nor does the backoff of a sibling."""
    worker = world.worker(defining([], "a"))
    run = worker.start("w", {})
    world.rows("UPDATE durable_outbox SET available_at = clock_timestamp() + interval '3 days'")
    world.let_time_pass(20)

    assert worker.recover() == 1
    world.drain(worker)
    assert run.status().status == "completed"


def test_a_hint_of_an_older_claim_does_not_hide_a_lost_one(world: World) -> None:
    """P2: such a message may be in the outbox for long, and brings nobody to the token."""
    worker = world.worker(defining([], "a"))
    worker.start("w", {})
    world.rows("UPDATE durable_outbox SET fence = gen_random_uuid()")
    world.let_time_pass(20)

    assert worker.recover() == 1
    assert worker.recover() == 0


def test_the_patience_with_hints_ends(world: World) -> None:
    """P2: however often a token has been hinted, it is again after ten minutes."""
    worker = world.worker(defining([], "a"))
    worker.start("w", {})
    world.lose_hints()
    world.rows("UPDATE durable_token SET hints = 1000")
    world.let_time_pass(590)
    assert worker.recover() == 0
    world.let_time_pass(20)
    assert worker.recover() == 1

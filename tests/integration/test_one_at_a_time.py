"""P3 and P4: a unit is recorded once, and while its worker lives nobody else executes it."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.store import tokens
from tests.integration.driving import Gate, World, all_at_once, claimed, defining, noting

DELIVERIES = 50


def test_fifty_deliveries_at_once_on_two_workers_execute_a_unit_once(world: World) -> None:
    """P3, P4"""
    log: list[str] = []
    define = defining(log, "a", "b")
    workers = [world.worker(define) for _ in range(2)]
    run = workers[0].start("w", {})
    (token_id,) = world.publish()

    all_at_once([partial(workers[i % 2].engine.advance, token_id) for i in range(DELIVERIES)])

    assert log == ["a", "b"]
    assert world.units(run) == ["a completed", "b completed"]
    assert run.status().status == "completed"


def test_a_token_that_is_claimed_is_not_to_be_had(world: World) -> None:
    """P4: by nobody, its own worker included."""
    workers = [world.worker(defining([], "a")) for _ in range(2)]
    token_id = world.token_id(workers[0].start("w", {}))
    claims = [claimed(worker, token_id) for worker in (*workers, workers[0])]

    assert claims[0] is not None
    assert claims[1:] == [None, None]


def test_deliveries_while_a_unit_executes_do_nothing(world: World) -> None:
    """P4"""
    log: list[str] = []
    gate = Gate()
    define = defining(log, "slow", gate=gate)
    first, second = world.worker(define), world.worker(define)
    run = first.start("w", {})
    (token_id,) = world.publish()
    at_work = gate.hold(first.engine.advance, token_id)

    for worker in (first, second):
        worker.engine.advance(token_id)
        worker.recover()
    world.let_time_pass(3600)
    second.recover()
    assert world.hints() == 0, "a unit that is executed needs no hint"
    assert log == ["slow"]

    gate.finish(at_work)
    assert run.status().status == "completed"
    assert log == ["slow"]


def test_a_worker_declared_dead_cannot_commit(world: World) -> None:
    """P4: its result is dropped, and so is everything else it would have written."""
    gate = Gate()
    results = iter(["of the zombie", "of the living"])

    def pay(ctx: Any) -> str:
        result = next(results)
        if result == "of the zombie":
            gate()
        return result

    def define(durable: Durable) -> None:
        durable.workflow("w").step(pay).step(noting([], "b"))

    zombie, living = world.worker(define), world.worker(define)
    run = zombie.start("w", {})
    (token_id,) = world.publish()
    at_work = gate.hold(zombie.engine.advance, token_id)
    world.kill(zombie)
    assert world.reap(living) == 1

    gate.finish(at_work)
    assert world.units(run) == [], "the zombie has written nothing"
    token = world.token(run)
    assert (token["unit"], token["crashes"], token["claimed_by"]) == ("pay", 1, None)

    world.drain(living)
    assert run.status().results["pay"] == "of the living"


def test_a_zombie_cannot_commit_over_the_claim_of_another(world: World) -> None:
    """P4"""
    gates = [Gate(), Gate()]
    log: list[str] = []

    def pay(ctx: Any) -> int:
        mine = len(log)
        log.append("pay")
        gates[mine]()
        return mine

    def define(durable: Durable) -> None:
        durable.workflow("w").step(pay)

    zombie, living = world.worker(define), world.worker(define)
    run = zombie.start("w", {})
    (token_id,) = world.publish()
    first = gates[0].hold(zombie.engine.advance, token_id)
    world.kill(zombie)
    world.reap(living)
    second = gates[1].hold(living.engine.advance, token_id)

    gates[0].finish(first)
    assert world.units(run) == []
    gates[1].finish(second)
    assert run.status().results == {"pay": 1}


def test_a_commit_must_name_the_fence_of_the_claim(world: World) -> None:
    """P4: the worker is the same, alive, and at the same try; only the claim is another."""
    worker = world.worker(defining([], "a"))
    run = worker.start("w", {})
    token_id = world.token_id(run)
    me = worker.liveness.worker_id()
    with worker.database.autocommit() as connection:
        claim = tokens.claim(connection, token_id, me, uuid4())
        assert claim is not None
        world.rows("UPDATE durable_token SET fence = gen_random_uuid()")
        worker.engine._claims.release(claim)
        token = world.token(run)
        assert token["claimed_by"] == me, "the newer claim stands"


def test_a_claim_writes_a_fresh_fence(world: World) -> None:
    """P4"""
    worker = world.worker(defining([], "a"))
    run = worker.start("w", {})
    fences = {world.one("SELECT fence FROM durable_token")}
    for _ in range(3):
        fence = uuid4()
        held = claimed(worker, world.token_id(run), fence)
        assert held is not None
        assert held.fence == fence
        fences.add(world.one("SELECT fence FROM durable_token"))
        worker.engine._claims.release(held)
    assert len(fences) == 4


def test_a_late_message_changes_nothing(world: World) -> None:
    """P3"""
    log: list[str] = []
    worker = world.worker(defining(log, "a", "b"), inline_steps=1)
    run = worker.start("w", {})
    token_id = world.token_id(run)
    world.drain(worker)
    before = (world.units(run), world.counts(), run.status())

    for _ in range(3):
        worker.engine.advance(token_id)

    assert (world.units(run), world.counts(), run.status()) == before
    assert log == ["a", "b"]


def test_a_doubled_message_between_two_steps_runs_the_next_one_once(world: World) -> None:
    """P3"""
    log: list[str] = []
    worker = world.worker(defining(log, "a", "b", "c"), inline_steps=1)
    run = worker.start("w", {})
    while hints := world.publish():
        for token_id in hints * 2:
            worker.engine.advance(token_id)

    # The double of a hint found the next unit due and executed it; its own hint came too late.
    assert log == ["a", "b", "c"]
    assert world.units(run) == ["a completed", "b completed", "c completed"]


def test_stale_deliveries_start_no_second_chain_of_retries(world: World) -> None:
    """P3, P4: the attempt count lives on the token, not in a message."""
    attempts: list[int] = []

    def flaky(ctx: Any) -> None:
        attempts.append(ctx.attempt)
        raise ValueError

    def define(durable: Durable) -> None:
        durable.workflow("w").step(flaky, retry=RetryPolicy(max_attempts=3, initial=60))

    workers = [world.worker(define) for _ in range(2)]
    run = workers[0].start("w", {})
    token_id = world.token_id(run)
    for _ in range(6):
        all_at_once([partial(workers[i % 2].engine.advance, token_id) for i in range(6)])
        world.let_time_pass(61)
        world.lose_hints()

    assert attempts == [1, 2, 3]
    (entry,) = run.history()
    assert entry.attempt == 3
    assert [failure.attempt for failure in entry.failures] == [1, 2]


@pytest.mark.parametrize("unit", ["a", "b"])
def test_a_unit_that_is_in_the_journal_is_never_recorded_again(world: World, unit: str) -> None:
    """P3: the journal's key refuses it, and nothing of the second commit remains.

    The first step's commit is a smooth one, and the last one's is not.
    """
    worker = world.worker(defining([], "a", "b"), inline_steps=1)
    run = worker.start("w", {})
    world.rows(
        "INSERT INTO durable_journal (run_id, unit, node, outcome, undoable, attempt, result,"
        " worker, started_at) VALUES (%s, %s, %s, 'completed', false, 1, '\"first\"', %s, now())",
        run.id,
        unit,
        unit,
        uuid4(),
    )

    world.drain(worker)

    (entry,) = [entry for entry in run.history() if entry.unit == unit]
    assert entry.result == "first"
    token = world.token(run)
    assert token["unit"] == unit
    assert token["crashes"] == 0, "a lost race is no crash"

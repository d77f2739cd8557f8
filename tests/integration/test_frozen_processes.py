"""A process that stops where it holds something up: in a transaction, or with its lock on a
connection that only the server still has.
"""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.background import recovery
from celery_durable.database import connections
from celery_durable.engine import transactional
from celery_durable.store.connection import OwnTransaction
from tests.integration.driving import LOCKED_HERE, Gate, World, noting, spawn, worker_id
from tests.waiting import wait_until

SHORT = connections.bounded("300ms")


@pytest.fixture(autouse=True)
def _short_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (connections, transactional):
        monkeypatch.setattr(module, "BOUNDED", SHORT)


def test_a_worker_frozen_before_its_commit_holds_up_neither_takeover_nor_cancel(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2, P5: Postgres ends its transaction, and with it its locks."""
    log: list[str] = []
    gate = Gate()
    commit = OwnTransaction.commit

    def freeze(self: OwnTransaction) -> None:
        if not gate.reached.is_set():
            gate()
        commit(self)

    monkeypatch.setattr(OwnTransaction, "commit", freeze)

    def define(durable: Durable) -> None:
        durable.workflow("w").step(noting(log, "book"), transactional=True)

    frozen, living = world.worker(define), world.worker(define)
    run = living.start("w", {})
    (token_id,) = world.publish()
    at_work = gate.hold(frozen.engine.advance, token_id)
    world.kill(frozen)

    # For less than the gate has patience: what comes through ends its transaction by itself.
    wait_until(lambda: world.reap(living) == 1, timeout=10, message="its token to be freed")
    living.run(run.id).cancel()
    world.drain(living)
    assert run.status().status == "cancelled"
    gate.open()
    at_work.result(30)
    assert world.units(run) == []


def test_a_cancel_that_meets_a_lock_holds_up_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: it is stored, and applied when it can be; hints of other runs are found to be lost."""
    monkeypatch.setattr(recovery, "PAGE", 1)
    log: list[str] = []

    def define(durable: Durable) -> None:
        durable.workflow("w").step(noting(log, "a"))

    worker = world.worker(define)
    stuck, *others = [worker.start("w", {}) for _ in range(4)]
    world.let_time_pass(3600)
    with world.connect() as holder, holder.transaction():
        holder.execute("SELECT FROM durable_token WHERE run_id = %s FOR UPDATE", [stuck.id])
        stuck.cancel()
        world.lose_hints()

        def hinted() -> int:
            world.let_recovery_look()
            recovery.recover_with_lease(worker.database)
            return sum(world.hints(run) for run in others)

        wait_until(lambda: hinted() == len(others), message="the others to be hinted")
        assert stuck.status().status == "running"
    worker.recover()
    world.drain(worker)
    assert stuck.status().status == "cancelled"
    assert log == ["a"] * len(others)


def test_a_worker_takes_another_lock_where_the_server_keeps_the_lost_one(world: World) -> None:
    """P4: the connection is gone on the worker's side only; it is not taken for dead."""
    log: list[Any] = []
    gate = Gate()

    def slow(ctx: Any) -> None:
        log.append(ctx.attempt)
        gate()

    def define(durable: Durable) -> None:
        durable.workflow("w").step(slow)

    worker, other = world.worker(define, worker_ttl=1.5), world.worker(define)
    run = worker.start("w", {})
    (token_id,) = world.publish()
    at_work = gate.hold(worker.engine.advance, token_id)
    space, number = world.rows(
        "SELECT hashtext('durable_worker.public') AS space, lock_number FROM durable_worker"
    )[0].values()
    with world.connect() as server:
        waits = spawn(server.execute, b"SELECT pg_advisory_lock(%s, %s)", (space, number))
        wait_until(
            lambda: world.one(f"SELECT count(*) FROM pg_locks WHERE NOT granted AND {LOCKED_HERE}"),
            message="the server's session to be next",
        )
        world.rows("SELECT pg_terminate_backend(%s)", world.lock_holder(worker))
        waits.result(20)
        query = "SELECT lock_number FROM durable_worker WHERE id = %s"
        another = "another lock to be taken"
        wait_until(lambda: world.one(query, worker_id(worker)) != number, message=another)
        assert world.lock_holder(worker) is not None
        assert world.reap(other) == 0
    assert world.reap(other) == 0, "the lost one says nothing any more"
    gate.finish(at_work)
    assert log == [1]
    assert world.units(run) == ["slow completed"]

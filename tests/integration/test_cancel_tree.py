"""Cancelling a tree of runs: everything below ends, and whoever waits for it waits until it has.

Locks: branches, then their parent, in every transaction that takes more than one of them.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from celery_durable import Durable
from celery_durable.core.decide import decide
from celery_durable.core.event import Succeeded
from celery_durable.store import commits, inbox, tokens
from celery_durable.store.connection import PsycopgConnection
from tests.integration.driving import Gate, World, noting, spawn, worker_id
from tests.waiting import wait_until

WAITS_FOR_A_LOCK = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND wait_event_type = 'Lock'"
)
CANCEL = inbox.Cancel(compensate=False, reason=None)


def test_a_cancel_and_the_end_of_its_run_do_not_wait_for_each_other(world: World) -> None:
    gate = Gate()

    def define(durable: Durable) -> None:
        durable.workflow("w").step(lambda ctx: gate(), name="a")

    worker = world.worker(define)
    run = worker.start("w")
    (token_id,) = world.publish()
    at_work = spawn(worker.engine.advance, token_id)
    gate.wait_until_reached()
    with worker.database.autocommit() as connection:
        inbox.send(connection, run.id, CANCEL)
    with worker.database.transaction() as connection:
        (command,) = inbox.take_cancels(connection, run.id)
        gate.open()
        wait_until(lambda: world.one(WAITS_FOR_A_LOCK) or at_work.done(), message="the commit")
        inbox.apply_cancel(connection, run.id, command)
    at_work.result(20)
    world.drain(worker)

    assert world.status(run) in ("completed", "cancelled")
    assert world.counts()["inbox"] == 0


def test_an_item_that_is_opened_while_a_cancel_is_applied_does_not_begin(world: World) -> None:
    log: list[Any] = []
    gate = Gate()

    def item(ctx: Any) -> None:
        log.append(ctx.item)
        if ctx.item == 0:
            gate()

    def define(durable: Durable) -> None:
        durable.workflow("w").map(
            "m", over=lambda ctx: [0, 1, 2], handler=durable.step(name="i")(item), max_concurrency=1
        )

    worker = world.worker(define)
    run = worker.start("w")
    (token_id,) = world.publish()
    worker.engine.advance(token_id)
    (item_id,) = world.publish()
    at_work = spawn(worker.engine.advance, item_id)
    gate.wait_until_reached()
    with world.connect() as blocker, blocker.transaction():
        # The item's commit has locked its own row and waits for its parent's.
        blocker.execute("SELECT 1 FROM durable_token WHERE id = %s FOR SHARE", [token_id])
        gate.open()
        wait_until(lambda: world.one(WAITS_FOR_A_LOCK) == 1, message="the commit to wait")
        cancelling = spawn(run.cancel)
        wait_until(lambda: world.one(WAITS_FOR_A_LOCK) == 2, message="the cancel to wait")
    at_work.result(20)
    cancelling.result(20)
    world.drain(worker)

    assert log == [0]
    assert world.status(run) == "cancelled"

"""A cancel beside the commits of units: which of them waits for which, and that none is missed.

Locks: branches, then their parent, in every transaction that takes more than one of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.store import inbox
from celery_durable.workflow.suspend import Suspend
from tests.forms import short_or_long
from tests.integration.driving import Gate, World, all_at_once, noting, spawn
from tests.waiting import wait_until

WAITS_FOR_A_LOCK = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND wait_event_type = 'Lock'"
)
CANCEL = inbox.Cancel(compensate=False, reason=None)


def test_a_cancel_and_the_end_of_its_run_do_not_wait_for_each_other(world: World) -> None:
    gate = Gate()

    def define(durable: Durable) -> None:
        durable.workflow("w").step(lambda _: gate(), name="a")

    worker = world.worker(define)
    run = worker.start("w")
    (token_id,) = world.publish()
    at_work = spawn(worker.engine.advance, token_id)
    gate.wait_until_reached()
    with worker.database.autocommit() as connection:
        inbox.send(connection, run.id, CANCEL)
    with worker.database.transaction() as connection:
        (command,) = inbox.take_cancels(connection, run.id)
        # Were there a deadlock, it would be found here, and fail the test.
        connection.raw.execute("SET LOCAL deadlock_timeout = '10ms'")
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
            "m", over=lambda _: [0, 1, 2], handler=durable.step(name="i")(item), max_concurrency=1
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


HELD_INSERTS = """
CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END';
CREATE TRIGGER held BEFORE INSERT ON durable_token FOR EACH ROW
    WHEN (NEW.parent_id IS NOT NULL) EXECUTE FUNCTION held()
"""


def test_a_fork_that_commits_while_a_cancel_is_applied_begins_nothing(world: World) -> None:
    log: list[str] = []

    def define(durable: Durable) -> None:
        durable.workflow("w").parallel("p", [noting(log, "x"), noting(log, "y")])

    worker = world.worker(define)
    run = worker.start("w")
    (token_id,) = world.publish()
    world.rows(HELD_INSERTS)
    with world.connect() as blocker, blocker.transaction():
        # The fork has changed its token, and is kept from making its branches.
        blocker.execute("SELECT pg_advisory_xact_lock(1)")
        forking = spawn(worker.engine.advance, token_id)
        wait_until(lambda: world.one(WAITS_FOR_A_LOCK) == 1, message="the fork to wait")
        cancelling = spawn(run.cancel)
        wait_until(lambda: world.one(WAITS_FOR_A_LOCK) == 2, message="the cancel to wait")
    forking.result(20)
    cancelling.result(20)
    world.drain(worker)

    assert log == []
    assert world.status(run) == "cancelled"


def test_a_branch_that_is_parked_while_a_cancel_is_applied_ends(world: World) -> None:
    """What was in hand when idle branches were ended, and waits when flags are raised."""
    gate = Gate()

    def ask(ctx: Any) -> Any:
        gate()
        return Suspend()

    worker = world.worker(lambda durable: durable.workflow("w").parallel("p", {"a": ask}))
    run = worker.start("w")
    worker.engine.advance(world.publish()[0])
    (branch,) = world.publish()
    at_work = spawn(worker.engine.advance, branch)
    gate.wait_until_reached()
    with world.connect() as blocker, blocker.transaction():
        # The commit that parks comes first to the row, the cancel second.
        blocker.execute("SELECT 1 FROM durable_token WHERE id = %s FOR SHARE", [branch])
        gate.open()
        wait_until(lambda: world.one(WAITS_FOR_A_LOCK) == 1, message="the commit to wait")
        cancelling = spawn(run.cancel)
        wait_until(lambda: world.one(WAITS_FOR_A_LOCK) == 2, message="the cancel to wait")
    at_work.result(20)
    cancelling.result(20)
    world.drain(worker)

    assert world.status(run) == "cancelled", "without any recovery"


def test_a_child_that_is_being_started_is_cancelled_too(world: World) -> None:
    """Its start and its parent's parking are one transaction, which a cancel waits for."""

    def define(durable: Durable) -> None:
        child = durable.workflow("child").wait_for_signal("s")
        durable.workflow("w").step(child, name="c").step(noting([], "never"))

    worker = world.worker(define)
    run = worker.start("w")
    (token_id,) = world.publish()
    with world.connect() as blocker, blocker.transaction():
        blocker.execute("LOCK durable_run IN SHARE MODE")
        starting = spawn(worker.engine.advance, token_id)
        wait_until(lambda: world.one(WAITS_FOR_A_LOCK) == 1, message="the start to wait")
        cancelling = spawn(run.cancel)
        wait_until(lambda: world.one(WAITS_FOR_A_LOCK) == 2, message="the cancel to wait")
    starting.result(20)
    cancelling.result(20)
    world.drain(worker)

    statuses = world.rows("SELECT workflow, status FROM durable_run ORDER BY id")
    assert [(row["workflow"], row["status"]) for row in statuses] == [
        ("w", "cancelled"),
        ("child", "cancelled"),
    ]


def test_two_cancels_that_are_applied_at_once_do_not_lock_each_other_out(world: World) -> None:
    """A branch that one of them finds in hand is given back before the other looks."""

    def define(durable: Durable) -> None:
        durable.workflow("w").map("m", over=lambda _: [0, 1], handler=noting([], "i"))

    worker = world.worker(define)
    run = worker.start("w")
    worker.engine.advance(world.publish()[0])
    in_hand, idle = sorted(world.publish())
    world.rows("UPDATE durable_token SET claimed_by = gen_random_uuid() WHERE id = %s", in_hand)

    with worker.database.transaction() as connection:
        ended = connection.rows(inbox._END_BRANCHES, {"run_id": run.id})
        assert [row["id"] for row in ended] == [idle]
        back = spawn(give_back, world, in_hand)
        wait_until(lambda: back.done() or world.one(WAITS_FOR_A_LOCK) == 1, message="the branch")
        second = spawn(end_branches, worker, run.id)
        waiting = 1 if back.done() else 2
        wait_until(lambda: world.one(WAITS_FOR_A_LOCK) == waiting, message="the second cancel")
        # Were there a deadlock, it would be found here, or by the other.
        connection.rows(inbox._RAISE_BRANCHES, {"run_id": run.id, "flags": int(CANCEL.flags)})
    back.result(20)
    second.result(20)


def give_back(world: World, token_id: UUID) -> None:
    with world.connect() as connection:
        connection.execute("UPDATE durable_token SET claimed_by = NULL WHERE id = %s", [token_id])


def end_branches(worker: Durable, run_id: UUID) -> None:
    with worker.database.transaction() as connection:
        connection.rows(inbox._END_BRANCHES, {"run_id": run_id})


@pytest.mark.parametrize("fail_fast", [False, True])
def test_branches_that_end_and_a_cancel_never_lock_each_other_out(
    world: World, fail_fast: bool
) -> None:
    """Many rounds on two workers. Postgres looks for no deadlock: one would last, and be seen."""

    def item(ctx: Any) -> None:
        if ctx.item == ctx.input:
            raise ValueError

    def define(durable: Durable) -> None:
        step = durable.step(name="i", retry=RetryPolicy(1), compensate=noting([], "undo"))(item)
        durable.workflow("w").map(
            "m", over=lambda _: list(range(6)), handler=step, fail_fast=fail_fast,
            max_concurrency=4,
        )  # fmt: skip

    workers = [world.worker(define) for _ in range(2)]
    set_deadlock_timeout(world, "= '1h'")
    chance = random.Random(fail_fast)
    for _ in range(short_or_long(12, 60)):
        run = workers[0].start("w", chance.randint(0, 9))
        workers[0].engine.advance(world.publish()[0])
        hints = world.publish()
        calls: list[Any] = [partial(deliver, worker, hints) for worker in workers]
        calls += [partial(run.cancel, compensate=chance.random() < 0.5)] * chance.randint(1, 2)
        all_at_once(calls)
        world.drain(*workers)
        assert world.status(run) in ("cancelled", "completed", "failed")
        assert len(world.units(run)) == len(set(world.units(run)))
    assert world.counts()["token"] == world.counts()["item"] == world.counts()["inbox"] == 0


@pytest.fixture(autouse=True)
def default_deadlock_timeout(world: World) -> Iterator[None]:
    yield
    set_deadlock_timeout(world, "TO DEFAULT")


def set_deadlock_timeout(world: World, value: str) -> None:
    """For connections that are made from now on."""
    name = world.one("SELECT quote_ident(current_database())")
    world.rows(f"ALTER DATABASE {name} SET deadlock_timeout {value}")


def deliver(worker: Durable, hints: list[UUID]) -> None:
    for token_id in hints:
        worker.engine.advance(token_id)

"""A cancel beside the commits of units: which of them waits for which, and that none is missed.

Locks: branches, then their parent, in every transaction that takes more than one of them; a cancel
waits for no branch and no first token but the parents of branches that it has locked.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.core.token import Flags
from celery_durable.store.cancelling import announcing
from celery_durable.workflow.suspend import Suspend
from tests.forms import short_or_long
from tests.integration.driving import Gate, World, all_at_once, noting, spawn
from tests.integration.workflows import with_a_child
from tests.waiting import wait_until


def test_a_cancel_waits_for_no_token_that_another_has_locked(world: World) -> None:
    """Else one that is applied to many runs at once could wait for who waits for it."""
    worker = world.worker(lambda durable: durable.workflow("w").wait_for_signal("s"))
    run = worker.start("w")
    world.drain(worker)
    with world.connect() as blocker, blocker.transaction():
        blocker.execute("SELECT 1 FROM durable_token FOR UPDATE")
        with worker.database.autocommit() as connection:
            connection.raw.execute("SET lock_timeout = '1ms'")
            (found,) = announcing.announce(connection, [run.id], Flags.CANCEL, None)
            assert (found.is_raised, found.is_locked) == (False, True)
            connection.raw.execute("RESET lock_timeout")
    run.cancel()
    assert world.status(run) == "cancelled"


def is_sent(world: World) -> bool:
    return bool(world.one("SELECT count(*) FROM durable_inbox WHERE kind = 'command'"))


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
    at_work = gate.hold(worker.engine.advance, item_id)
    with world.connect() as blocker, blocker.transaction():
        # The item's commit has locked its own row and waits for its parent's.
        blocker.execute("SELECT 1 FROM durable_token WHERE id = %s FOR SHARE", [token_id])
        gate.open()
        wait_until(lambda: world.waiting_for_locks() == 1, message="the commit to wait")
        cancel = spawn(run.cancel)
        wait_until(lambda: is_sent(world), message="the cancel")
    at_work.result(20)
    cancel.result(20)
    world.drain(worker)

    assert log == [0]
    assert world.status(run) == "cancelled"


def test_a_branch_that_leaves_takes_its_parent_last(world: World) -> None:
    """As a cancel does: in another order each could wait for what the other has."""
    gate = Gate()

    def define(durable: Durable) -> None:
        durable.workflow("w").parallel("p", {"x": lambda _: gate(), "y": noting([], "y")})

    worker = world.worker(define)
    run = worker.start("w")
    (parent,) = world.publish()
    worker.engine.advance(parent)
    branch, _ = world.publish()
    at_work = gate.hold(worker.engine.advance, branch)
    lock = "SELECT 1 FROM durable_token WHERE id = %s FOR UPDATE"
    with world.connect() as holder, holder.transaction():
        holder.execute(lock, [branch])
        gate.open()
        wait_until(lambda: world.waiting_for_locks() == 1, message="the commit to wait")
        holder.execute(f"{lock} NOWAIT".encode(), [parent])
    at_work.result(20)

    assert world.units(run) == ["p#x completed"]


def test_a_child_that_ends_waits_for_no_parent(world: World) -> None:
    """It leaves a hint, and takes no token of another run."""
    worker = world.worker(with_a_child)
    run = worker.start("w")
    (parent,) = world.publish()
    worker.engine.advance(parent)
    (child_token,) = world.publish()
    with world.connect() as holder, holder.transaction():
        holder.execute("SELECT 1 FROM durable_token WHERE id = %s FOR UPDATE", [parent])
        at_work = spawn(worker.engine.advance, child_token)
        wait_until(lambda: at_work.done() or world.waiting_for_locks(), message="the child")
        assert at_work.done()
    world.drain(worker)

    assert world.status(run) == "completed"


HELD = "PERFORM pg_advisory_xact_lock(1);"


def test_a_fork_that_commits_while_a_cancel_is_applied_begins_nothing(world: World) -> None:
    log: list[str] = []

    def define(durable: Durable) -> None:
        durable.workflow("w").parallel("p", [noting(log, "x"), noting(log, "y")])

    worker = world.worker(define)
    run = worker.start("w")
    (token_id,) = world.publish()
    world.trigger("BEFORE INSERT ON durable_token", HELD, "NEW.parent_id IS NOT NULL")
    with world.connect() as blocker, blocker.transaction():
        # The fork has changed its token, and is kept from making its branches.
        blocker.execute("SELECT pg_advisory_xact_lock(1)")
        forking = spawn(worker.engine.advance, token_id)
        wait_until(lambda: world.waiting_for_locks() == 1, message="the fork to wait")
        cancel = spawn(run.cancel)
        wait_until(lambda: is_sent(world), message="the cancel")
    forking.result(20)
    cancel.result(20)
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
    at_work = gate.hold(worker.engine.advance, branch)
    with world.connect() as blocker, blocker.transaction():
        # The commit that parks comes first to the row, the cancel second.
        blocker.execute("SELECT 1 FROM durable_token WHERE id = %s FOR SHARE", [branch])
        gate.open()
        wait_until(lambda: world.waiting_for_locks() == 1, message="the commit to wait")
        cancel = spawn(run.cancel)
        flags = "SELECT max(flags) FROM durable_token"
        wait_until(lambda: world.one(flags) == 1, message="the cancel to be announced")
    at_work.result(20)
    cancel.result(20)
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
    world.trigger("BEFORE INSERT ON durable_run", HELD)
    with world.connect() as blocker, blocker.transaction():
        # The parent's commit has its token, and the child is kept from being inserted.
        blocker.execute("SELECT pg_advisory_xact_lock(1)")
        starting = spawn(worker.engine.advance, token_id)
        wait_until(lambda: world.waiting_for_locks() == 1, message="the start to wait")
        cancel = spawn(run.cancel)
        asked = "SELECT count(*) FROM durable_run WHERE cancel_requested_at IS NOT NULL"
        wait_until(lambda: world.one(asked) == 1, message="the cancel to look")
    starting.result(20)
    cancel.result(20)
    world.drain(worker)

    statuses = world.rows("SELECT workflow, status FROM durable_run ORDER BY id")
    assert [(row["workflow"], row["status"]) for row in statuses] == [
        ("w", "cancelled"),
        ("child", "cancelled"),
    ]


def test_two_cancels_that_are_applied_at_once_share_the_work(world: World) -> None:
    """Neither waits for the other's branches; whatever both leave is ended by the next look."""

    def define(durable: Durable) -> None:
        durable.workflow("w").map("m", over=lambda _: [0, 1, 2], handler=noting([], "i"))

    worker = world.worker(define)
    run = worker.start("w")
    worker.engine.advance(world.publish()[0])
    with world.connect() as blocker, blocker.transaction():
        first = "SELECT id FROM durable_token WHERE unit = 'm#0' FOR UPDATE"
        blocker.execute(first)
        cancels = [spawn(run.cancel), spawn(run.cancel)]
        left = "SELECT count(*) FROM durable_token WHERE parent_id IS NOT NULL"
        wait_until(lambda: world.one(left) == 1, message="the other branches to be gone")
        assert not any(cancel.done() for cancel in cancels)
    for cancel in cancels:
        cancel.result(20)
    assert world.status(run) == "cancelled"
    assert world.counts()["inbox"] == 0


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


def test_cancels_of_trees_and_what_goes_on_in_them_never_lock_each_other_out(
    world: World,
) -> None:
    """The same with children in branches; a cancel of the tree and one of a run in it."""

    def define(durable: Durable) -> None:
        low = durable.workflow("low").step(noting([], "l"))
        low.parallel("q", [noting([], "x"), noting([], "y")])
        middle = durable.workflow("middle").map("m", over=lambda _: [1, 2], handler=low)
        undoable = durable.step(noting([], "u"), compensate=noting([], "undo"))
        durable.workflow("w").step(undoable).parallel("p", {"a": middle, "b": middle, "c": low})

    workers = [world.worker(define, inline_steps=1) for _ in range(3)]
    set_deadlock_timeout(world, "= '1h'")
    chance = random.Random(7)
    for _ in range(25):
        top = workers[0].start("w")
        for _ in range(chance.randint(0, 25)):
            for hint in world.publish()[:3]:
                workers[0].engine.advance(hint)
        world.let_time_pass(60)
        workers[0].recover()
        below = [run.run_id for run in workers[0].list(limit=100) if run.parent_run_id]
        picked = [chance.choice(below) for _ in range(2) if below]
        hints = world.publish()
        calls: list[Any] = [partial(deliver, worker, hints) for worker in workers]
        calls += [partial(top.cancel, compensate=chance.random() < 0.5)] * 2
        calls += [partial(workers[1].cancel, run_id) for run_id in picked]
        all_at_once(calls)
        for _ in range(3):
            world.drain(*workers)
            world.let_time_pass(60)
            workers[0].recover()
        statuses = world.rows("SELECT status FROM durable_run WHERE finished_at IS NULL")
        assert statuses == []
        assert world.status(top) in ("cancelled", "completed", "failed")
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

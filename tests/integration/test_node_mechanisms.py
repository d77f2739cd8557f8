"""Small mechanisms that nodes stand on, each alone: who may claim, consume, tell and be told."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from celery_durable import Durable
from celery_durable.core.claim import Claim
from celery_durable.core.decide import decide
from celery_durable.core.decision import Decision, End, Leave
from celery_durable.core.event import Event, Signalled, Succeeded
from celery_durable.run import Run
from celery_durable.store import signals
from celery_durable.store.commit import statement
from celery_durable.store.commit.parameters import Routed
from celery_durable.store.commit.statement import ClaimLost, SignalGone, Written
from celery_durable.store.connection import Connection
from tests.integration.driving import World, claimed, defining, noting, spawn
from tests.integration.workflows import asking_twice, waiting, waiting_twice
from tests.waiting import wait_until


def parent_and_child(durable: Durable) -> None:
    """A child that waits for a signal."""
    child = durable.workflow("child").wait_for_signal("s", "go")
    durable.workflow("w").child_workflow("kid", child).step(noting([], "after"))


def two_children(durable: Durable) -> None:
    """A child that ends at once, and then one that waits."""
    quick = durable.workflow("quick").step(noting([], "a"))
    slow = durable.workflow("slow").wait_for_signal("s", "go")
    durable.workflow("w").child_workflow("first", quick).child_workflow("second", slow)


def started(world: World, worker: Durable) -> Run:
    """A run that stands as far as it comes by itself."""
    run = worker.start("w", {})
    world.drain(worker)
    return run


def child_of(world: World, run: Run) -> Run:
    """The child that the run waits for."""
    query = "SELECT child_run_id FROM durable_token WHERE run_id = %s"
    return Run(run._runs, world.one(query, run.id))


def test_a_parent_is_not_to_be_had_before_its_child_has_ended(world: World) -> None:
    worker = world.worker(parent_and_child)
    run = started(world, worker)
    assert claimed(worker, world.token_id(run)) is None

    child_of(world, run).resume("go", 1)
    for token_id in world.publish():
        worker.engine.advance(token_id)
    assert claimed(worker, world.token_id(run)) is not None


def test_only_the_child_that_a_parent_waits_for_lets_it_go_on(world: World) -> None:
    """A child that ended before does not push its parent past the next."""
    worker = world.worker(two_children)
    run = started(world, worker)

    assert world.units(run) == ["first completed"]
    assert claimed(worker, world.token_id(run)) is None


def test_the_end_of_a_child_leaves_a_hint_for_its_parent(world: World) -> None:
    """P2"""
    worker = world.worker(parent_and_child)
    run = started(world, worker)
    child = child_of(world, run)
    child.resume("go", 1)
    for token_id in world.publish():
        worker.engine.advance(token_id)

    assert world.status(child) == "completed"
    assert world.publish() == [world.token_id(run)]


def test_a_cancel_is_sent_on_to_the_children(world: World) -> None:
    worker = world.worker(parent_and_child)
    run = started(world, worker)
    child = child_of(world, run)
    run.cancel()
    world.drain(worker)

    assert (world.status(child), world.status(run)) == ("cancelled", "cancelled")
    assert world.counts("run", "journal", "worker", "definition") == {
        "token": 0,
        "item": 0,
        "outbox": 0,
        "inbox": 0,
    }


def consuming(connection: Connection, worker: Durable, claim: Claim) -> statement.Answer:
    """The commit of a token that has found the oldest signal."""
    signal = signals.oldest(connection, claim.run.id, "go")
    assert signal is not None
    event = Signalled(signal.id, signal.payload, claim.seen_at)
    return committing(connection, worker, claim, event)


def committing(
    connection: Connection, worker: Durable, claim: Claim, event: Event
) -> statement.Answer:
    """What comes of the commit of what the event leads to."""
    workflow = worker.registry.find("w", 1)
    assert workflow is not None
    decision = decide(workflow.plan, claim.token, event, claim.seen_at)
    assert isinstance(decision, Decision)
    routed = None if isinstance(decision.then, End | Leave) else Routed("durable", None)
    return statement.commit(connection, claim, decision, routed)


def test_a_commit_under_an_older_fence_is_refused(world: World) -> None:
    """P4: the worker is the same, alive, and at the same try; only the claim is another."""
    worker = world.worker(defining([], "a"))
    run = worker.start("w", {})
    claim = claimed(worker, world.token_id(run))
    assert claim is not None
    world.rows("UPDATE durable_token SET fence = gen_random_uuid()")
    with worker.database.autocommit() as connection:
        outcome = committing(connection, worker, claim, Succeeded("1", claim.seen_at))

    assert outcome == ClaimLost()
    assert (world.units(run), world.status(run)) == ([], "running")


def test_of_two_commits_that_consume_one_signal_the_later_finds_it_gone(world: World) -> None:
    """P9: it has waited for the other's lock, and what it saw before is not so any more."""
    workers = [world.worker(asking_twice) for _ in range(2)]
    run = started(world, workers[0])
    run.resume("go", 1)
    waiting = world.rows("SELECT id FROM durable_token WHERE wait = 'signal' ORDER BY position")
    claims = [claimed(worker, row["id"]) for worker, row in zip(workers, waiting, strict=True)]

    def second() -> statement.Answer:
        assert claims[1] is not None
        with workers[1].database.autocommit() as connection:
            return consuming(connection, workers[1], claims[1])

    with workers[0].database.transaction() as connection:
        assert claims[0] is not None
        assert isinstance(consuming(connection, workers[0], claims[0]), Written)
        later = spawn(second)
        wait_until(lambda: world.waiting_for_locks() or later.done(), message="the second")
    assert later.result(20) == SignalGone()


def test_of_two_branches_that_leave_at_once_the_later_tells_the_parent(world: World) -> None:
    """P2: it has waited for the other's lock, and when it began two were left."""

    def define(durable: Durable) -> None:
        durable.workflow("w").parallel("p", {"x": noting([], "x"), "y": noting([], "y")})

    workers = [world.worker(define) for _ in range(2)]
    run = workers[0].start("w", {})
    (parent,) = world.publish()
    workers[0].engine.advance(parent)
    claims = [
        claimed(worker, branch) for worker, branch in zip(workers, world.publish(), strict=True)
    ]

    def leave(connection: Connection, n: int) -> statement.Answer:
        claim = claims[n]
        assert claim is not None
        return committing(connection, workers[n], claim, Succeeded("1", claim.seen_at))

    def second() -> statement.Answer:
        with workers[1].database.autocommit() as connection:
            return leave(connection, 1)

    with workers[0].database.transaction() as connection:
        assert isinstance(leave(connection, 0), Written)
        later = spawn(second)
        wait_until(lambda: world.waiting_for_locks() or later.done(), message="the second")
    assert isinstance(later.result(20), Written)
    assert world.publish() == [parent]
    assert world.units(run) == ["p#x completed", "p#y completed"]


def test_a_signal_that_comes_while_the_token_is_parked_is_seen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P9: its hint was followed while the token was claimed, and no other comes."""
    worker, other = world.worker(waiting), world.worker(waiting)
    run = worker.start("w", {})
    (token_id,) = world.publish()
    look = signals.oldest
    sent: list[Any] = []

    def looking(*arguments: Any) -> Any:
        found = look(*arguments)
        if not sent:
            sent.append(run.resume("go", "yes"))
            for hint in world.publish():
                other.engine.advance(hint)
        return found

    monkeypatch.setattr(signals, "oldest", looking)
    worker.engine.advance(token_id)

    assert world.hints() == 0
    assert world.status(run) == "completed"
    assert run.result(0) == {"s": "yes"}


def test_a_signal_that_was_consumed_lets_nobody_go_on(world: World) -> None:
    """P9: it stays in the inbox until the run ends, for its key."""
    worker = world.worker(waiting_twice)
    run = started(world, worker)
    run.resume("go", 1)
    for token_id in world.publish():
        worker.engine.advance(token_id)

    assert world.units(run) == ["s completed"]
    assert claimed(worker, world.token_id(run)) is None


def test_a_signal_lets_no_other_run_go_on(world: World) -> None:
    """P9"""
    worker = world.worker(waiting_twice)
    mine, other = (started(world, worker) for _ in range(2))
    mine.resume("go", 1)

    assert claimed(worker, world.token_id(other)) is None
    assert claimed(worker, world.token_id(mine)) is not None


def test_a_signal_that_another_was_quicker_to_take_is_waited_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: it was there when the token was claimed, and gone when it was looked for."""
    worker, other = (world.worker(asking_twice) for _ in range(2))
    run = started(world, worker)
    run.resume("go", "first")
    world.lose_hints()
    waiting = world.rows("SELECT id FROM durable_token WHERE wait = 'signal' ORDER BY position")
    late, quick = (row["id"] for row in waiting)
    look = signals.oldest
    taken: list[UUID] = []

    def looking(*arguments: Any) -> Any:
        if not taken:
            taken.append(quick)
            other.engine.advance(quick)
        return look(*arguments)

    monkeypatch.setattr(signals, "oldest", looking)
    worker.engine.advance(late)
    run.resume("go", "second")
    world.drain(worker, other)

    assert run.result(timeout=0) == {"p": {"a": "second", "b": "first"}}

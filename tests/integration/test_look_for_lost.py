"""P2, P11: a hint that got lost is found by the time its token says, whatever else waits."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.background import recovery
from celery_durable.background.recovery import recover_with_lease
from celery_durable.core.claim import Claim
from celery_durable.run import Run
from celery_durable.store import lost_hints, tokens
from tests.integration.driving import World, claimed, defining, worker_id
from tests.integration.relaying import Recorder, Relays, drain
from tests.integration.workflows import waiting

LATER = 11
"""Seconds after which it is looked whether a hint got lost."""


def look(worker: Durable) -> lost_hints.Look:
    with worker.database.autocommit() as connection:
        timeouts = recovery._hint_timeouts({}, lost_hints.paces(connection))
        return lost_hints.look(connection, 100, timeouts)


def let_time_pass(world: World, seconds: float) -> None:
    world.let_time_pass(seconds)
    world.let_looks_come(seconds)


def child(durable: Durable) -> None:
    kid = durable.workflow("kid").wait_for_signal("s", "go")
    durable.workflow("w").child_workflow("c", kid)


def sleeping(durable: Durable) -> None:
    durable.workflow("w").sleep("z", 1000)


def parked(world: World, define: Any) -> tuple[Durable, Run]:
    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)
    return worker, run


def test_a_lost_hint_is_found_when_it_is_time(world: World) -> None:
    worker = world.worker(defining([], "a"))
    worker.start_many("w", [{}] * 3)
    world.lose_hints()
    assert look(worker) == lost_hints.Look(0, 0)
    let_time_pass(world, LATER)
    assert look(worker) == lost_hints.Look(3, 3)
    assert look(worker) == lost_hints.Look(0, 0)
    assert world.hints() == 3
    for after in (20, 40):
        world.lose_hints()
        let_time_pass(world, after - 5)
        assert look(worker).hinted == 0, "each time twice as late"
        let_time_pass(world, 6)
        assert look(worker).hinted == 3


@pytest.mark.parametrize("define", [waiting, child, sleeping])
def test_what_waits_is_looked_at_once_and_then_no_more(world: World, define: Any) -> None:
    """Not a million times, for as long as it waits."""
    worker, run = parked(world, define)
    let_time_pass(world, LATER)
    assert look(worker).seen >= 1
    assert world.one("SELECT count(*) FROM durable_token WHERE look_at IS NOT NULL") == 0
    let_time_pass(world, 600)
    assert look(worker) == lost_hints.Look(0, 0)
    assert run.status().finished_at is None


@pytest.mark.parametrize("define", [waiting, sleeping])
def test_what_waited_is_looked_at_from_the_moment_that_its_message_is_sent(
    world: World, relays: Relays, define: Any
) -> None:
    """A signal's, or a timer's, that the broker then loses."""
    worker, run = parked(world, define)
    let_time_pass(world, LATER)
    look(worker)
    run.resume("go", 1)
    let_time_pass(world, 1000)
    assert drain(relays.make(worker, Recorder())) == 1
    assert look(worker) == lost_hints.Look(0, 0), "it has just been sent"
    let_time_pass(world, LATER)
    assert look(worker) == lost_hints.Look(1, 1)
    world.drain(worker)
    assert run.status().finished_at is not None


def test_what_is_still_in_the_outbox_is_not_lost(world: World) -> None:
    worker = world.worker(defining([], "a"))
    worker.start("w", {})
    let_time_pass(world, 3600)
    assert look(worker) == lost_hints.Look(1, 0)
    assert world.hints() == 1


def test_a_time_to_look_that_is_too_far_is_from_before_the_clock_was_set_back(
    world: World,
) -> None:
    worker = world.worker(defining([], "a"))
    worker.start("w", {})
    world.lose_hints()
    world.set_clock_back(7200)
    world.rows("UPDATE durable_token SET look_at = look_at + interval '2 hours'")
    assert look(worker) == lost_hints.Look(1, 1)


def test_relays_look_in_turn_and_remember_how_far(world: World) -> None:
    worker = world.worker(defining([], "a"))
    worker.start("w", {})
    world.lose_hints()
    let_time_pass(world, LATER)
    assert recover_with_lease(worker.database).moved == 1
    looked_at = world.one("SELECT clock_timestamp() - looked_at FROM durable_recovery")
    assert looked_at.total_seconds() < 5


def registered(worker: Durable, world: World, *queues: str) -> None:
    named = ", ".join(f'"{queue}"' for queue in queues)
    row = "UPDATE durable_worker SET queues = %s::jsonb WHERE id = %s"
    world.rows(row, f"[{named}]", worker_id(worker))


def test_a_queue_that_no_live_worker_consumes_gets_one_message_for_each_token(
    world: World,
) -> None:
    """Until somebody does."""
    worker = world.worker(defining([], "a"))
    registered(worker, world, "other")
    worker.start_many("w", [{}] * 3)
    world.lose_hints()
    for _ in range(3):
        let_time_pass(world, 3600)
        assert (look(worker).hinted, worker.recover()) == (0, 0)
    registered(worker, world, "other", "durable")
    assert worker.recover() == 3


def claim_one(world: World, worker: Durable) -> Claim:
    (row, *_) = world.rows(
        "SELECT id FROM durable_token WHERE claimed_by IS NULL AND wake_at IS NULL"
    )
    held = claimed(worker, row["id"])
    assert held is not None
    return held


def test_what_waits_in_a_long_queue_is_not_sent_again(world: World) -> None:
    """As long as its consumers take what was put as long ago."""
    worker = world.worker(defining([], "a"))
    worker.start_many("w", [{}] * 30)
    world.lose_hints()
    for _ in range(5):
        let_time_pass(world, 25)
        claim = claim_one(world, worker)
        assert (look(worker).hinted, worker.recover()) == (0, 0)
        with worker.database.autocommit() as connection:
            tokens.release(connection, claim, 3600)
    world.lose_hints()
    let_time_pass(world, 300)
    assert worker.recover() == 25, "nobody takes anything any more: it is lost"


def test_behind_a_step_that_takes_long_nothing_is_sent_again_for_a_while(world: World) -> None:
    worker = world.worker(defining([], "a"))
    worker.start_many("w", [{}] * 3)
    claim_one(world, worker)
    world.lose_hints()
    let_time_pass(world, 20)
    assert worker.recover() == 0
    let_time_pass(world, 45)
    assert worker.recover() == 2, "nor for ever: other workers may be idle"


def test_what_was_taken_late_is_remembered_for_some_turns(world: World) -> None:
    """Between two short steps nobody may have anything in hand."""
    worker = world.worker(defining([], "a"))
    worker.start_many("w", [{}] * 3)
    world.lose_hints()
    let_time_pass(world, 25)
    claim = claim_one(world, worker)
    recover_with_lease(worker.database)
    with worker.database.autocommit() as connection:
        tokens.release(connection, claim, 3600)
    assert worker.recover() == 0
    for _ in range(30):
        world.let_recovery_look()
        recover_with_lease(worker.database)
    let_time_pass(world, 1)
    assert world.hints() >= 2

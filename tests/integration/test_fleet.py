"""Who is there, and what waits for whom: workers and queues, on a real Postgres."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.core.fleet import QueueInfo, WorkerInfo, WorkerState
from celery_durable.store import due
from celery_durable.store.read import fleet
from tests.integration.commanding import Cli
from tests.integration.driving import Gate, World, defining, end, worker_id
from tests.integration.workflows import waiting

LONG = 3600.0


def only(durable: Durable) -> WorkerInfo:
    """The only worker."""
    (found,) = durable.workers()
    return found


def queue(durable: Durable, name: str = "durable") -> QueueInfo:
    """What is said of the queue."""
    return next(one for one in durable.queues() if one.queue == name)


def consuming(world: World, durable: Durable, *queues: str) -> None:
    """The worker consumes these queues, as one of Celery's says."""
    listed = ", ".join(f'"{name}"' for name in queues)
    query = "UPDATE durable_worker SET queues = %s::jsonb WHERE id = %s"
    world.rows(query, f"[{listed}]", worker_id(durable))


def test_nobody_is_there_at_first(world: World) -> None:
    worker = world.worker(defining([], "a"))
    assert worker.workers() == []
    assert worker.queues() == []


def test_a_worker_says_what_it_is_and_knows(world: World) -> None:
    worker = world.worker(defining([], "a"), worker_ttl=LONG)
    worker_id(worker)
    found = only(worker)
    assert (found.id, found.pid, found.slots, found.busy) == (worker_id(worker), os.getpid(), 1, 0)
    assert (found.state, found.has_lock, found.executing) == (WorkerState.ALIVE, True, ())
    assert found.knows == {"w@1": ["#rollback", "a"]}
    assert found.renewed_at >= found.started_at
    assert found.expires_at - found.renewed_at == timedelta(seconds=LONG)
    end(worker)
    assert worker.workers() == []


def test_what_a_worker_is_executing(world: World) -> None:
    gate = Gate()
    worker = world.worker(defining([], "a", gate=gate))
    run = worker.start("w")
    held = gate.hold(worker.engine.advance, *world.publish())
    found = only(worker)
    (unit,) = found.executing
    assert (found.busy, unit.run_id, unit.workflow, unit.unit) == (1, run.id, "w", "a")
    assert unit.since == world.token(run)["since"]
    gate.finish(held)
    assert only(worker).executing == ()


def test_of_many_claims_those_are_shown_that_last_longest(world: World) -> None:
    worker = world.worker(defining([], "a"))
    runs = worker.start_many("w", [{}] * (fleet.MOST_EXECUTING + 1))
    world.rows("UPDATE durable_token SET claimed_by = %s", worker_id(worker))
    newest = "UPDATE durable_token SET since = since + interval '1 hour' WHERE run_id = %s"
    world.rows(newest, runs[3].id)
    found = only(worker)
    assert found.busy == fleet.MOST_EXECUTING + 1
    assert {one.run_id for one in found.executing} == {run.id for run in runs} - {runs[3].id}


def test_workers_that_drain_hang_or_have_died(world: World) -> None:
    worker = world.worker(defining([], "a"))
    worker_id(worker)
    world.rows("UPDATE durable_worker SET draining = true")
    assert only(worker).state is WorkerState.DRAINING
    world.rows("UPDATE durable_worker SET expires_at = clock_timestamp() - interval '1 s'")
    assert only(worker).state is WorkerState.OVERDUE
    world.kill(worker)
    assert only(worker).state is WorkerState.DEAD


def test_a_message_goes_from_the_outbox_to_the_broker_to_a_worker(world: World) -> None:
    gate = Gate()
    worker = world.worker(defining([], "a", gate=gate))
    run = worker.start("w")
    hinted_at = world.token(run)["hinted_at"]
    assert queue(worker) == QueueInfo("durable", due=1, waiting_since=hinted_at)
    published = world.publish()
    assert queue(worker) == QueueInfo("durable", published=1, waiting_since=hinted_at)
    held = gate.hold(worker.engine.advance, *published)
    assert queue(worker) == QueueInfo("durable", claimed=1, workers=1, slots=1, busy=1)
    gate.finish(held)
    assert worker.queues() == []


def test_what_waits_for_its_time_or_a_signal_is_not_published(world: World) -> None:
    worker = world.worker(waiting)
    worker.start("w")
    world.drain(worker)
    worker.start("w", delay=LONG)
    found = queue(worker)
    assert (found.due, found.later, found.published, found.waiting_since) == (0, 1, 0, None)
    world.let_time_pass(2 * LONG)
    found = queue(worker)
    assert (found.due, found.later) == (1, 0)
    assert found.waiting_since == world.one("SELECT available_at FROM durable_outbox")


def test_a_signal_that_has_come_makes_its_run_one_that_waits_for_a_worker(world: World) -> None:
    worker = world.worker(waiting)
    run = worker.start("w")
    world.drain(worker)
    run.resume("go")
    assert queue(worker).due == 1
    with worker.database.autocommit() as connection:
        due.delete(connection, [world.one("SELECT id FROM durable_outbox")])
    assert (queue(worker).due, queue(worker).published) == (0, 1)


def test_each_queue_has_its_own_counts_and_consumers(world: World) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").step(lambda _: 1, name="a")
        durable.workflow("p").step(lambda _: 1, name="a", queue="payments")

    worker, other = world.worker(define), world.worker(define)
    consuming(world, worker, "durable", "idle")
    consuming(world, other, "durable")
    world.rows("UPDATE durable_worker SET draining = true WHERE id = %s", worker_id(other))
    worker.start_many("w", [{}] * 2)
    worker.start_many("p", [{}] * 3)
    found = {one.queue: (one.due, one.workers) for one in worker.queues()}
    assert found == {"durable": (2, 1), "idle": (0, 1), "payments": (3, 0)}


def test_what_the_broker_refused_is_said(world: World) -> None:
    worker = world.worker(defining([], "a"))
    worker.start("w")
    world.rows(
        "UPDATE durable_outbox SET tries = 2, last_error = 'too large',"
        " available_at = clock_timestamp() + interval '1 minute'"
    )
    found = queue(worker)
    assert (found.refused, found.refusal, found.later) == (1, "too large", 1)
    assert found.published == 0, "it is in the outbox still"


def test_counts_stop_at_a_bound_and_say_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "MOST_COUNTED", 3)
    worker = world.worker(defining([], "a"))
    worker.start_many("w", [{}] * 3)
    worker.start_many("w", [{}] * 3, delay=LONG)
    assert queue(worker).at_least == ("published",), "six tokens were looked at"
    worker.start("w")
    worker.start("w", delay=LONG)
    found = queue(worker)
    assert (found.due, found.later) == (3, 3)
    assert found.at_least == ("due", "later", "published")


def test_counting_stops_at_the_bound(world: World) -> None:
    worker = world.worker(defining([], "a"))
    worker.start_many("w", [{}] * 9)
    worker.start_many("w", [{}] * 9, delay=LONG)
    for statement, count in (
        (fleet.DUE, "due"),
        (fleet.TIMED, "later"),
        (fleet.PUBLISHED, "looked_at"),
    ):
        with worker.database.autocommit() as connection:
            (row,) = connection.rows(statement, {"most": 3})
        assert row[count] == 3, count


def test_async_twins(world: World) -> None:
    worker = world.worker(defining([], "a"))
    worker.start("w")

    async def ask() -> Any:
        return await worker.aworkers(), await worker.aqueues(), await worker.adoctor()

    workers, queues, findings = asyncio.run(ask())
    assert (workers, queues) == (worker.workers(), worker.queues())
    assert [one.code for one in findings] == [one.code for one in worker.doctor()]


def test_workers_on_the_command_line(world: World, call: Cli) -> None:
    gate = Gate()
    worker = world.worker(defining([], "a", gate=gate))
    run = worker.start("w")
    assert call(worker.app, "workers").fields[1:] == []
    held = gate.hold(worker.engine.advance, *world.publish())
    consuming(world, worker, "durable", "payments")
    said = call(worker.app, "workers")
    assert said.code == 0
    titles, fields = said.fields
    assert titles[:5] == ["NODE", "PID", "POOL", "STATE", "BUSY"]
    assert fields[1:6] == [str(os.getpid()), "unknown", "alive", "1", "1"]
    assert f"durable, payments  w.a of {run.id} for " in said.out
    (document,) = call(worker.app, "workers", "--json").document
    assert document["queues"] == ["durable", "payments"]
    assert document["executing"][0]["unit"] == "a"
    gate.finish(held)


def test_queues_on_the_command_line(
    world: World, call: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "MOST_COUNTED", 3)
    worker = world.worker(defining([], "a"))
    worker.start_many("w", [{}] * 4)
    said = call(worker.app, "queues")
    assert said.code == 0
    assert said.fields[1][:4] == ["durable", "3+", "0+", "0"]
    (document,) = call(worker.app, "queues", "--json").document
    assert (document["due"], document["at_least"]) == (3, ["due", "published"])

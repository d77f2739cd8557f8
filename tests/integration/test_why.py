"""Why a run stands: each reason made for real, and none where nothing is wrong (P11)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from celery_durable import Durable, RetryPolicy, Run, RunNotFound
from celery_durable.background.presence import Presence
from celery_durable.background.relay import Published
from celery_durable.core.reason import Code, Reason
from celery_durable.errors import BrokerUnavailable
from celery_durable.store.due import DueMessage
from tests.integration.driving import Gate, World, defining, spawn
from tests.integration.relaying import Recorder, Relays, is_listening
from tests.integration.workflows import fail, waiting, with_a_child
from tests.waiting import wait_until

LONG = 3600.0


def reason(run: Run) -> Reason:
    """The only reason why the run stands."""
    (only,) = run.why().reasons
    return only


def code(run: Run) -> Code:
    return reason(run).code


def let_stand(world: World) -> None:
    """All runs have stood as they do for a minute."""
    world.let_time_pass(60)
    world.let_looks_come(60)


def is_there(worker: Durable) -> None:
    """A relay of this worker's has just said that it is there, and can publish."""
    Presence(worker.database, lambda: None).say()


def test_a_run_that_does_not_exist(world: World) -> None:
    worker = world.worker(defining([], "a"))
    with pytest.raises(RunNotFound):
        worker.why(uuid4())


def test_a_run_that_has_ended(world: World) -> None:
    worker = world.worker(defining([], "a"))
    run = worker.start("w")
    world.drain(worker)
    found = reason(run)
    assert (found.code, found.text) == (Code.ENDED, "The run has ended, completed")
    assert found.since == run.status().finished_at


def test_a_signal_that_has_not_come(world: World) -> None:
    worker = world.worker(waiting)
    run = worker.start("w")
    world.drain(worker)
    run.resume("another", 1)
    found = reason(run)
    assert found.code is Code.SIGNAL
    assert found.help.split()[-2:] == [str(run.id), run.status().awaiting_signal]
    assert found.text.endswith("signals of other names have come: another")
    assert run.why().status == "suspended"


def test_a_sleep(world: World) -> None:
    worker = world.worker(lambda durable: durable.workflow("w").sleep("nap", LONG))
    run = worker.start("w")
    world.drain(worker)
    found = reason(run)
    assert (found.code, found.until) == (Code.SLEEPING, run.status().wake_at)


def test_a_start_with_a_delay(world: World) -> None:
    worker = world.worker(defining([], "a"))
    run = worker.start("w", delay=LONG)
    assert (code(run), reason(run).until) == (Code.DELAYED, run.status().wake_at)


def test_a_unit_between_two_tries(world: World) -> None:
    policy = RetryPolicy(max_attempts=3, initial=LONG)
    worker = world.worker(lambda d: d.workflow("w").step(fail, name="a", retry=policy))
    run = worker.start("w")
    world.drain(worker)
    found = reason(run)
    assert (found.code, found.until) == (Code.RETRYING, run.status().wake_at)
    assert "a is tried again, attempt 2 of 3, after" in found.text


def test_a_child_is_explained_too(world: World) -> None:
    worker = world.worker(with_a_child)
    run = worker.start("w")
    for token_id in world.publish():
        worker.engine.advance(token_id)
    found = reason(run)
    (child,) = worker.list(parent=run.id)
    assert (found.code, str(child.run_id) in found.text) == (Code.CHILD, True)
    assert found.inner == worker.why(child.run_id).reasons


def test_branches_are_told_by_their_reasons(world: World) -> None:
    def define(durable: Durable) -> None:
        item = durable.step(name="i")(lambda ctx: ctx.item)
        durable.workflow("w").map("m", over=lambda _: [*range(5)], handler=item)

    worker = world.worker(define)
    run = worker.start("w")
    worker.engine.advance(world.token_id(run))
    is_there(worker)
    found = reason(run)
    assert (found.code, found.text) == (Code.BRANCHES, "m waits for 5 of its branches")
    assert [inner.code for inner in found.inner] == [Code.ON_ITS_WAY]
    assert found.inner[0].text.endswith("(and 4 more like it)")


def test_a_unit_that_is_executed(world: World) -> None:
    gate = Gate()

    def slow(ctx: Any) -> None:
        ctx.progress(0.4, "page 3")
        gate()

    worker = world.worker(lambda durable: durable.workflow("w").step(slow, name="a"))
    run = worker.start("w")
    held = gate.hold(worker.engine.advance, *world.publish())
    found = reason(run)
    assert found.code is Code.EXECUTING
    assert found.text.endswith("it last said: 40%, page 3")
    run.cancel(reason="too late")
    assert [one.code for one in run.why().reasons] == [Code.CANCELLING, Code.EXECUTING]
    gate.finish(held)


def test_a_worker_that_has_died(world: World) -> None:
    gate = Gate()
    doomed = world.worker(defining([], "a", gate=gate))
    run = doomed.start("w")
    held = gate.hold(doomed.engine.advance, *world.publish())
    assert code(run) is Code.EXECUTING
    world.kill(doomed)
    assert (code(run), reason(run).help) == (Code.WORKER_LOST, "celery -A <app> worker -Q durable")
    is_there(doomed)
    assert (code(run), reason(run).help) == (Code.WORKER_LOST, "")
    gate.finish(held)


def test_a_lock_that_somebody_holds(world: World) -> None:
    worker = world.worker(defining([], "a"))
    run, other = worker.start("w"), worker.start("w")
    hints = world.publish()
    with world.connect() as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT FROM durable_token WHERE run_id = %s FOR UPDATE", [run.id])
        at_work = spawn(worker.engine.advance, world.token_id(run))
        wait_until(lambda: world.waiting_for_locks() == 1, message="the worker to wait")
        found = run.why().reasons[0]
        assert found.code is Code.LOCKED
        pid = holder.info.backend_pid
        assert found.help.splitlines()[-1] == f"SELECT pg_terminate_backend({pid})"
        assert "idle in transaction" in found.text
        assert Code.LOCKED not in [one.code for one in other.why().reasons]
        holder.execute("ROLLBACK")
    at_work.result(timeout=10)
    assert len(hints) == 2


def test_no_relay_runs(world: World, relays: Relays) -> None:
    worker = world.worker(defining([], "a"))
    run = worker.start("w")
    assert code(run) is Code.ON_ITS_WAY
    let_stand(world)
    assert (code(run), reason(run).help) == (Code.NO_RELAY, "celery -A <app> worker -Q durable")
    relays.run(worker, Recorder())
    wait_until(lambda: code(run) is not Code.NO_RELAY, message="the relay to be seen")


def test_a_relay_says_that_it_is_gone(world: World, relays: Relays) -> None:
    worker = world.worker(defining([], "a"))
    one = relays.run(worker, Recorder())
    seen = "SELECT count(*) FROM durable_relay"
    wait_until(lambda: world.one(seen) == 1, message="the relay to be seen")
    one.stop()
    wait_until(lambda: world.one(seen) == 0, message="the relay to be gone")


def test_a_broker_that_is_away(world: World, relays: Relays) -> None:
    away = BrokerUnavailable((), "no route to host")

    def refuse(_: Sequence[DueMessage]) -> Published:
        raise away

    broker = Recorder(refuse)
    worker = world.worker(defining([], "a"), poll_interval=0.05)
    relays.run(worker, broker)
    wait_until(lambda: is_listening(world), message="the relay to listen")
    run = worker.start("w")
    wait_until(lambda: code(run) is Code.BROKER_UNAVAILABLE, message="the relay to say so")
    assert reason(run).text.endswith("cannot publish: no route to host")
    broker.answer = None
    wait_until(lambda: code(run) is not Code.BROKER_UNAVAILABLE, message="it to be over")
    since = "SELECT count(outage_since) FROM durable_relay"
    wait_until(lambda: world.one(since) == 0, message="the relay to say so")


def test_a_message_that_the_broker_refuses(world: World, relays: Relays) -> None:
    worker = world.worker(defining([], "a"))
    run = worker.start("w")
    refuses = Recorder(lambda messages: Published((), {one.id: "TOO_LARGE" for one in messages}))
    one = relays.make(worker, refuses)
    one._publish_batch(one._connection())
    found = reason(run)
    assert found.code is Code.REFUSED
    assert found.text.endswith("refused the message of a once: TOO_LARGE")
    assert found.until is not None


def test_nobody_consumes_the_queue(world: World) -> None:
    client = world.worker(defining([], "a"))
    run = client.start("w")
    world.lose_hints()
    assert (code(run), reason(run).help) == (Code.NO_CONSUMER, "celery -A <app> worker -Q durable")


def registered(world: World, define: Callable[[Durable], object], **columns: Any) -> Durable:
    """A worker that has registered, and is idle."""
    worker = world.worker(define)
    worker.liveness.worker_id()
    for name, value in columns.items():
        world.rows(f"UPDATE durable_worker SET {name} = %s", value)
    return worker


def test_workers_of_another_queue(world: World) -> None:
    worker = registered(world, defining([], "a"), queues='["celery"]')
    run = worker.start("w")
    world.lose_hints()
    assert code(run) is Code.NO_CONSUMER


def test_workers_of_another_version(world: World) -> None:
    registered(world, lambda durable: durable.workflow("w", version=2).step(fail, name="a"))
    run = world.worker(defining([], "a")).start("w", version=1)
    world.lose_hints()
    found = reason(run)
    assert found.code is Code.UNKNOWN
    assert found.text == "No live worker of the queue durable knows a of w version 1"


def test_workers_that_are_busy(world: World) -> None:
    gate = Gate()
    worker = world.worker(defining([], "a", gate=gate))
    first = worker.start("w")
    held = gate.hold(worker.engine.advance, *world.publish())
    second = worker.start("w")
    world.lose_hints()
    found = reason(second)
    assert (code(first), found.code) == (Code.EXECUTING, Code.BUSY)
    assert found.text.endswith("the only slot is busy")
    gate.finish(held)


def test_workers_that_take_nothing(world: World) -> None:
    worker = registered(world, defining([], "a"))
    run = worker.start("w")
    world.lose_hints()
    assert code(run) is Code.ON_ITS_WAY
    let_stand(world)
    found = reason(run)
    assert (found.code, found.help.endswith("durable recover")) == (Code.DEAF, True)


def test_a_run_waits_for_the_first_that_is_not_as_it_must_be(world: World, relays: Relays) -> None:
    """From the outbox to the end, as somebody mends one thing after the other."""
    gate = Gate()
    client = world.worker(defining([], "a", gate=gate))
    run = client.start("w")
    let_stand(world)
    assert code(run) is Code.NO_RELAY
    broker = Recorder()
    relays.run(client, broker)
    wait_until(broker.tokens, message="the message to be published")
    wait_until(lambda: code(run) is Code.NO_CONSUMER, message="the row to be gone")
    worker = registered(world, defining([], "a", gate=gate))
    let_stand(world)
    assert code(run) is Code.DEAF
    held = gate.hold(worker.engine.advance, broker.tokens()[0])
    assert code(run) is Code.EXECUTING
    gate.finish(held)
    assert code(run) is Code.ENDED


def test_what_is_said_is_of_one_moment(world: World) -> None:
    worker = world.worker(defining([], "a"))
    run = worker.start("w")
    found = run.why()
    assert found.run_id == run.id
    assert abs(found.at - run.status().created_at) < timedelta(minutes=1)


def test_a_pause_of_the_run_of_its_workflow_and_of_its_step(world: World) -> None:
    worker = world.worker(defining([], "a"))
    run, other = worker.start("w"), worker.start("w")
    run.pause(reason="incident")
    worker.pause(workflow="w")
    worker.pause(step="a")
    worker.pause(other.id)
    found = run.why().reasons
    assert [(one.code, one.text) for one in found] == [
        (Code.PAUSED, "The run is paused: incident"),
        (Code.PAUSED, "Workflow w is paused"),
        (Code.PAUSED, "Step a is paused"),
    ]
    assert found[0].since is not None


def test_tries_that_are_used_up(world: World) -> None:
    def define(durable: Durable) -> None:
        policy = RetryPolicy(max_attempts=1, on_exhausted="pause")
        durable.workflow("w").step(fail, name="a", retry=policy)

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    assert code(run) is Code.EXHAUSTED
    assert reason(run).text.startswith("a has used up its tries, attempt 1 of 1, after ")

"""Why a run stands, with real brokers and workers that are broken one after the other (P11)."""

import os
import signal

import psycopg
import pytest

from celery_durable.core.reason import Code
from celery_durable.run import Run
from tests.addresses import conninfo
from tests.apps.shop import VERSION
from tests.brokers.shop import Shop
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("shift")

SLOW = 60.0


def code(run: Run) -> Code:
    """The first reason."""
    return run.why().reasons[0].code


def wait_until_told(run: Run, wanted: Code) -> None:
    wait_until(
        lambda: code(run) is wanted,
        timeout=SLOW,
        message=lambda: f"{wanted}; told are {run.why().reasons}",
    )


on_both = pytest.mark.parametrize("shop", ["redis", "rabbitmq"], indirect=True)


def is_sent(shop: Shop, run: Run) -> bool:
    """True if no message for the run is in the outbox."""
    return shop.query("SELECT FROM durable_outbox WHERE run_id = %s", run.id) == []


@pytest.mark.parametrize("shop", ["redis", "own_rabbitmq"], indirect=True)
def test_each_thing_that_is_mended_gives_way_to_the_next(shop: Shop) -> None:
    """No relay; no broker; nobody who consumes; nobody free; and then it runs."""
    run = shop.start(charge="hold")
    shop.let_pass("1 minute")
    assert code(run) is Code.NO_RELAY

    shop.breakable.stop()
    relay = shop.relay()
    wait_until_told(run, Code.BROKER_UNAVAILABLE)

    shop.breakable.start()
    wait_until_told(run, Code.NO_CONSUMER)

    worker = shop.worker(concurrency=1, options=["--no-durable-relay"])
    wait_until_told(run, Code.EXECUTING)
    assert str(worker.children()[0]) in run.why().reasons[0].text

    other = shop.start()
    wait_until_told(other, Code.BUSY)
    shop.finish(run)
    other.result(timeout=SLOW)
    assert code(run) is Code.ENDED
    assert relay.stop() == 0


@on_both
def test_a_worker_that_consumes_nothing_though_it_lives(shop: Shop) -> None:
    """Its main process hangs, and takes no message; its children are idle, and alive."""
    shop.relay()
    worker = shop.worker(concurrency=1, options=["--no-durable-relay"])
    shop.start().result(timeout=SLOW)
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        run = shop.start()
        wait_until(lambda: shop.query("SELECT 1 FROM durable_outbox") == [], message="to be sent")
        assert code(run) is Code.ON_ITS_WAY
        shop.let_pass("1 minute")
        assert code(run) is Code.DEAF
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    run.result(timeout=SLOW)


@on_both
def test_a_worker_that_is_killed_and_nobody_takes_over(shop: Shop) -> None:
    worker = shop.worker(concurrency=1)
    run = shop.start(charge="hold")
    process = shop.wait_for(run, "charge").pid
    os.kill(worker.pid, signal.SIGSTOP)  # it would start another process, and its relay takes over
    os.kill(process, signal.SIGKILL)
    wait_until_told(run, Code.WORKER_LOST)
    assert run.why().reasons[0].help == ""  # its relay may still be there: nothing says it is not
    shop.query("UPDATE durable_relay SET seen_at = seen_at - interval '1 minute'")
    assert run.why().reasons[0].help.startswith("celery -A <app> worker -Q durable")
    os.kill(worker.pid, signal.SIGCONT)
    shop.finish(run)


@on_both
def test_what_is_read_of_a_run_between_tries_and_while_it_is_executed(shop: Shop) -> None:
    shop.worker(concurrency=1)
    run = shop.start(reserve="later", charge="hold")
    wait_until(
        lambda: any(unit.failure for unit in run.status().units),
        timeout=SLOW,
        message="the first attempt to fail",
    )
    (unit,) = run.status().units
    assert (unit.unit, unit.attempt, unit.max_attempts) == ("reserve", 2, 3)
    assert (unit.is_executing, unit.worker) == (False, None)
    assert unit.wake_at is not None
    (listed,) = shop.durable.list(error="RetryLater: reserve is busy")
    assert listed.standing is not None
    assert (listed.run_id, listed.standing.attempt) == (run.id, 2)

    held = shop.start(charge="hold")
    process = shop.wait_for(held, "charge").pid
    (unit,) = held.status().units
    assert (unit.unit, unit.attempt, unit.is_executing) == ("charge", 1, True)
    assert unit.worker is not None
    assert unit.worker.pid == process
    shop.finish(held)


@on_both
def test_a_worker_whose_consumer_was_cut(shop: Shop) -> None:
    """It believes that it consumes; hints that are sent again do not make it look new."""
    worker = shop.worker("tests.apps.deaf:app", concurrency=1)
    shop.start().result(timeout=SLOW)
    worker.ask(shop.app, "go_deaf")
    run = shop.start()
    wait_until(lambda: is_sent(shop, run), message="to be sent")
    shop.let_pass("1 minute")
    assert code(run) is Code.DEAF
    shop.durable.recover()
    wait_until(lambda: is_sent(shop, run), message="to be sent again")
    assert code(run) is Code.DEAF
    worker.teardown()
    shop.worker(concurrency=1)
    shop.durable.recover()
    run.result(timeout=SLOW)


@on_both
def test_a_worker_whose_last_queue_was_cancelled(shop: Shop) -> None:
    """It does consume nothing, and is not taken for one that may consume anything."""
    worker = shop.worker(concurrency=1)
    shop.start().result(timeout=SLOW)
    worker.ask(shop.app, "cancel_consumer", queue=shop.broker.queue())
    run = shop.start()
    wait_until_told(run, Code.NO_CONSUMER)
    assert run.why().reasons[0].help.endswith("@%h"), "the other has the name that is the default"
    assert "" not in {one.queue for one in shop.durable.queues()}
    worker.ask(shop.app, "add_consumer", queue=shop.broker.queue())
    run.result(timeout=SLOW)


@on_both
def test_a_version_that_no_worker_knows(shop: Shop) -> None:
    """Workers take it, and put it back for later; it is not told as a run that begins later."""
    shop.worker(concurrency=1)
    run = shop.durable.start("order", {}, version=2)
    put_back = "SELECT 1 FROM durable_token WHERE wake_at > clock_timestamp()"
    wait_until(lambda: shop.query(put_back), message="a worker to put it back")
    told = {code(run) for _ in range(20)}
    again = {Code.ON_ITS_WAY, Code.EXECUTING}  # for as long as a worker looks at it
    assert told <= {Code.UNKNOWN, *again}, "in between its message comes again"
    wait_until_told(run, Code.UNKNOWN)
    shop.worker(concurrency=1, env={VERSION: "2"})
    run.result(timeout=SLOW)


@on_both
def test_a_step_that_kills_its_workers(shop: Shop) -> None:
    shop.worker(concurrency=1)
    run = shop.start(charge="die")
    wait_until_told(run, Code.ENDED)
    (found,) = run.why().reasons
    assert "WorkerLost: 3 workers died while they executed charge" in found.text
    assert found.help.endswith(f"durable retry {run.id}")


@on_both
def test_a_lock_that_somebody_holds(shop: Shop) -> None:
    shop.worker(concurrency=1)
    run = shop.start(charge="hold")
    shop.wait_for(run, "charge")
    with psycopg.connect(conninfo(shop.database_url)) as holder:
        holder.execute("SELECT FROM durable_token WHERE run_id = %s FOR UPDATE", [run.id])
        shop.open_gate(run)
        wait_until_told(run, Code.LOCKED)
        remedy = run.why().reasons[0].help.splitlines()[-1]
        assert shop.query(remedy) == [(True,)]
        run.result(timeout=SLOW)
        holder.close()


@on_both
def test_a_signal_that_has_come_and_nobody_looks(shop: Shop) -> None:
    worker = shop.worker(concurrency=1)
    run = shop.durable.start("approval", {}, version=1)
    wait_until_told(run, Code.SIGNAL)
    worker.teardown()
    shop.query("DELETE FROM durable_relay")
    run.resume("signoff")
    shop.let_pass("1 minute")
    shop.query("UPDATE durable_inbox SET created_at = created_at - interval '1 minute'")
    wait_until_told(run, Code.NO_RELAY)
    shop.worker(concurrency=1)
    run.result(timeout=SLOW)


@pytest.mark.parametrize("shop", ["rabbitmq"], indirect=True)
def test_a_queue_that_exists_with_other_arguments(shop: Shop) -> None:
    """The broker's words are told; without the queue, the message goes out."""
    queue = shop.broker.queue()
    with shop.broker.connection() as connection:
        channel = connection.default_channel
        channel.queue_delete(queue)
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments={"x-max-length": 9})
        shop.relay()
        run = shop.start()
        wait_until_told(run, Code.REFUSED)
        assert "PRECONDITION_FAILED" in run.why().reasons[0].text
        channel.queue_delete(queue)
    wait_until_told(run, Code.NO_CONSUMER)
    shop.worker(concurrency=1)
    run.result(timeout=SLOW)

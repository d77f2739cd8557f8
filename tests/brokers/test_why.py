"""Why a run stands, with real brokers and workers that are broken one after the other (P11)."""

import os
import signal

import pytest

from celery_durable.core.why import Code
from celery_durable.run import Run
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


@pytest.mark.parametrize("shop", ["redis", "rabbitmq"], indirect=True)
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


@pytest.mark.parametrize("shop", ["redis", "rabbitmq"], indirect=True)
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

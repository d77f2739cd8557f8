"""A broker that hangs, and then is gone for a while (P2, P7)."""

import time
from concurrent.futures import Future

import psutil
import pytest

from celery_durable import RunCancelled
from celery_durable.run import Run
from tests.brokers.shop import Shop
from tests.cluster.nodes import LocalNode
from tests.integration.driving import spawn
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("shop", ["redis", "own_rabbitmq"], indirect=True)

OUTAGE = 3.0
"""Seconds of an outage at least over which the relay's use of its processor is looked at."""

IDLE = 0.25
"""Part of a processor that is far from a loop without a pause, which takes it all."""


@pytest.fixture(scope="module")
def relay(shop: Shop) -> LocalNode:
    """A relay alone, and a worker without one: what a process logs is about itself."""
    shop.worker(concurrency=1, options=["--no-durable-relay"])
    return shop.relay()


def test_clients_need_no_broker_and_what_they_ask_for_is_done_afterwards(
    shop: Shop, relay: LocalNode
) -> None:
    broker = shop.breakable
    shop.start().result(timeout=30)
    waiting = shop.start("approval")
    wait_until(lambda: waiting.status().awaiting_signal, message="the run to wait")

    used = used_by(relay)
    began = time.monotonic()
    broker.pause()
    try:
        try:
            asked: Future[tuple[Run, Run]] = spawn(ask_for_everything, shop, waiting)
            run, cancelled = asked.result(30)
            relay.wait_for_log("The broker is not available", timeout=60)
        finally:
            broker.stop()
        wait_until(lambda: time.monotonic() > began + OUTAGE, message="the outage to last")
        assert shop.query("SELECT count(*) >= 2 FROM durable_outbox") == [(True,)]
        assert used_by(relay) - used < IDLE * (time.monotonic() - began)
        assert shop.ledger(run) == []
    finally:
        broker.start()

    run.result(timeout=60)
    waiting.result(timeout=60)
    with pytest.raises(RunCancelled):
        cancelled.result(timeout=60)
    assert len(shop.ledger(run)) == 6
    assert shop.ledger(cancelled) == []
    relay.wait_for_log("The relay goes on")
    assert relay.logs().count("tries again") == relay.logs().count("goes on") == 1


def ask_for_everything(shop: Shop, waiting: Run) -> tuple[Run, Run]:
    """A run that goes on, and one that is cancelled before it has begun."""
    run, cancelled = shop.start(), shop.start()
    assert waiting.resume("signoff", {"ok": True}).accepted
    cancelled.cancel()
    assert run.status().status == "running"
    return run, cancelled


def used_by(node: LocalNode) -> float:
    times = psutil.Process(node.pid).cpu_times()
    return float(times.user + times.system)

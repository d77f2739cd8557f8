"""Celery may end what a worker executes that has lost its broker, but no step (P3, P4)."""

from tests.brokers.shop import UNITS, Shop, on_redis
from tests.cluster import WorkerNode
from tests.waiting import wait_until

pytestmark = on_redis

CANCELS = {"worker_cancel_long_running_tasks_on_connection_loss": True}


def test_a_step_goes_on_though_its_message_cannot_be_acknowledged_any_more(shop: Shop) -> None:
    """What is delivered again finds its token claimed."""
    worker = shop.worker(concurrency=1, conf=CANCELS)
    run = shop.start(charge="hold")
    shop.wait_for(run, "charge")
    children = worker.children()
    shop.breakable.stop()
    worker.wait_for_log("Connection to broker lost")
    before = connections(worker)
    shop.breakable.start()
    wait_until(lambda: connections(worker) > before, message="the broker again")
    shop.finish(run, timeout=30)
    assert [entry.unit for entry in shop.ledger(run, event="begin")] == UNITS
    assert worker.children() == children


def connections(worker: WorkerNode) -> int:
    """How often the worker has found the broker; what listens to remote control says so too."""
    lines = worker.logs().splitlines()
    return sum("Connected to redis" in line and "pidbox" not in line for line in lines)

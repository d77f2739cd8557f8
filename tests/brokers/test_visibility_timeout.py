"""Brokers that deliver again what has not been acknowledged in time (P4)."""

import re
from collections import Counter

import kombu
import pytest

from tests.brokers.shop import Shop
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("shop", ["redis", "pgmq"], indirect=True)

AT_ONCE = {
    "visibility_timeout": 1,
    "unacked_restore_interval": 0.2,
    "unacked_restore_throttle": 1,
}
RUNS = 4


def test_a_step_longer_than_the_visibility_timeout_is_executed_once(shop: Shop) -> None:
    if shop.broker.name == "redis" and kombu.VERSION < (5, 6):
        pytest.skip("this kombu looks for such messages every 100 s")
    shop.broker.transport_options.update(AT_ONCE)
    shop.cluster.env.update(shop.broker.env())
    for pool in ("prefork", "threads"):
        shop.worker(pool=pool, concurrency=4, ready=False)
    shop.cluster.wait_ready()
    runs = [shop.start(charge="hold") for _ in range(RUNS)]
    for run in runs:
        shop.wait_for(run, "charge")
    wait_until(
        lambda: redeliveries(shop) >= RUNS,
        message=lambda: f"each message to come again; {redeliveries(shop)} did",
    )
    shop.open_gate(*runs)
    for run in runs:
        run.result(timeout=60)
        units = [entry.unit for entry in shop.ledger(run, event="begin")]
        assert units == ["reserve", "charge", "ship"]


def redeliveries(shop: Shop) -> int:
    """How many more deliveries than messages the workers have had."""
    logs = "".join(node.logs() for node in shop.cluster.nodes)
    deliveries = Counter(re.findall(r"Task \S+\[(\S+)\] received", logs))
    return deliveries.total() - len(deliveries)

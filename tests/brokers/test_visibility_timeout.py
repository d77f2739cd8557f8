"""Brokers that deliver again what has not been acknowledged in time (P4)."""

import re
from collections import Counter

import kombu
import pytest

from tests.brokers.shop import UNITS, Shop
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
    shop.workers({"pool": "prefork"}, {"pool": "threads"}, concurrency=4)
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
        assert units == UNITS


def redeliveries(shop: Shop) -> int:
    """How many more deliveries than messages the workers have had."""
    deliveries = Counter(re.findall(r"Task \S+\[(\S+)\] received", shop.cluster.logs()))
    return deliveries.total() - len(deliveries)

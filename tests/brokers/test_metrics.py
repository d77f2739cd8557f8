"""Metrics of real workers: one is killed, one unit is tried again, one compensation fails."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from celery_durable.view.metrics import read, text_of
from tests.brokers.shop import Shop, on_redis
from tests.cluster import WorkerNode
from tests.waiting import wait_until

TTL = {"durable_worker_ttl": 3.0}


@pytest.fixture(scope="module")
def workers(shop: Shop) -> tuple[WorkerNode, WorkerNode]:
    first, second = shop.workers({}, {}, conf=TTL)
    return first, second


def measured(shop: Shop) -> Mapping[str, Mapping[tuple[str, ...], float]]:
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text_of(read(shop.durable))):
        for sample in family.samples:
            found.setdefault(sample.name, {})[*sample.labels.values(),] = sample.value
    return found


@on_redis
def test_each_is_counted_once(shop: Shop, workers: tuple[WorkerNode, WorkerNode]) -> None:
    run = shop.start(charge="hold")
    os.kill(shop.wait_for(run, "charge").pid, signal.SIGKILL)
    shop.wait_for(run, "charge", times=2)
    shop.open_gate(run)
    run.result(timeout=30)
    undone = shop.start(**{"ship": "fail", "charge#compensate": "fail"})
    again = shop.start(ship="later")
    shop.wait_for(again, "ship")

    def counted() -> dict[str, float]:
        found = measured(shop)
        names = {
            "takeovers": ("durable_takeovers_total", ("crash",)),
            "retries": ("durable_unit_retries_total", ("order", "ship")),
            "not undone": ("durable_compensation_failures_total", ("order", "charge#compensate")),
            "completed": ("durable_runs_ended_total", ("order", "completed")),
            "failed": ("durable_runs_ended_total", ("order", "failed")),
        }
        return {what: found.get(name, {}).get(labels, 0) for what, (name, labels) in names.items()}

    once = {"takeovers": 1, "retries": 1, "not undone": 1, "completed": 1, "failed": 1}
    wait_until(lambda: counted() == once, timeout=30, message=lambda: f"the counts: {counted()}")
    found = measured(shop)
    assert found["durable_runs_not_compensated"][()] == 1
    assert found["durable_workers"]["alive",] >= 2
    assert found["durable_relays"]["publishing",] == 2
    assert found["durable_unit_seconds_count"]["order", "charge", "completed"] >= 2
    assert found["durable_runs_unfinished"]["running",] == 1, "the one that is tried again"
    assert undone.status().status == "failed"
    for worker in workers:
        worker.stop()
    after = counted()
    assert after == once, "and not again when workers stop"

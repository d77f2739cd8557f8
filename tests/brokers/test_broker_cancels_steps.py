"""Celery may end the steps in hand of a worker that has lost its broker (P2, P3)."""

import json

import pytest

from tests.apps.shop import CONFIG
from tests.brokers.shop import Shop

pytestmark = pytest.mark.parametrize("shop", ["redis"], indirect=True)

CANCELS = {CONFIG: json.dumps({"worker_cancel_long_running_tasks_on_connection_loss": True})}


def test_a_step_that_was_ended_with_the_connection_runs_again(shop: Shop) -> None:
    worker = shop.worker(concurrency=1, env=CANCELS)
    run = shop.start(charge="hold")
    first = shop.wait_for(run, "charge")
    shop.breakable.stop()
    shop.breakable.start()
    second = shop.wait_for(run, "charge", times=2)
    assert second.pid != first.pid
    shop.open_gate(run)
    run.result(timeout=30)
    assert [entry.unit for entry in shop.ledger(run, event="end")] == ["reserve", "charge", "ship"]
    assert worker.is_running

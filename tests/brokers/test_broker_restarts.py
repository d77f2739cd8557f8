"""Brokers that are killed, emptied and started again while workers work (P2, P4)."""

import json
from collections.abc import Sequence

import pytest

from celery_durable.run import Run
from tests.apps.shop import CONFIG
from tests.brokers.shop import Shop
from tests.cluster import WorkerNode
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("shop", ["redis", "own_rabbitmq"], indirect=True)

A_MESSAGE_PER_STEP = {CONFIG: json.dumps({"durable_inline_steps": 1})}
RUNS = 25
HELD = 2
"""Fewer than one worker executes: the other may still be looking for the broker."""
UNITS = ["reserve", "charge", "ship"]


@pytest.fixture(scope="module")
def workers(shop: Shop) -> list[WorkerNode]:
    pools = ("prefork", "threads")
    made = [
        shop.worker(pool=pool, concurrency=HELD + 1, env=A_MESSAGE_PER_STEP, ready=False)
        for pool in pools
    ]
    shop.cluster.wait_ready()
    return made


def start_some(shop: Shop) -> list[Run]:
    """Runs in full flow, and two whose step is in hand."""
    held = [shop.start(charge="hold") for _ in range(HELD)]
    for run in held:
        shop.wait_for(run, "charge")
    runs = list(shop.durable.start_many("order", [{}] * RUNS, version=1))
    wait_until(lambda: any(shop.ledger(run) for run in runs), message="the first of the runs")
    return [*held, *runs]


def all_end_each_step_having_run_once(shop: Shop, runs: Sequence[Run]) -> None:
    shop.open_gate(*runs)
    for run in runs:
        run.result(timeout=60)
        assert [entry.unit for entry in shop.ledger(run, event="begin")] == UNITS
        assert [entry.unit for entry in shop.ledger(run, event="end")] == UNITS


def hint_what_was_lost(shop: Shop) -> None:
    """As recovery would after a while."""
    shop.let_pass("10 minutes")
    shop.durable.recover()


def test_runs_end_though_the_broker_is_killed_and_started_again(
    shop: Shop, workers: list[WorkerNode]
) -> None:
    """Workers that have lost it find it again, and nothing that was in hand is begun twice."""
    broker = shop.breakable
    runs = start_some(shop)
    broker.stop()
    runs += shop.durable.start_many("order", [{}] * 5, version=1)
    broker.start()
    hint_what_was_lost(shop)
    all_end_each_step_having_run_once(shop, runs)
    assert all(worker.is_running for worker in workers)


def test_runs_end_though_the_broker_forgets_everything(
    shop: Shop, workers: list[WorkerNode]
) -> None:
    """Queues and all."""
    runs = start_some(shop)
    shop.breakable.forget()
    hint_what_was_lost(shop)
    all_end_each_step_having_run_once(shop, runs)
    assert all(worker.is_running for worker in workers)

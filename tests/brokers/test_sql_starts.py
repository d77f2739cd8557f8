"""Real workers execute what SQL starts, resumes and cancels."""

import pytest

from celery_durable.run import Run
from tests.brokers.shop import UNITS, Shop, on_redis
from tests.cluster import WorkerNode
from tests.waiting import wait_until

pytestmark = on_redis


@pytest.fixture(scope="module")
def worker(shop: Shop) -> WorkerNode:
    """Its start stores the plans."""
    return shop.worker()


def started(shop: Shop, fates: str = "{}") -> Run:
    ((run_id,),) = shop.query("SELECT durable_start('order', %s::json)", fates)
    return shop.durable.run(run_id)


def test_a_worker_executes_a_run_that_sql_has_started(shop: Shop, worker: WorkerNode) -> None:
    run = started(shop)
    assert run.result(timeout=30) == {unit: {"done": unit} for unit in UNITS}


def test_a_worker_ends_a_run_that_sql_has_cancelled(shop: Shop, worker: WorkerNode) -> None:
    run = started(shop, '{"charge": "later"}')
    wait_until(lambda: run.status().current == ("charge",), message="the first step to end")
    shop.query("SELECT durable_cancel(%s, true)", run.id)
    wait_until(lambda: run.status().finished_at is not None, message=lambda: str(run.status()))
    assert run.status().status == "cancelled"
    assert shop.ledger(run, "reserve#compensate", "end")

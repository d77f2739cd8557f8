"""What a user sees of runs on real workers."""

import pytest

from celery_durable import RunFailed
from celery_durable.core.status import Status
from tests.brokers.shop import UNITS, Shop
from tests.cluster import WorkerNode


@pytest.fixture(scope="module")
def worker(shop: Shop) -> WorkerNode:
    return shop.worker()


def test_a_run_completes_with_its_results_and_history(shop: Shop, worker: WorkerNode) -> None:
    run = shop.start()
    steps = tuple(UNITS)
    assert run.result(timeout=30) == {step: {"done": step} for step in steps}
    snapshot = run.status()
    assert (snapshot.status, snapshot.steps, snapshot.current) == (Status.COMPLETED, steps, ())
    assert [(entry.unit, entry.outcome, entry.attempt) for entry in run.history()] == [
        (step, "completed", 1) for step in steps
    ]
    assert [(entry.unit, entry.event) for entry in shop.ledger(run)] == [
        (step, event) for step in steps for event in ("begin", "end")
    ]


def test_a_run_that_fails_is_undone_backwards(shop: Shop, worker: WorkerNode) -> None:
    run = shop.start(ship="fail")
    with pytest.raises(RunFailed, match="ship is declined") as failed:
        run.result(timeout=30)
    assert failed.value.error is not None
    assert failed.value.error.unit == "ship"
    assert [entry.unit for entry in shop.ledger(run, event="begin")] == [
        "reserve",
        "charge",
        "ship",
        "charge#compensate",
        "reserve#compensate",
    ]


def test_messages_are_called_by_workflow_and_unit(shop: Shop, worker: WorkerNode) -> None:
    run = shop.start(ship="fail")
    with pytest.raises(RunFailed):
        run.result(timeout=30)
    worker.wait_for_log("Task order.reserve[")


def test_many_runs_at_once_all_complete(shop: Shop, worker: WorkerNode) -> None:
    runs = shop.durable.start_many("order", [{}] * 50, version=1)
    for run in runs:
        run.result(timeout=60)
        assert len(shop.ledger(run)) == 6

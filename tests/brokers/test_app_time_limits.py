"""Time limits of a whole app hold for its own tasks, and for no step (P2, P4)."""

from collections.abc import Iterator

import pytest

from tests.brokers.shop import Shop, on_redis
from tests.cluster import WorkerNode

pytestmark = on_redis

APP = "tests.apps.timed:app"
SOFT, HARD = 1.0, 1.5
"""Seconds; a step `linger` takes 2."""

LIMITS = {"soft_time_limit": SOFT, "time_limit": HARD}
SETTINGS = {
    **{f"task_{name}": limit for name, limit in LIMITS.items()},
    "task_annotations": {"*": LIMITS},
}
OPTIONS = ("--soft-time-limit", str(SOFT), "--time-limit", str(HARD))


@pytest.fixture(scope="module")
def worker(shop: Shop) -> Iterator[WorkerNode]:
    """One whose app is limited in every way that Celery has."""
    node = shop.worker(APP, concurrency=1, conf=SETTINGS, options=OPTIONS)
    yield node
    node.teardown()


def test_a_step_may_take_longer_than_the_limits_of_the_app(shop: Shop, worker: WorkerNode) -> None:
    run = shop.durable.start("unlimited", {})
    run.result(timeout=20)
    (entry,) = run.history()
    assert (entry.attempt, entry.failures) == (1, ())
    assert [entry.event for entry in shop.ledger(run)] == ["begin", "end"]
    worker.wait_for_log("Celery's time limit of 1 s does not hold for durable steps")


def test_a_step_keeps_its_own_limit_beside_those_of_the_app(shop: Shop, worker: WorkerNode) -> None:
    """Its hard limit is later than the app's, too."""
    run = shop.durable.start("timed", {"first": "heed"})
    assert run.result(timeout=20)["work"]["attempt"] == 2
    (failure,) = run.history()[0].failures
    assert failure.error.message == "work took longer than its 1 s (timeout=)"


def test_other_tasks_keep_the_limits_of_the_app(shop: Shop, worker: WorkerNode) -> None:
    shop.app.send_task("nap", queue=shop.broker.queue())
    worker.wait_for_log("Soft time limit (1.0s) exceeded for nap")

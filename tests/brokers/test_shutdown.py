"""Workers that are told to stop: what they have begun is handed over, and nobody counts a crash."""

import signal

import pytest

from celery_durable.run import Run
from tests.apps.shop import STOCKTAKING_STEPS
from tests.brokers.shop import Shop
from tests.cluster import WorkerNode
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("shift")

WORRYING = ("WARNING", "ERROR", "CRITICAL", "Traceback")
HARMLESS = ("No hostname was supplied", "Requeuing undeliverable message")
"""kombu's words on a broker URL without a host, and on a message that comes while it stops."""

HELD, AFTER = "shelf20", "shelf21"
ON_REDIS = pytest.mark.parametrize("shop", ["redis"], indirect=True)


def test_a_worker_that_stops_hands_over_within_the_step_in_hand(shop: Shop) -> None:
    hand_over(shop, "prefork", 2)


@ON_REDIS
@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_worker_of_another_pool_hands_over_alike(shop: Shop, pool: str) -> None:
    hand_over(shop, pool, 1)


def hand_over(shop: Shop, pool: str, concurrency: int) -> None:
    first = shop.worker(pool=pool, concurrency=concurrency)
    run = shop.start("stocktaking", **{HELD: "hold"})
    shop.wait_for(run, HELD)
    first.kill(signal.SIGTERM)
    wait_until(lambda: is_draining(shop, first), message="the worker to say that it stops")
    shop.open_gate(run)
    assert first.wait_for_exit() == 0
    assert [entry.unit for entry in shop.ledger(run, event="end")][-1] == HELD
    assert states(shop, first) == {(True, True)}
    assert (shop.ledger(run, AFTER), crashes(shop, run)) == ([], 0)
    second = shop.worker(pool=pool, concurrency=concurrency)
    finish(shop, run)
    assert len(shop.ledger(run)) == 2 * STOCKTAKING_STEPS
    assert worries(first) == worries(second) == []


@ON_REDIS
def test_a_worker_that_is_stopped_at_once_counts_no_crash(shop: Shop) -> None:
    """SIGQUIT, Celery's cold shutdown, kills the children in their step."""
    first, second = shop.worker(ready=False), shop.worker(ready=False)
    shop.cluster.wait_ready()
    run = shop.start("stocktaking", **{HELD: "hold"})
    pid = shop.wait_for(run, HELD).pid
    stopped, other = (first, second) if pid in first.children() else (second, first)
    stopped.kill(signal.SIGQUIT)
    stopped.wait_for_exit()
    again = shop.wait_for(run, HELD, times=2)
    assert again.pid in other.children()
    assert crashes(shop, run) == 0
    finish(shop, run)


def finish(shop: Shop, run: Run) -> None:
    shop.open_gate(run)
    run.result(timeout=60)


def is_draining(shop: Shop, worker: WorkerNode) -> bool:
    return any(draining for draining, _ in states(shop, worker))


def states(shop: Shop, worker: WorkerNode) -> set[tuple[bool, bool]]:
    """Of each process of a worker: is it draining, has it ended."""
    rows = shop.query(
        "SELECT draining, ended_at IS NOT NULL FROM durable_worker WHERE hostname = %s",
        worker.hostname(),
    )
    return {(row[0], row[1]) for row in rows}


def crashes(shop: Shop, run: Run) -> int:
    ((found,),) = shop.query("SELECT crashes FROM durable_token WHERE run_id = %s", run.id)
    return int(found)


def worries(worker: WorkerNode) -> list[str]:
    """What would frighten whoever reads the log of a worker that just did its work."""
    lines = worker.logs().splitlines()
    return [
        line
        for line in lines
        if any(level in line for level in WORRYING) and not any(known in line for known in HARMLESS)
    ]

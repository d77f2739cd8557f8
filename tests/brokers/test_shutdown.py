"""Workers that are told to stop: what they have begun is handed over, and nobody counts a crash."""

import signal

import pytest

from celery_durable.run import Run
from tests.apps.shop import STOCKTAKING_STEPS
from tests.brokers.shop import Shop, need, on_redis
from tests.cluster import WorkerNode
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("shift")

WORRYING = ("WARNING", "ERROR", "CRITICAL", "Traceback")
HARMLESS = ("No hostname was supplied", "Requeuing undeliverable message")
"""kombu's words on a broker URL without a host, and on a message that comes while it stops."""

HELD, AFTER = "shelf20", "shelf21"

SOFT_SECONDS = 3.0
"""How long a soft shutdown lets steps end: time to open a gate."""


def test_a_worker_that_stops_hands_over_within_the_step_in_hand(shop: Shop) -> None:
    hand_over(shop, "prefork", 2)


@on_redis
@pytest.mark.parametrize("pool", ["threads", "solo", "gevent"])
def test_a_worker_of_another_pool_hands_over_alike(shop: Shop, pool: str) -> None:
    need(pool)
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
    assert (shop.ledger(run, AFTER), counted(shop, run)) == ([], (0, 1))
    second = shop.worker(pool=pool, concurrency=concurrency)
    shop.finish(run)
    assert len(shop.ledger(run)) == 2 * STOCKTAKING_STEPS
    assert worries(first) == worries(second) == []


@on_redis
@pytest.mark.parametrize("pool", ["prefork", "solo", "gevent"])
def test_a_worker_that_is_stopped_at_once_counts_no_crash(shop: Shop, pool: str) -> None:
    """SIGQUIT, Celery's cold shutdown, ends steps where they are."""
    need(pool)
    stopped, run = at_work_beside_another(shop, pool)
    assert_handed_over_at_once(shop, stopped, run)


@on_redis
def test_a_thread_is_not_stopped_at_once_and_ends_its_step(shop: Shop) -> None:
    """Nothing can end a thread from outside: its cold shutdown is a warm one."""
    stopped, run = at_work_beside_another(shop, "threads")
    stopped.kill(signal.SIGQUIT)
    wait_until(lambda: is_draining(shop, stopped), message="the worker to say that it stops")
    shop.finish(run)
    stopped.wait_for_exit()
    assert len(shop.ledger(run, HELD)) == 2
    assert "Traceback" not in stopped.logs()


@on_redis
def test_a_warm_shutdown_that_is_cut_short_counts_no_crash(shop: Shop) -> None:
    stopped, run = at_work_beside_another(shop, "prefork")
    stopped.kill(signal.SIGTERM)
    wait_until(lambda: is_draining(shop, stopped), message="the worker to say that it stops")
    stopped.kill(signal.SIGTERM)
    assert_handed_over_at_once(shop, stopped, run)


@on_redis
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_step_that_ends_within_a_soft_shutdown_is_the_last_one(shop: Shop, pool: str) -> None:
    stopped, run = at_work_beside_another(shop, pool, AFTER, soft_seconds=SOFT_SECONDS)
    stopped.kill(signal.SIGQUIT)
    wait_until(lambda: is_draining(shop, stopped), message="the worker to say that it stops")
    pids = {*stopped.children(), stopped.pid}
    shop.finish(run)
    stopped.wait_for_exit()
    assert len(shop.ledger(run, HELD)) == 2
    assert pids.isdisjoint(entry.pid for entry in shop.ledger(run, AFTER))


@on_redis
def test_a_step_that_outlasts_a_soft_shutdown_is_handed_over(shop: Shop) -> None:
    stopped, run = at_work_beside_another(shop, "prefork", soft_seconds=SOFT_SECONDS)
    assert_handed_over_at_once(shop, stopped, run)


def assert_handed_over_at_once(shop: Shop, stopped: WorkerNode, run: Run) -> None:
    """SIGQUIT ends the worker, and its step begins again elsewhere: no crash, and the same try."""
    stopped.kill(signal.SIGQUIT)
    stopped.wait_for_exit()
    shop.wait_for(run, HELD, times=2)
    assert counted(shop, run) == (0, 1)
    shop.finish(run)


def at_work_beside_another(
    shop: Shop, pool: str, *also: str, soft_seconds: float = 0.0
) -> tuple[WorkerNode, Run]:
    """Of two workers the one that is held in a step of the run."""
    nodes = shop.workers({}, {}, pool=pool, conf={"worker_soft_shutdown_timeout": soft_seconds})
    run = shop.start("stocktaking", **{HELD: "hold"}, **dict.fromkeys(also, "hold"))
    pid = shop.wait_for(run, HELD).pid
    nodes.sort(key=lambda node: pid not in (node.pid, *node.children()))
    return nodes[0], run


def is_draining(shop: Shop, worker: WorkerNode) -> bool:
    return any(draining for draining, _ in states(shop, worker))


def states(shop: Shop, worker: WorkerNode) -> set[tuple[bool, bool]]:
    """Of each process of a worker: is it draining, has it ended."""
    rows = shop.query(
        "SELECT draining, ended_at IS NOT NULL FROM durable_worker WHERE hostname = %s",
        worker.hostname(),
    )
    return {(row[0], row[1]) for row in rows}


def counted(shop: Shop, run: Run) -> tuple[int, int]:
    """The crashes and the attempt of the unit the run stands at."""
    ((crashes, attempt),) = shop.query(
        "SELECT crashes, attempt FROM durable_token WHERE run_id = %s", run.id
    )
    return int(crashes), int(attempt)


def worries(worker: WorkerNode) -> list[str]:
    """What would frighten whoever reads the log of a worker that just did its work."""
    lines = worker.logs().splitlines()
    return [
        line
        for line in lines
        if any(level in line for level in WORRYING) and not any(known in line for known in HARMLESS)
    ]

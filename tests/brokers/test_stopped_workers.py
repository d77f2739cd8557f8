"""P4, P5: workers that are stopped for a while and go on, or lose their lock while they work."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy.engine import make_url

from celery_durable.run import Run
from tests.apps.shop import STOCKTAKING_STEPS
from tests.brokers.shop import UNNOTICED, Shop, on_redis
from tests.cluster import WorkerNode
from tests.integration.driving import LOCKED_HERE
from tests.waiting import wait_until

pytestmark = [
    on_redis,
    pytest.mark.usefixtures("shift"),
]

HELD = "shelf20"
TTL = 2.0

LOCK_HOLDERS = f"""
    SELECT l.pid FROM pg_locks l JOIN durable_worker w ON w.lock_number = l.objid
    WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
        AND l.{LOCKED_HERE}
        AND w.ended_at IS NULL AND w.pid = %s
"""


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_that_goes_on_after_its_ttl_is_refused_and_works_on(shop: Shop, pool: str) -> None:
    """P3, P4: the whole worker; its unit was taken over though it still held its lock."""
    stopped, other = two_workers(shop, pool, durable_worker_ttl=TTL)
    run, pid = held_in(shop, stopped)
    with frozen(stopped.pid, *stopped.children()):
        assert shop.wait_for(run, HELD, times=2).pid != pid
        shop.finish(run)
    stopped.wait_for_log(f"Result of {HELD} of run {run.id} dropped")
    assert_done_once(run)
    assert "Traceback" not in stopped.logs()
    other.stop()
    assert_works_on(shop, stopped)


def test_a_child_that_goes_on_after_its_ttl_is_refused_and_works_on(shop: Shop) -> None:
    """P3, P4: its worker, and the relay in it, have lived all the time."""
    stopped, other = two_workers(shop, "prefork", durable_worker_ttl=TTL)
    run, pid = held_in(shop, stopped)
    with frozen(pid):
        assert shop.wait_for(run, HELD, times=2).pid != pid
        shop.finish(run)
    stopped.wait_for_log(f"Result of {HELD} of run {run.id} dropped")
    assert_done_once(run)
    takeovers = [line for node in (stopped, other) for line in lines(node, " is gone; its units")]
    assert len(takeovers) == 1
    assert f"pid {pid})" in takeovers[0]
    other.stop()
    assert_works_on(shop, stopped)


def test_a_worker_that_is_stopped_for_less_than_its_ttl_keeps_its_unit(shop: Shop) -> None:
    """P4"""
    stopped, _ = two_workers(shop, "prefork")
    run, pid = held_in(shop, stopped)
    with frozen(stopped.pid, *stopped.children()):
        assert shop.durable.recover() == 0
    shop.finish(run)
    assert {entry.pid for entry in shop.ledger(run, HELD)} == {pid}
    assert_done_once(run)
    assert len(shop.ledger(run)) == 2 * STOCKTAKING_STEPS


def test_a_lock_that_is_lost_again_and_again_is_taken_again(shop: Shop) -> None:
    """P4: each time within the grace in which nobody takes its worker for dead."""
    worker, other = two_workers(shop, "prefork")
    run, pid = held_in(shop, worker)
    for _ in range(20):
        cut_lock(shop, pid)
    assert len(lock_holders(shop, pid)) == 1
    shop.finish(run)
    assert len(shop.ledger(run)) == 2 * STOCKTAKING_STEPS
    ((ids,),) = shop.query("SELECT count(*) FROM durable_worker WHERE pid = %s", pid)
    assert ids == 1
    assert lines(worker, " is gone") == lines(other, " is gone") == []


def test_a_worker_that_cannot_take_its_lock_again_keeps_its_unit_while_it_renews(
    shop: Shop, role: str
) -> None:
    """P4, P5: once it renews no more it is dead at once, as one that has its lock."""
    direct = make_url(shop.database_url).set(username=role)
    url = direct.render_as_string(hide_password=False)
    lockless, _ = two_workers(shop, "prefork", durable_direct_database_url=url)
    run, pid = held_in(shop, lockless)
    shop.query(f"ALTER ROLE {role} NOLOGIN")
    shop.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", role)
    wait_until(lambda: not lock_holders(shop, pid), message="the lock to be lost")
    assert shop.durable.recover() == 0  # after the longest grace
    assert {entry.pid for entry in shop.ledger(run, HELD)} == {pid}

    os.kill(pid, signal.SIGKILL)
    assert shop.wait_for(run, HELD, times=2).pid != pid
    shop.finish(run)
    assert_done_once(run)


def two_workers(shop: Shop, pool: str, **settings: object) -> tuple[WorkerNode, WorkerNode]:
    """One with such settings, and one as ever; neither takes a message that it cannot follow."""
    one_at_a_time = {"worker_prefetch_multiplier": 1}
    each = {"conf": one_at_a_time | settings}, {"conf": one_at_a_time}
    first, second = shop.workers(*each, pool=pool, concurrency=1)
    return first, second


def held_in(shop: Shop, worker: WorkerNode) -> tuple[Run, int]:
    """A run that is held in a step in that worker, and the process that is at work on it."""
    runs = []
    try:
        while True:
            run = shop.start("stocktaking", **{HELD: "hold"})
            pid = shop.wait_for(run, HELD).pid
            if pid in (worker.pid, *worker.children()):
                return run, pid
            runs.append(run)
    finally:
        for other in runs:
            shop.finish(other)


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def lock_holders(shop: Shop, pid: int) -> set[int]:
    """The server processes that hold the lock of a worker process."""
    return {row[0] for row in shop.query(LOCK_HOLDERS, pid)}


def cut_lock(shop: Shop, pid: int) -> None:
    """Cut the connection that holds the worker's lock; wait until another one does."""
    before = lock_holders(shop, pid)
    for holder in before:
        shop.query("SELECT pg_terminate_backend(%s)", holder)
    wait_until(lambda: lock_holders(shop, pid) - before, message="the lock to be taken again")


def assert_done_once(run: Run) -> None:
    units = [entry.unit for entry in run.history()]
    assert units == [f"shelf{number}" for number in range(1, STOCKTAKING_STEPS + 1)]


def assert_works_on(shop: Shop, worker: WorkerNode) -> None:
    """The same process, under a new id."""
    run = shop.start()
    pids = {shop.wait_for(run, "reserve").pid}
    run.result(timeout=UNNOTICED)
    assert pids <= {worker.pid, *worker.children()}
    ((ids,),) = shop.query("SELECT count(*) FROM durable_worker WHERE pid = ANY(%s)", [*pids])
    assert ids == 2


def lines(worker: WorkerNode, words: str) -> list[str]:
    return [line for line in worker.logs().splitlines() if words in line]

"""Workers of each pool, and processes that fork (connections are never shared across a fork)."""

from typing import Any

import pytest

from tests.brokers.shop import Shop, need, on_redis
from tests.integration.driving import LOCKED_HERE
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("shift")

FORKING = "tests.apps.forking:app"


@pytest.mark.parametrize(("pool", "concurrency"), [("threads", 4), ("solo", 1), ("gevent", 4)])
def test_runs_complete_on_pools_that_do_not_fork(shop: Shop, pool: str, concurrency: int) -> None:
    need(pool)
    worker = shop.worker(pool=pool, concurrency=concurrency)
    runs = shop.durable.start_many("order", [{}] * 20, version=1)
    for run in runs:
        run.result(timeout=60)
        assert len(shop.ledger(run)) == 6
    assert pools_of(shop, worker.hostname()) == {pool.removesuffix("s")}
    assert "Traceback" not in worker.logs()


@on_redis
def test_children_forked_from_a_process_that_uses_the_database_share_no_connection(
    shop: Shop,
) -> None:
    """The app starts runs at import, and its children are replaced after every second message."""
    one_each = {"durable_bundle": 1}
    replaced = ["--max-tasks-per-child", "2"]
    worker = shop.worker(FORKING, conf=one_each, concurrency=2, options=replaced)
    runs = shop.durable.start_many("order", [{}] * 30, version=1)
    at_import = shop.durable.list(tags={"started": "at import"})
    assert len(at_import) == 3
    for run in (*runs, *(shop.durable.run(summary.run_id) for summary in at_import)):
        run.result(timeout=60)
        assert len(shop.ledger(run)) == 6
    pids = {entry.pid for run in runs for entry in shop.ledger(run)}
    assert len(pids) > 10
    assert worker.pid not in pids
    assert worker.stop() == 0
    assert "Traceback" not in worker.logs()
    assert crashes(shop) == 0


@on_redis
@pytest.mark.parametrize("limit", ["--max-tasks-per-child", "--max-memory-per-child"])
def test_children_that_are_replaced_after_every_task_lose_nothing(shop: Shop, limit: str) -> None:
    """P3, P5: each leaves in good order, and its lock and its number with it."""
    worker = shop.worker(concurrency=2, options=[limit, "1"])
    runs = shop.durable.start_many("order", [{}] * 12, version=1)
    for run in runs:
        run.result(timeout=60)
        assert len(shop.ledger(run)) == 6
    messages = 4  # two for each of two processes: twelve runs share them
    assert len({entry.pid for run in runs for entry in shop.ledger(run)}) >= messages
    assert worker.stop() == 0
    assert crashes(shop) == 0
    assert shop.query("SELECT FROM durable_worker WHERE ended_at IS NULL") == []
    wait_until(lambda: locks(shop) == 0, message="the locks of all children to be free")


@on_redis
def test_two_pools_share_one_queue(shop: Shop) -> None:
    one_each = ["--prefetch-multiplier", "1"]
    kinds = {"pool": "prefork", "concurrency": 1}, {"pool": "threads", "concurrency": 2}
    first, second = shop.workers(*kinds, options=one_each)
    held = [shop.start(charge="hold") for _ in range(3)]
    pids = {shop.wait_for(run, "charge").pid for run in held}
    assert pids == {*first.children(), second.pid}
    shop.open_gate(*held)
    for run in held:
        run.result(timeout=30)


def pools_of(shop: Shop, hostname: str) -> set[Any]:
    rows = shop.query("SELECT pool FROM durable_worker WHERE hostname = %s", hostname)
    return {row[0] for row in rows}


def locks(shop: Shop) -> int:
    """The locks of workers; 0 is the number of those who wait for the end of a run."""
    ((found,),) = shop.query(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
        f" AND objid <> 0 AND {LOCKED_HERE}"
    )
    return int(found)


def crashes(shop: Shop) -> int:
    """Workers that were found dead and had not said that they would stop."""
    ((found,),) = shop.query(
        "SELECT count(*) FROM durable_worker WHERE ended_at IS NOT NULL AND NOT draining"
    )
    return int(found)

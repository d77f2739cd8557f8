"""What a step raises that is no Exception is its failure, on every pool, and no worker's end."""

from collections.abc import Iterator

import pytest

from celery_durable import RunFailed
from celery_durable.run import Run
from celery_durable.store.read.views import RunSnapshot
from tests.apps.exits import HOW
from tests.brokers.shop import Shop, need, on_redis
from tests.cluster import WorkerNode
from tests.waiting import wait_until

pytestmark = on_redis

APP = "tests.apps.exits:app"
WITHIN = 30.0


@pytest.fixture(
    scope="module", params=[("prefork", 2), ("threads", 2), ("solo", 1), ("gevent", 10)], ids=str
)
def worker(shop: Shop, request: pytest.FixtureRequest) -> Iterator[WorkerNode]:
    pool, concurrency = request.param
    need(pool)
    node = shop.worker(APP, pool=pool, concurrency=concurrency)
    yield node
    node.teardown()


def hows(worker: WorkerNode) -> list[str]:
    """On solo and gevent what ends the worker does."""
    command = worker.process.command
    ends = command[command.index("-P") + 1] in ("solo", "gevent")
    return [how for how in HOW if how != "shutdown" or not ends]


def failed(run: Run) -> RunSnapshot:
    with pytest.raises(RunFailed):
        run.result(timeout=WITHIN)
    return run.status()


def test_it_is_a_failure_like_any_other_and_the_worker_goes_on(
    shop: Shop, worker: WorkerNode
) -> None:
    """More of them than a worker takes messages at once: each of those has been acknowledged."""
    children = worker.children()
    started = [
        (how, shop.durable.start(workflow, {"how": how}))
        for workflow in ("sync", "async", "transactional")
        for how in hows(worker)
    ]
    for how, run in started:
        error = failed(run).error
        assert error is not None
        assert (error.type, error.message) == HOW[how][1:]
        assert "in fail" in error.traceback
        (entry,) = run.history()
        assert (entry.attempt, len(entry.failures)) == (2, 1)
    assert shop.durable.start("remembering", {}).result(timeout=WITHIN)
    assert worker.children() == children
    assert "WorkerLost" not in worker.logs()


def test_it_is_a_failure_of_a_compensator_and_of_a_selector(shop: Shop, worker: WorkerNode) -> None:
    how = "exit"
    undone, routed = (shop.durable.start(name, {"how": how}) for name in ("undone", "routed"))
    error = failed(undone).compensation_errors["reserve#compensate"]
    assert (error.type, error.message) == HOW[how][1:]
    found = failed(routed).error
    assert found is not None
    assert (found.type, found.message) == HOW[how][1:]


@pytest.mark.parametrize("worker", [("prefork", 2)], indirect=True, ids=str)
def test_a_step_that_ends_its_own_process_each_time_fails(shop: Shop, worker: WorkerNode) -> None:
    children = len(worker.children())
    error = failed(shop.durable.start("ended", {})).error
    assert error is not None
    assert error.type == "WorkerLost"
    assert worker.is_running
    wait_until(lambda: len(worker.children()) == children, message="the pool to be whole again")


@pytest.mark.parametrize("worker", [("gevent", 10)], indirect=True, ids=str)
def test_async_steps_run_side_by_side_on_greenlets(shop: Shop, worker: WorkerNode) -> None:
    """In one thread asyncio runs one loop at a time: each has a thread that is one."""
    for run in shop.durable.start_many("remembering", [{}] * 40):
        result = run.result(timeout=WITHIN)
        assert result["remember"] == result["reserve"]
        assert [entry.attempt for entry in run.history()] == [1, 1]


@pytest.mark.parametrize(("child", "code"), [("exits", 3), ("raises", 1), ("returns", 0)])
def test_a_process_that_a_step_forked_ends_where_the_step_does(
    shop: Shop, worker: WorkerNode, child: str, code: int
) -> None:
    """P4: it would commit its parent's claim, and then be one more worker."""
    children = worker.children()
    run = shop.durable.start("forked", {"child": child})

    assert run.result(timeout=WITHIN) == {"fork": {"child": code}}
    assert worker.children() == children
    told = "A process that forked.fork forked has come to the end of the function"
    assert child == "exits" or told in worker.logs()

"""Time limits of steps: a soft and a hard one on prefork, a deadline on pools without limits."""

from collections.abc import Iterator

import pytest

from celery_durable import RunFailed
from celery_durable.run import Run
from tests.brokers.shop import Shop, on_redis
from tests.cluster import WorkerNode
from tests.waiting import wait_until

pytestmark = on_redis

APP = "tests.apps.timed:app"

ENDS_WITHIN = 60.0

on_prefork = pytest.mark.parametrize("worker", ["prefork"], indirect=True)
on_threads = pytest.mark.parametrize("worker", ["threads"], indirect=True)


@pytest.fixture(scope="module", params=["prefork", "threads"])
def worker(shop: Shop, request: pytest.FixtureRequest) -> Iterator[WorkerNode]:
    node = shop.worker(APP, pool=request.param, concurrency=2)
    yield node
    node.teardown()


def start(shop: Shop, first: str, **more: object) -> Run:
    return shop.durable.start("timed", {"first": first, **more})


def events(shop: Shop, run: Run) -> list[tuple[str, str]]:
    return [(entry.unit, entry.event) for entry in shop.ledger(run)]


def assert_timed_out_once(run: Run) -> None:
    """The first try of `work` is a failed attempt, not a crash; the second one has completed."""
    assert run.result(timeout=ENDS_WITHIN)["work"]["attempt"] == 2
    (work,) = (entry for entry in run.history() if entry.unit == "work")
    assert (work.outcome, work.attempt) == ("completed", 2)
    assert [(f.attempt, f.error.type) for f in work.failures] == [(1, "StepTimeout")]
    assert work.failures[0].error.message == "work took longer than its 1 s (timeout=)"


@on_prefork
def test_a_step_that_takes_too_long_is_stopped_and_tried_again(
    shop: Shop, worker: WorkerNode
) -> None:
    run = start(shop, "heed")
    assert_timed_out_once(run)
    assert events(shop, run)[:3] == [("work", "begin"), ("work", "begin"), ("work", "end")]
    # The handler was left by an exception in it; its process lives.
    assert {entry.pid for entry in shop.ledger(run)} <= {*worker.children()}


@on_prefork
def test_a_step_that_always_takes_too_long_fails_with_a_step_timeout(
    shop: Shop, worker: WorkerNode
) -> None:
    run = start(shop, "heed", always=True)
    with pytest.raises(RunFailed) as failed:
        run.result(timeout=ENDS_WITHIN)
    assert failed.value.error is not None
    assert (failed.value.error.type, failed.value.error.unit) == ("StepTimeout", "work")
    assert events(shop, run) == [("work", "begin")] * 2


@on_prefork
def test_a_step_that_ignores_its_limit_is_killed_which_is_a_timeout_and_no_crash(
    shop: Shop, worker: WorkerNode
) -> None:
    """The hard limit asks the process to exit, and then kills it: a handler may miss either."""
    for run in [start(shop, "ignore"), start(shop, "deaf")]:
        assert_timed_out_once(run)
        first, ignored, *_ = shop.ledger(run)
        assert [first.event, ignored.event] == ["begin", "ignored"]
        assert events(shop, run).count(("work", "begin")) == 2
        wait_until_replaced(worker, first.pid)


def wait_until_replaced(worker: WorkerNode, pid: int) -> None:
    """The pool is whole again: the tests that follow look at its processes."""
    wait_until(
        lambda: pid not in worker.children() and len(worker.children()) == 2,
        message=f"another process in the place of {pid}",
    )


@on_prefork
def test_a_limit_that_strikes_in_a_statement_of_ours_strikes_when_it_has_ended(
    shop: Shop, worker: WorkerNode
) -> None:
    children = worker.children()
    for run in [start(shop, "beat") for _ in range(2)]:
        assert_timed_out_once(run)
    assert worker.children() == children
    assert "Exception during reset" not in worker.logs()


@on_prefork
def test_a_limit_that_strikes_in_a_statement_of_a_transactional_step_is_its_timeout(
    shop: Shop, worker: WorkerNode
) -> None:
    children = worker.children()
    run = shop.durable.start("booked", {"first": "book"})
    assert_timed_out_once(run)
    assert worker.children() == children
    assert "Exception during reset" not in worker.logs()
    asleep = "query LIKE '%%pg_sleep(60)' AND state = 'active' AND datname = current_database()"
    assert shop.query(f"SELECT FROM pg_stat_activity WHERE {asleep}") == []


@on_prefork
def test_nothing_of_an_async_step_goes_on_when_its_time_is_up(
    shop: Shop, worker: WorkerNode
) -> None:
    """Each process has had such a step, and is in the next one when it would."""
    late = [shop.durable.start("awaiting", {}) for _ in worker.children()]
    for run in late:
        with pytest.raises(RunFailed, match="took longer than its 1 s"):
            run.result(timeout=ENDS_WITHIN)
    for run in [shop.durable.start("lingering", {}) for _ in worker.children()]:
        run.result(timeout=ENDS_WITHIN)
    for run in late:
        assert events(shop, run) == [("wait_async", "begin")]


@on_prefork
def test_a_worker_that_dies_before_the_time_is_up_is_a_crash_and_no_timeout(
    shop: Shop, worker: WorkerNode
) -> None:
    run = start(shop, "crash")
    assert run.result(timeout=ENDS_WITHIN)["work"]["attempt"] == 1
    (work,) = (entry for entry in run.history() if entry.unit == "work")
    assert work.failures == ()
    assert events(shop, run)[:3] == [("work", "begin"), ("work", "begin"), ("work", "end")]


@on_threads
def test_on_threads_a_late_worker_is_fenced_off_and_its_result_dropped(
    shop: Shop, worker: WorkerNode
) -> None:
    run = start(shop, "late")
    assert_timed_out_once(run)
    before = run.history()
    assert events(shop, run).count(("work", "end")) == 1
    shop.open_gate(run)
    worker.wait_for_log(f"Result of work of run {run.id} dropped")
    assert events(shop, run).count(("work", "end")) == 2
    assert run.history() == before


def test_an_ordinary_step_after_a_timed_one_is_not_under_its_limit(
    shop: Shop, worker: WorkerNode
) -> None:
    run = start(shop, "nothing")
    run.result(timeout=ENDS_WITHIN)
    assert [(entry.unit, entry.attempt) for entry in run.history()] == [("work", 1), ("linger", 1)]
    assert events(shop, run) == [
        *(("work", "begin"), ("work", "end")),
        *(("linger", "begin"), ("linger", "end")),
    ]


@on_prefork
def test_a_signal_that_comes_during_a_timed_step_does_not_limit_the_next(
    shop: Shop, worker: WorkerNode
) -> None:
    """P9 lets it come early; its hint is a message with the limit of the unit in hand.

    Both processes are at work, so that such messages are looked at when the next unit is due.
    """
    runs = [start(shop, "late"), start(shop, "late")]
    for run in runs:
        shop.wait_for(run, "work")
    for run in runs:
        run.resume("anything", 1)
    wait_until(lambda: not shop.query("SELECT FROM durable_outbox"), message="hints to be sent")
    shop.open_gate(*runs)
    for run in runs:
        run.result(timeout=ENDS_WITHIN)
        (linger,) = (entry for entry in run.history() if entry.unit == "linger")
        assert (linger.attempt, linger.failures) == (1, ())

"""Time limits of steps: a soft and a hard one on prefork, a deadline on pools without limits."""

import pytest

from celery_durable import RunFailed
from celery_durable.run import Run
from tests.brokers.shop import Shop
from tests.cluster import WorkerNode

pytestmark = [
    pytest.mark.parametrize("shop", ["redis"], indirect=True),
    pytest.mark.usefixtures("shift"),
]

APP = "tests.apps.timed:app"

ENDS_WITHIN = 60.0


def start(shop: Shop, first: str, **more: object) -> Run:
    return shop.durable.start("timed", {"first": first, **more})


def events(shop: Shop, run: Run) -> list[tuple[str, str]]:
    return [(entry.unit, entry.event) for entry in shop.ledger(run)]


def assert_timed_out_once(shop: Shop, run: Run) -> None:
    """The first try of `work` is a failed attempt, not a crash; the second one has completed."""
    assert run.result(timeout=ENDS_WITHIN)["work"]["attempt"] == 2
    (work,) = (entry for entry in run.history() if entry.unit == "work")
    assert (work.outcome, work.attempt) == ("completed", 2)
    assert [(f.attempt, f.error.type) for f in work.failures] == [(1, "StepTimeout")]
    assert "work took longer than its 1 s" in work.failures[0].error.message


def test_a_step_that_takes_too_long_is_stopped_and_tried_again(shop: Shop) -> None:
    worker = shop.worker(APP, concurrency=1)
    (child,) = worker.children()
    run = start(shop, "heed")
    assert_timed_out_once(shop, run)
    # The handler was left by the exception in it; its process lives.
    assert events(shop, run)[:3] == [("work", "begin"), ("work", "begin"), ("work", "end")]
    assert {entry.pid for entry in shop.ledger(run)} == {child}


def test_a_step_that_always_takes_too_long_fails_with_a_step_timeout(shop: Shop) -> None:
    shop.worker(APP, concurrency=1)
    run = start(shop, "heed", always=True)
    with pytest.raises(RunFailed) as failed:
        run.result(timeout=ENDS_WITHIN)
    assert failed.value.error is not None
    assert (failed.value.error.type, failed.value.error.unit) == ("StepTimeout", "work")
    assert events(shop, run) == [("work", "begin")] * 2


def test_a_step_that_ignores_its_limit_is_killed_which_is_no_crash(shop: Shop) -> None:
    worker = shop.worker(APP, concurrency=1)
    (victim,) = worker.children()
    run = start(shop, "ignore")
    shop.wait_for(run, "work", "ignored")
    assert_timed_out_once(shop, run)
    first, ignored, second, *_ = shop.ledger(run)
    assert (first.pid, ignored.pid) == (victim, victim)
    assert second.pid != victim
    assert worker.is_running
    assert "Hard time limit (6.0s) exceeded" in worker.logs()


def test_on_threads_a_late_worker_is_fenced_off_and_its_result_dropped(shop: Shop) -> None:
    worker = shop.worker(APP, pool="threads", concurrency=2)
    run = start(shop, "late")
    shop.wait_for(run, "work", "begin", times=2)
    assert_timed_out_once(shop, run)
    before = run.history()
    shop.open_gate(run)
    shop.wait_for(run, "work", "end", times=2)
    worker.wait_for_log(f"work of run {run.id} is not ours any more")
    assert run.history() == before


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_an_ordinary_step_after_a_timed_one_is_not_under_its_limit(shop: Shop, pool: str) -> None:
    shop.worker(APP, pool=pool, concurrency=1)
    run = start(shop, "nothing")
    result = run.result(timeout=ENDS_WITHIN)
    assert result["work"]["attempt"] == 1
    assert [(entry.unit, entry.attempt) for entry in run.history()] == [("work", 1), ("linger", 1)]
    assert events(shop, run) == [
        *(("work", "begin"), ("work", "end")),
        *(("linger", "begin"), ("linger", "end")),
    ]


def test_a_worker_that_is_killed_before_its_time_was_up_is_a_crash(shop: Shop) -> None:
    """The hard limit is the only death that is a timeout."""
    worker: WorkerNode = shop.worker(APP, concurrency=1)
    run = start(shop, "crash")
    assert run.result(timeout=ENDS_WITHIN)["work"]["attempt"] == 1
    (work,) = (entry for entry in run.history() if entry.unit == "work")
    assert work.failures == ()
    assert len({entry.pid for entry in shop.ledger(run, "work")}) == 2
    assert worker.is_running

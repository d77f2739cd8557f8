"""Real workers tell what becomes of runs: by signals, by tasks, and in their logs."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celery_durable import RunFailed
from celery_durable.core.status import Status
from celery_durable.run import Run
from celery_durable.workflow.hooks import task_id_of
from tests.apps import hooked
from tests.brokers.shop import UNNOTICED, Shop, need, on_redis
from tests.cluster import WorkerNode
from tests.waiting import wait_until

APP = "tests.apps.hooked:app"

CONF = {
    "durable_log_format": "[%(levelname)s|%(task_name)s] <%(durable_workflow)s/%(durable_unit)s"
    "/%(durable_attempt)s/%(durable_run)s> %(message)s",
    "worker_send_task_events": True,
}


@pytest.fixture(scope="module")
def told(shop: Shop) -> Shop:
    hooked.define(shop.durable)
    return shop


@pytest.fixture(scope="module", params=["prefork"])
def worker(told: Shop, request: pytest.FixtureRequest) -> Iterator[WorkerNode]:
    need(request.param)
    started = told.worker(APP, pool=request.param, conf=CONF)
    yield started
    started.teardown()


def start(shop: Shop, failures: int = 0) -> Run:
    return shop.durable.start("told", {"failures": failures})


def line_with(worker: WorkerNode, *words: str) -> str:
    """The line of the worker's log that has all of these words in it."""

    def found() -> list[str]:
        return [line for line in worker.logs().splitlines() if all(word in line for word in words)]

    wait_until(found, timeout=UNNOTICED, message=lambda: f"{words} in: {worker.logs()[-4000:]}")
    return found()[0]


def test_the_line_at_the_end_of_a_message_says_what_it_did(told: Shop, worker: WorkerNode) -> None:
    run = start(told)
    run.result(timeout=30)
    line = line_with(worker, f"told {run.id}: ")
    assert "Task told.reserve[" in line
    assert line.endswith(f"told {run.id}: reserve, charge; completed")


def test_a_message_that_ended_in_a_failed_unit_says_so(told: Shop, worker: WorkerNode) -> None:
    run = start(told, failures=1)
    run.result(timeout=30)
    line = line_with(worker, f"told {run.id}: reserve")
    assert line.endswith("reserve; charge failed (attempt 1 of 2), next in 0.2 s")
    assert line_with(worker, f"told {run.id}: charge").endswith("charge; completed")

    run = start(told, failures=2)
    with pytest.raises(RunFailed):
        run.result(timeout=30)
    line = line_with(worker, f"told {run.id}: charge failed")
    assert line.endswith("charge failed (attempt 2 of 2); failed")


@pytest.mark.parametrize("worker", ["prefork", "threads", "gevent", "solo"], indirect=True)
def test_every_line_of_a_handler_says_which_run_and_unit_it_is_of(
    told: Shop, worker: WorkerNode
) -> None:
    run = start(told, failures=1)
    run.result(timeout=30)
    assert line_with(worker, f"<told/reserve/1/{run.id}> reserving")
    for attempt in (1, 2):
        assert line_with(worker, f"|durable.advance] <told/charge/{attempt}/{run.id}> charging")
    assert line_with(worker, f"<told/charge/1/{run.id}> told.charge of run", "no money")
    assert line_with(worker, f"<-/-/-/-> heard that {run.id} has completed")
    assert line_with(worker, f"<-/-/-/-> heard that charge of {run.id} is tried again after 1")


def test_each_end_of_a_run_sends_its_task(told: Shop, worker: WorkerNode) -> None:
    completed, failed = start(told), start(told, failures=2)
    for run, event in ((completed, "completed"), (failed, "failed")):
        told.wait_for(run, "tell", event)
        task_id = task_id_of(run.id, Status(event))
        assert line_with(worker, f"Task hooked.tell[{task_id}] succeeded").endswith(f"'{event}'")
        assert [entry.event for entry in told.ledger(run, "tell")] == [event]
    with pytest.raises(RunFailed):
        failed.result(timeout=30)


@on_redis
def test_flower_sees_the_step_as_the_name_and_the_run_as_the_argument(
    told: Shop, worker: WorkerNode
) -> None:
    events: list[dict[str, Any]] = []

    def of(run: Run, kind: str) -> Callable[[], bool]:
        return lambda: any(event["type"] == kind and str(run.id) in str(event) for event in events)

    with told.app.connection_for_read() as connection:
        receiver = told.app.events.Receiver(connection, handlers={"*": events.append})
        capture = receiver.itercapture(limit=None, timeout=UNNOTICED, wakeup=False)
        next(capture)
        run = start(told)
        for _ in capture:
            if of(run, "task-received")() and of(run, "task-succeeded")():
                break
    # The hook's task has the run among its arguments, too, and may have been received.
    about_run = f"(run {run.id})"
    (received,) = [e for e in events if e["type"] == "task-received" and e["args"] == about_run]
    assert received["name"] == "told.reserve"
    (done,) = [event for event in events if f"told {run.id}: " in str(event.get("result"))]
    assert done["uuid"] == received["uuid"]
    assert done["result"] == f"told {run.id}: reserve, charge; completed"

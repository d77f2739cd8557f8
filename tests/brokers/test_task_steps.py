"""Existing Celery tasks as steps, on a real worker of each pool that may have them: options,
request, hooks, signals, retries."""

from collections.abc import Iterator
from typing import Any

import pytest

from celery_durable import RunFailed
from celery_durable.run import Run
from tests.brokers.shop import Shop, need, on_redis
from tests.cluster import WorkerNode
from tests.integration.driving import error_of

pytestmark = on_redis

PAYMENTS = "payments"

APP = "tests.apps.tasked:app"


on_prefork = pytest.mark.parametrize("worker", ["prefork"], indirect=True)
on_threads = pytest.mark.parametrize("worker", ["threads", "gevent"], indirect=True)


@pytest.fixture(scope="module", params=["prefork", "threads", "gevent"])
def worker(shop: Shop, request: pytest.FixtureRequest) -> Iterator[WorkerNode]:
    need(request.param)
    node = shop.worker(APP, pool=request.param, queues=f"{shop.broker.queue()},{shop.payments}")
    yield node
    node.teardown()


@pytest.fixture(scope="module")
def tasks(shop: Shop, worker: WorkerNode) -> Shop:
    """The shop, which knows the workflows from what the worker has stored."""
    return shop


def start(shop: Shop, workflow: str, *args: Any) -> Run:
    return shop.durable.start(workflow, [*args])


def result(run: Run) -> Any:
    return run.result(timeout=30)


def failure(run: Run) -> tuple[str, str]:
    """The type and the message of the error with which the run has failed."""
    with pytest.raises(RunFailed):
        run.result(timeout=30)
    error = error_of(run)
    return error.type.rpartition(".")[2], error.message


def attempts(run: Run) -> int:
    (entry,) = run.history()
    return entry.attempt


def test_a_task_sees_a_request_of_its_own(tasks: Shop, worker: WorkerNode) -> None:
    run = start(tasks, "described")
    seen = result(run)["describe"]
    assert len(seen.pop("id")) == 36
    assert seen.pop("hostname") == worker.hostname()
    assert seen == {
        "retries": 0,
        "root_id": str(run.id),
        "task": "tests.apps.tasked.describe",
        "args": [1, "two"],
        "kwargs": {"three": 3},
        "called_directly": False,
        "is_eager": False,
        "queue": tasks.broker.queue(),
        "priority": 3,
        "limit": None,
        "current": "tests.apps.tasked.describe",
    }


def test_queue_routes_priority_and_time_limit_are_those_of_the_task_unless_said(
    tasks: Shop,
) -> None:
    found = result(start(tasks, "optioned"))
    seen = found["with_options"]
    assert (seen["queue"], seen["priority"], seen["limit"]) == (tasks.payments, 5, 40)
    assert found["routed"] == tasks.payments
    said = found["unlike"]
    assert (said["queue"], said["priority"], said["limit"]) == (tasks.broker.queue(), 5, 30)


@on_prefork
def test_the_soft_limit_of_a_task_is_raised_in_it_and_what_it_returns_then_counts(
    tasks: Shop,
) -> None:
    run = start(tasks, "slow")
    assert result(run) == {"slow": "stopped"}
    assert hooks(tasks, run) == ["before_start", "on_success stopped", "after_return SUCCESS"]


@on_threads
def test_where_nothing_can_stop_a_task_its_limit_fails_the_step_and_its_result_is_dropped(
    tasks: Shop, worker: WorkerNode
) -> None:
    run = start(tasks, "slow")
    assert failure(run) == ("StepTimeout", "slow took longer than its 1 s (timeout=)")
    assert hooks(tasks, run) == ["before_start"]
    tasks.open_gate(run)
    worker.wait_for_log(f"Result of slow of run {run.id} dropped")
    assert hooks(tasks, run) == ["before_start", "on_success late", "after_return SUCCESS"]
    assert run.status().status == "failed"


def test_a_task_is_a_step_in_every_place_that_takes_one(tasks: Shop) -> None:
    assert result(start(tasks, "everywhere")) == {
        "shared": "shared step",
        "both": {"one": "shared branch", "two": 2},
        "items": [11, 12],
        "way": 5,
        "again": 3,
    }


def test_a_task_is_a_compensator_on_the_queue_that_it_says(tasks: Shop) -> None:
    run = start(tasks, "undone")
    assert failure(run) == ("ValueError", "for good")
    assert [entry.event for entry in tasks.ledger(run, "undo")] == ["undo 1"]
    assert tasks.durable.registry.find("undone") is None  # the client knows it from the table
    assert [entry.unit for entry in run.history()] == ["add", "fail", "add#compensate"]


HOOKS_OF_SUCCESS = [
    "task_prerun",
    "before_start 0 busy",
    "on_success done",
    "task_success result=done",
    "after_return SUCCESS",
    "task_postrun state=SUCCESS",
]


def hooks(shop: Shop, run: Run) -> list[str]:
    """The hooks and signals of a run in order, without the results of `task_postrun`."""
    found = [entry.event for entry in shop.ledger(run)]
    return [
        " ".join(
            word for word in event.split(" ") if "postrun" not in event or "result" not in word
        )
        for event in found
    ]


def test_hooks_and_signals_of_a_task_that_succeeds_are_called_once_and_in_celerys_order(
    tasks: Shop,
) -> None:
    run = start(tasks, "hooked", 0, "busy")
    assert result(run) == {"hooked": "done"}
    assert hooks(tasks, run) == HOOKS_OF_SUCCESS


@pytest.mark.parametrize("how", ["busy", "later"])
def test_a_task_that_is_tried_again_calls_on_retry_and_then_everything_anew(
    tasks: Shop, how: str
) -> None:
    run = start(tasks, "hooked", 1, how)
    assert result(run) == {"hooked": "done"}
    assert hooks(tasks, run) == [
        "task_prerun",
        f"before_start 1 {how}",
        f"on_retry Busy('{how}')",
        f"task_retry reason=Retry in 0s: Busy('{how}')",
        "task_postrun state=RETRY",
        *[hook.replace("0 busy", f"1 {how}") for hook in HOOKS_OF_SUCCESS],
    ]


def test_a_task_that_fails_for_good_calls_on_failure(tasks: Shop) -> None:
    run = start(tasks, "hooked", 1, "wrong")
    assert failure(run) == ("ValueError", "wrong")
    assert hooks(tasks, run) == [
        "task_prerun",
        "before_start 1 wrong",
        "on_failure ValueError('wrong') ValueError",
        "task_failure exception=wrong",
        "after_return FAILURE",
        "task_postrun state=FAILURE",
    ]


def test_a_task_without_autoretry_that_raises_is_not_tried_again(tasks: Shop) -> None:
    run = start(tasks, "undone")
    assert failure(run) == ("ValueError", "for good")
    assert [entry.attempt for entry in run.history() if entry.unit == "fail"] == [1]


@pytest.mark.parametrize("how", ["countdown", "eta"])
def test_a_task_that_retries_itself_is_tried_again_and_sends_no_message_for_it(
    tasks: Shop, worker: WorkerNode, how: str
) -> None:
    assert result(start(tasks, "retries_itself", 2, how)) == {"retries_itself": 2}
    # It would have been received before the engine's own message for the next attempt.
    assert "Task tests.apps.tasked.retries_itself[" not in worker.logs()


def test_retry_counts_to_the_max_retries_of_the_task_or_its_own(tasks: Shop) -> None:
    kind, message = failure(exhausted := start(tasks, "retries_itself", 3, "countdown"))
    assert kind == "MaxRetriesExceededError"
    assert message.startswith("Can't retry tests.apps.tasked.retries_itself[")
    assert attempts(exhausted) == 3
    assert failure(start(tasks, "retries_itself", 9, "exc")) == ("Busy", "for good")
    assert result(start(tasks, "retries_itself", 5, "more")) == {"retries_itself": 5}


def test_autoretry_for_is_the_retry_policy_of_the_step(tasks: Shop) -> None:
    assert result(start(tasks, "autoretried", 4)) == {"autoretried": 4}
    run = start(tasks, "autoretried", 5)
    assert failure(run) == ("Busy", "busy")
    (entry,) = run.history()
    assert entry.attempt == 5
    assert [failed.error.message for failed in entry.failures] == ["busy"] * 4
    assert "in autoretried" in (error := error_of(run)).traceback
    assert "celery_durable" not in error.traceback
    for how, kind in (("very", "VeryBusy"), ("other", "ValueError")):
        run = start(tasks, "autoretried", 1, how)
        assert failure(run) == (kind, how)
        assert attempts(run) == 1


def test_a_retry_policy_that_is_said_is_in_place_of_autoretry(tasks: Shop) -> None:
    for how in ("busy", "other"):
        run = start(tasks, "said", 2, how)
        assert failure(run)[1] == how
        assert attempts(run) == 2


@pytest.mark.parametrize(
    ("workflow", "args", "advice"),
    [
        ("refused", ["ignore"], "raised Ignore, and a step has to end: return a value"),
        ("refused", ["reject"], "raised Reject, and a step has no message of its own"),
        ("refused", ["replace"], "calls self.replace(), and a step cannot be replaced"),
        ("retries_itself", [1, "queue"], "calls self.retry() with queue, of a message"),
        ("retries_itself", [1, "args"], "calls self.retry() with other arguments"),
        ("retries_itself", [1, "throw"], "goes on after self.retry()"),
        ("misfit", [], "does not take the arguments that args= and kwargs= of add returned"),
        ("wordy", [], "returned str, not a tuple or list; for one argument: (value,)"),
    ],
)
def test_what_a_step_cannot_do_fails_it_at_once_and_says_what_to_do(
    tasks: Shop, workflow: str, args: list[Any], advice: str
) -> None:
    run = start(tasks, workflow, *args)
    kind, message = failure(run)
    assert kind == "GiveUp"
    assert advice in message
    assert attempts(run) == 1


def test_options_without_effect_are_warned_of_once_and_the_result_is_kept(
    tasks: Shop, worker: WorkerNode
) -> None:
    assert result(start(tasks, "warned")) == {"limited": 2, "add": 42}
    for option in ("rate_limit='1/h'", "expires=10"):
        line = f"{option} of the task tests.apps.tasked.limited has no effect where it is a step"
        assert worker.logs().count(line) == 1


@on_prefork
def test_a_task_whose_process_is_killed_is_called_again_with_the_same_id(tasks: Shop) -> None:
    run = start(tasks, "killed")
    task_id = result(run)["die_once"]
    assert [entry.event for entry in tasks.ledger(run, "die")] == [task_id] * 2

"""How a step says that it waits for an answer."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

import pytest

from celery_durable import Suspend
from celery_durable.errors import LONGEST
from celery_durable.workflow.suspend import suspension


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [(None, None), (0, 0.0), (2, 2.0), (0.5, 0.5), (timedelta(minutes=1), 60.0)],
)
def test_a_timeout_is_seconds_or_a_timedelta(timeout: Any, seconds: float | None) -> None:
    assert Suspend(timeout=timeout).seconds == seconds


@pytest.mark.parametrize(
    "timeout",
    [-1, timedelta(seconds=-1), float("nan"), float("inf"), 2 * LONGEST],
    ids=str,
)
def test_a_timeout_that_no_clock_reaches_is_refused(timeout: Any) -> None:
    with pytest.raises(ValueError, match=r"Suspend\(timeout=\.\.\.\) takes seconds"):
        Suspend(timeout=timeout)


@pytest.mark.parametrize("timeout", ["1h", True, [1]], ids=repr)
def test_a_timeout_that_is_no_time_is_refused(timeout: Any) -> None:
    with pytest.raises(TypeError, match=r"Suspend\(timeout=\.\.\.\) takes seconds or a timedelta"):
        Suspend(timeout=timeout)


@pytest.mark.parametrize("signal", ["", 7, b"approval", True, "a\0"], ids=repr)
def test_a_signal_that_is_no_name_is_refused(signal: Any) -> None:
    with pytest.raises(TypeError, match=r"Suspend\(signal=\.\.\.\) takes a name"):
        Suspend(signal=signal)


def test_a_step_that_returns_suspend_is_suspended_whatever_its_options_say() -> None:
    asked = Suspend({"draft": 1}, signal="approval")
    assert suspension(asked, suspends=False) is asked
    assert suspension(asked, suspends=True) is asked


class Phase(StrEnum):
    WAITS = "suspended"


@dataclass
class Reply:
    status: object


INTERRUPTED = [
    {"status": "suspended", "thread": 5},
    Reply("suspended"),
    Reply(Phase.WAITS),
    {"status": Phase.WAITS},
]


@pytest.mark.parametrize("result", INTERRUPTED, ids=repr)
def test_with_suspends_a_result_may_say_so_as_agent_frameworks_do_and_is_its_own_snapshot(
    result: object,
) -> None:
    assert suspension(result, suspends=True) == Suspend(result)


@pytest.mark.parametrize("result", INTERRUPTED, ids=repr)
def test_without_suspends_a_result_is_a_result_whatever_its_status(result: object) -> None:
    assert suspension(result, suspends=False) is None


@pytest.mark.parametrize(
    "result",
    [None, 7, "suspended", ["suspended"], {"state": "suspended"}, {"status": "done"}, Reply(None)],
    ids=repr,
)
def test_a_result_that_does_not_say_so_is_not_suspended(result: object) -> None:
    assert suspension(result, suspends=True) is None


class Answer(dict[str, object]):
    status = "suspended"


def test_of_a_mapping_the_key_counts_and_not_the_attribute() -> None:
    assert suspension(Answer(status="done"), suspends=True) is None

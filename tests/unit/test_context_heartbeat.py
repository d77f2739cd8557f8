"""What a handler says of itself while it works, and what it is told."""

from typing import Any

import pytest

from celery_durable import RunCancelled, WorkerLost
from celery_durable.core.status import Status
from celery_durable.core.token import Flags, Token
from celery_durable.store.heartbeat import Heartbeat
from celery_durable.workflow import context as module
from celery_durable.workflow.context import Context
from tests.unit.values import RUN_ID, FixedJournal, at, claim

QUIET = Heartbeat(Flags.NONE)
CANCELLED = Heartbeat(Flags.CANCEL)
COMPENSATES = Heartbeat(Flags.CANCEL | Flags.COMPENSATE)
TAKEN_AWAY = Heartbeat(Flags.NONE, is_ours=False)

UNDOING = at("charge#compensate", rollback=Status.FAILED)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the context sees: the last of the list."""
    times = [100.0]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return times[-1]

    monkeypatch.setattr(module, "time", Clock)
    return times


def told(heard: Heartbeat, token: Token | None = None) -> tuple[Context, FixedJournal]:
    journal = FixedJournal()
    journal.heard = heard
    return Context(claim(token or at("charge")), journal), journal


def test_a_heartbeat_shows_that_the_work_goes_on() -> None:
    context, journal = told(QUIET)
    context.heartbeat()
    context.heartbeat({"page": 7})
    assert journal.notes == [None, {"details": {"page": 7}}]


def test_a_heartbeat_with_details_is_always_noted_and_one_without_twice_a_second(
    clock: list[float],
) -> None:
    context, journal = told(QUIET)
    for _ in range(3):
        context.heartbeat()
        context.heartbeat("details")
    assert journal.notes == [None, *[{"details": "details"}] * 3]
    clock.append(clock[-1] + module.BEAT_EVERY)
    context.heartbeat()
    assert journal.notes[-1] is None


def test_a_heartbeat_of_a_cancelled_run_raises_every_time() -> None:
    context, _ = told(CANCELLED)
    for _ in range(2):
        with pytest.raises(RunCancelled) as raised:
            context.heartbeat()
        assert raised.value.run_id == RUN_ID


def test_a_heartbeat_of_a_unit_that_was_taken_away_raises() -> None:
    context, _ = told(TAKEN_AWAY)
    with pytest.raises(WorkerLost, match=f"charge of run {RUN_ID} is not this worker's any more"):
        context.heartbeat()


@pytest.mark.parametrize("heard", [QUIET, COMPENSATES, Heartbeat(Flags.TIMED_OUT)], ids=str)
def test_a_unit_that_may_end_is_not_told_to_stop(heard: Heartbeat) -> None:
    context, _ = told(heard)
    context.heartbeat()
    assert not context.cancelled


def test_a_compensator_is_not_told_to_stop_by_a_cancel() -> None:
    context, _ = told(CANCELLED, UNDOING)
    context.heartbeat()
    assert not context.cancelled


def test_a_cancel_that_asks_to_compensate_later_takes_the_stop_back(clock: list[float]) -> None:
    context, journal = told(CANCELLED)
    with pytest.raises(RunCancelled):
        context.heartbeat()
    journal.heard = COMPENSATES
    clock.append(clock[-1] + module.BEAT_EVERY)
    context.heartbeat()
    assert not context.cancelled


def test_whether_a_run_is_cancelled_is_looked_up_at_most_twice_a_second(
    clock: list[float],
) -> None:
    context, journal = told(QUIET)
    assert not any(context.cancelled for _ in range(10))
    assert journal.notes == [None]
    journal.heard = CANCELLED
    seen = [context.cancelled]
    clock.append(clock[-1] + module.BEAT_EVERY)
    seen.append(context.cancelled)
    assert seen == [False, True]
    assert journal.notes == [None, None]


def test_once_cancelled_nothing_is_looked_up_any_more(clock: list[float]) -> None:
    context, journal = told(CANCELLED)
    assert context.cancelled
    clock.append(clock[-1] + 10)
    assert context.cancelled
    assert journal.notes == [None]


@pytest.mark.parametrize("fraction", [0, 0.5, 1, 1.0])
def test_progress_is_noted_from_nothing_to_everything(fraction: float) -> None:
    context, journal = told(QUIET)
    context.progress(fraction, "halfway")
    assert journal.notes == [{"fraction": float(fraction), "message": "halfway"}]


@pytest.mark.parametrize("fraction", [-0.01, 1.01, float("nan"), float("inf")], ids=str)
def test_progress_outside_of_its_bounds_is_refused_and_not_noted(fraction: float) -> None:
    context, journal = told(QUIET)
    with pytest.raises(ValueError, match="a fraction from 0 to 1"):
        context.progress(fraction)
    assert journal.notes == []


@pytest.mark.parametrize("fraction", [True, "0.5", None], ids=repr)
def test_progress_that_is_no_number_is_refused(fraction: Any) -> None:
    context, journal = told(QUIET)
    with pytest.raises(TypeError, match="a fraction from 0 to 1"):
        context.progress(fraction)
    assert journal.notes == []


def test_progress_of_a_unit_that_was_taken_away_raises() -> None:
    context, _ = told(TAKEN_AWAY)
    with pytest.raises(WorkerLost):
        context.progress(0.5)

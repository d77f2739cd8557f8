"""How long `Run.result` waits between looks, and when it gives up."""

from __future__ import annotations

from uuid import uuid4

import pytest

from celery_durable import run as runs
from celery_durable.core.status import Status
from celery_durable.errors import ResultTimeout
from celery_durable.run import LAST_PAUSE, PAUSE_OF_THE_TOLD, Pauses

RUN = uuid4()


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(runs, "time", clock)
    return clock


def test_who_is_not_told_looks_again_and_again_less_often() -> None:
    pauses = Pauses(RUN, None)
    taken = [pauses.next(Status.RUNNING, is_told=False) for _ in range(50)]
    assert taken == sorted(taken)
    assert taken[0] == runs.FIRST_PAUSE
    assert taken[-1] == LAST_PAUSE


def test_who_would_be_told_looks_seldom_and_not_in_a_hurry_when_that_is_over() -> None:
    """Many may lose one connection at once."""
    pauses = Pauses(RUN, None)
    assert pauses.next(Status.RUNNING, is_told=True) == PAUSE_OF_THE_TOLD
    assert pauses.next(Status.RUNNING, is_told=False) == LAST_PAUSE


@pytest.mark.parametrize("is_told", [True, False])
def test_the_last_look_is_when_the_time_is_up(clock: Clock, *, is_told: bool) -> None:
    pauses = Pauses(RUN, 3.0)
    while clock.now < 1003.0:
        pause = pauses.next(Status.SLEEPING, is_told=is_told)
        assert pause > 0
        clock.now += pause
    assert clock.now == pytest.approx(1003.0)
    with pytest.raises(ResultTimeout, match="sleeping") as raised:
        pauses.next(Status.SLEEPING, is_told=is_told)
    assert raised.value.run_id == RUN


def test_no_time_at_all_is_one_look(clock: Clock) -> None:
    with pytest.raises(ResultTimeout):
        Pauses(RUN, 0.0).next(Status.RUNNING, is_told=True)

"""How long a queue that is full is left alone, and what is said of it."""

from __future__ import annotations

import logging
import math
import time

import pytest

from celery_durable.background.backpressure import FIRST, MAXIMUM, SHARE, Backpressure
from celery_durable.process.outage import SAME_WITHIN
from tests.timekeeping import Clock

WHY = {"q": "nack"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(1000.0)
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def pauses(clock: Clock) -> Backpressure:
    return Backpressure(logging.getLogger("celery_durable.test"))


def wait_of(pauses: Backpressure, clock: Clock, *took: str) -> float:
    """Find it full once more; how long it is left alone then."""
    pauses.note(WHY, took)
    wait = pauses.seconds_to_next()
    assert pauses.paused() == ["q"]
    clock.now += wait + 0.001
    assert pauses.paused() == []
    return wait


def test_a_queue_that_takes_nothing_is_asked_less_and_less_often(
    pauses: Backpressure, clock: Clock
) -> None:
    waits = [wait_of(pauses, clock) for _ in range(12)]
    assert waits[0] == pytest.approx(FIRST)
    assert waits[1] == pytest.approx(2 * FIRST)
    assert waits[-1] == pytest.approx(MAXIMUM)


def test_a_queue_that_drains_is_asked_more_and_more_often(
    pauses: Backpressure, clock: Clock
) -> None:
    for _ in range(12):
        wait_of(pauses, clock)
    waits = [wait_of(pauses, clock, "q") for _ in range(12)]
    assert waits[0] == pytest.approx(MAXIMUM / 2)
    assert waits[-1] == pytest.approx(FIRST)


def test_only_the_queue_that_is_full_is_paused_until_it_takes_all(
    pauses: Backpressure, clock: Clock
) -> None:
    pauses.note(WHY, ["other", None])
    assert pauses.paused() == ["q"]
    pauses.note({}, ["other"])
    assert pauses.paused() == ["q"]
    pauses.note({}, ["q"])
    assert pauses.paused() == []
    assert pauses.seconds_to_next() == math.inf
    assert wait_of(pauses, clock) == pytest.approx(FIRST)


def test_a_queue_that_keeps_others_waiting_is_asked_rarely(
    pauses: Backpressure, clock: Clock
) -> None:
    pauses.note(WHY, [], 10.0)
    assert pauses.seconds_to_next() == pytest.approx(SHARE * 10)
    clock.now += SHARE * 10
    pauses.note(WHY, [], 0.5)
    assert pauses.seconds_to_next() == pytest.approx(2 * FIRST), "this try was short"


def test_it_is_told_once_at_each_end(
    pauses: Backpressure, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A queue that goes to and fro is told of once."""
    for _ in range(5):
        wait_of(pauses, clock)
        pauses.note({}, ["q"])
    told = caplog.messages
    assert told[0] == "Queue 'q' takes no more for now, its messages wait: nack"
    assert told[1].startswith("Queue 'q' takes messages again after ")
    assert len(told) == 2
    clock.now += SAME_WITHIN
    wait_of(pauses, clock)
    assert len(caplog.records) == 3

"""A pool's soft limit, wherever it strikes: called as the handler of the pool's signal does."""

import time
from collections.abc import Iterator

import pytest

from celery_durable.process import interrupts


class TimeIsUp(Exception):
    pass


@pytest.fixture(autouse=True)
def _no_unit() -> Iterator[None]:
    yield
    interrupts.begin(None)


def strike() -> str:
    interrupts.strike(TimeIsUp())
    return "went on"


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit whose time is up, before its handler is called."""
    interrupts.begin(5)
    later = time.monotonic() + 5
    monkeypatch.setattr(time, "monotonic", lambda: later)


@pytest.mark.usefixtures("late")
def test_a_handler_is_interrupted_at_once() -> None:
    with pytest.raises(TimeIsUp):
        interrupts.in_handler(strike)


@pytest.mark.usefixtures("late")
def test_what_must_not_be_left_in_the_middle_is_done_first() -> None:
    done: list[str] = []

    def handler() -> None:
        with interrupts.held_off():
            with interrupts.held_off():
                done.append(strike())
            done.append("more")
        done.append("never")

    with pytest.raises(TimeIsUp):
        interrupts.in_handler(handler)
    assert done == ["went on", "more"]


@pytest.mark.usefixtures("late")
def test_a_limit_that_strikes_on_the_way_to_the_handler_strikes_in_it() -> None:
    called: list[str] = []
    assert strike() == "went on"
    with pytest.raises(TimeIsUp):
        interrupts.in_handler(lambda: called.append("called"))
    assert called == []


@pytest.mark.usefixtures("late")
def test_a_limit_that_strikes_once_the_handler_has_ended_is_forgotten() -> None:
    assert interrupts.in_handler(lambda: "in time") == "in time"
    assert strike() == "went on"
    interrupts.begin(-5)
    assert interrupts.in_handler(lambda: "the next") == "the next"


@pytest.mark.usefixtures("late")
def test_a_handler_that_was_interrupted_leaves_no_door_open() -> None:
    with pytest.raises(TimeIsUp):
        interrupts.in_handler(strike)
    assert strike() == "went on"


def test_a_limit_strikes_only_the_unit_whose_time_is_up() -> None:
    """It may have been sent for the message before."""
    assert interrupts.in_handler(strike) == "went on"
    interrupts.begin(None)
    assert interrupts.in_handler(strike) == "went on"
    interrupts.begin(60)
    assert interrupts.in_handler(strike) == "went on"

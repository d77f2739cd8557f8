"""A time to wait: a row of the outbox, never a worker's memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.run import Run
from tests.integration.driving import Define, World, error_of, noting
from tests.integration.forks import ended, messages, recovered, standing
from tests.integration.workflows import failing, undoable

HOUR = 3600.0


def sleeping(log: list[str], duration: Any) -> Define:
    """A step, a sleep, a step."""

    def define(durable: Durable) -> None:
        durable.workflow("w").step(noting(log, "a", "answer")).sleep("nap", duration).step(
            noting(log, "b")
        )

    return define


def seconds_left(world: World, run: Run) -> float:
    """Until the token's time."""
    query = (
        "SELECT extract(epoch FROM wake_at - clock_timestamp())::float"
        " FROM durable_token WHERE run_id = %s"
    )
    return float(world.one(query, run.id))


@pytest.mark.parametrize(
    "duration",
    [
        3600,
        3600.0,
        timedelta(hours=1),
        lambda ctx: 3600 if ctx.results["a"] == "answer" else 0,
        lambda _: timedelta(minutes=60),
        lambda _: datetime.now(UTC) + timedelta(hours=1),
        lambda _: datetime.now(timezone(timedelta(hours=9))) + timedelta(hours=1),
    ],
    ids=["int", "float", "timedelta", "function", "of timedelta", "of datetime", "of time zone"],
)
def test_a_run_sleeps_as_long_as_it_was_told(world: World, duration: Any) -> None:
    log: list[str] = []
    worker = world.worker(sleeping(log, duration))
    run = worker.start("w", {})
    world.drain(worker)

    assert log == ["a"]
    snapshot = run.status()
    assert (snapshot.status, snapshot.current) == ("sleeping", ("nap",))
    assert snapshot.wake_at == world.one("SELECT wake_at FROM durable_token")
    assert HOUR - 60 < seconds_left(world, run) <= HOUR
    (hint,) = messages(world)
    assert hint["available_at"] == snapshot.wake_at

    world.let_time_pass(HOUR - 120)
    world.drain(worker)
    assert log == ["a"]
    world.let_time_pass(120)
    world.drain(worker)
    assert log == ["a", "b"]
    assert run.result(timeout=0)["nap"] is None
    assert world.units(run) == ["a completed", "nap completed", "b completed"]
    assert ended(world, run) == "completed"


def test_a_run_sleeps_until_a_datetime(world: World) -> None:
    wake_at = datetime.now(UTC) + timedelta(days=40)
    worker = world.worker(sleeping([], wake_at))
    run = worker.start("w", {})
    world.drain(worker)

    stored = run.status().wake_at
    assert stored is not None
    assert stored >= wake_at, "never early"
    assert stored - wake_at < timedelta(seconds=60)


@pytest.mark.parametrize(
    "duration",
    [
        datetime(2020, 1, 1, tzinfo=UTC),
        lambda _: datetime.now(UTC) - timedelta(days=1),
        0,
        timedelta(0),
        lambda _: 0,
    ],
    ids=["past", "past by a function", "0", "no timedelta", "0 by a function"],
)
def test_a_time_that_has_passed_is_not_waited_for(world: World, duration: Any) -> None:
    log: list[str] = []
    worker = world.worker(sleeping(log, duration))
    run = worker.start("w", {})
    world.drain(worker)

    assert log == ["a", "b"]
    assert ended(world, run) == "completed"


def test_a_message_that_comes_early_does_not_wake_it(world: World) -> None:
    log: list[str] = []
    worker = world.worker(sleeping(log, HOUR))
    run = worker.start("w", {})
    world.drain(worker)
    before = seconds_left(world, run)
    for _ in range(3):
        worker.engine.advance(world.token_id(run))

    assert log == ["a"]
    assert before - 60 < seconds_left(world, run) <= before
    assert world.hints() == 1


def test_recovery_does_not_wake_it_before_its_time_though_its_timer_is_lost(world: World) -> None:
    """P2: and does when its time has come."""
    log: list[str] = []
    worker = world.worker(sleeping(log, 2 * HOUR))
    run = worker.start("w", {})
    world.drain(worker)

    for _ in range(3):
        assert recovered(world, worker) == 0
        world.drain(worker)
    assert (log, run.status().status) == (["a"], "sleeping")

    world.let_time_pass(2 * HOUR)
    assert recovered(world, worker) == 1
    world.drain(worker)
    assert log == ["a", "b"]
    assert ended(world, run) == "completed"


def test_a_restart_of_the_worker_changes_nothing(world: World) -> None:
    log: list[str] = []
    first = world.worker(sleeping(log, HOUR))
    run = first.start("w", {})
    world.drain(first)
    wake_at = run.status().wake_at
    world.kill(first)

    second = world.worker(sleeping(log, HOUR))
    assert second.recover() == 0
    world.drain(second)
    assert (log, second.status(run.id).wake_at) == (["a"], wake_at)
    world.let_time_pass(HOUR)
    world.drain(second)
    assert log == ["a", "b"]


def test_a_function_is_asked_once(world: World) -> None:
    """P3: a wait that has begun keeps its length."""
    asked: list[int] = []

    def duration(_: Any) -> float:
        asked.append(1)
        return HOUR

    worker = world.worker(sleeping([], duration))
    run = worker.start("w", {})
    world.drain(worker)
    world.let_time_pass(HOUR)
    recovered(world, worker)
    world.drain(worker)

    assert asked == [1]
    assert ended(world, run) == "completed"


@pytest.mark.parametrize(
    "given",
    [
        None,
        "an hour",
        -1,
        float("nan"),
        float("inf"),
        True,
        datetime(2030, 1, 1),  # noqa: DTZ001 - that is the mistake
        timedelta(days=-1),
        [60],
        10**30,
    ],
    ids=str,
)
def test_a_function_that_returns_no_duration_fails_the_node(world: World, given: Any) -> None:
    log: list[str] = []

    def define(durable: Durable) -> None:
        durable.workflow("w").step(undoable(durable, log, "a")).sleep("nap", lambda _: given)

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)

    assert log == ["a", "a#compensate"]
    error = error_of(run)
    assert error.unit == "nap"
    assert "nap" in error.message
    assert ended(world, run) == "failed"


def test_a_function_that_raises_fails_the_node(world: World) -> None:
    worker = world.worker(sleeping([], failing("no time")))
    run = worker.start("w", {})
    world.drain(worker)

    error = error_of(run)
    assert (error.type, error.message, error.unit) == ("ValueError", "no time", "nap")
    assert ended(world, run) == "failed"


def test_a_sleep_that_comes_first(world: World) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").sleep("nap", HOUR)

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)
    assert run.status().status == "sleeping"
    world.let_time_pass(HOUR)
    world.drain(worker)
    assert ended(world, run) == "completed"


@pytest.mark.parametrize("compensate", [False, True])
def test_a_cancel_does_not_wait_for_the_time(world: World, compensate: bool) -> None:
    log: list[str] = []

    def define(durable: Durable) -> None:
        durable.workflow("w").step(undoable(durable, log, "a")).sleep("nap", HOUR)

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)
    assert list(standing(world, run)) == ["nap"]
    run.cancel(compensate=compensate)
    world.drain(worker)

    assert log == (["a", "a#compensate"] if compensate else ["a"])
    world.let_time_pass(HOUR)
    world.drain(worker)
    assert ended(world, run) == "cancelled"

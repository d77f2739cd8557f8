"""What the overview counts: runs by status, by what they stand at, begun, ended, failed lately."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.core.status import FINISHED, Status
from celery_durable.store.read import traffic
from celery_durable.store.read.traffic import Lately
from tests.integration.driving import ONCE, World, noting


class Declined(Exception):
    """No money."""


def declining(_: Any) -> None:
    raise Declined("no money")


def define(durable: Durable) -> None:
    durable.workflow("works").step(noting([], "a"))
    durable.workflow("waits").wait_for_signal("signoff", "go")
    durable.workflow("sleeps").sleep("z", 3600)
    durable.workflow("fails").step(declining, name="d", retry=ONCE)
    durable.workflow("tries").step(declining, name="d", retry=RetryPolicy(3, initial=3600))
    durable.workflow("gives up").step(
        declining, name="d", retry=RetryPolicy(1, on_exhausted="pause")
    )
    durable.workflow("forks").map("m", over=lambda _: [1, 2], handler=declining)
    durable.workflow("asks").map(
        "m", over=lambda _: [1, 2], handler=durable.workflow("asked").wait_for_signal("s", "go")
    )
    durable.workflow("has a child").step(durable.workflow("child").wait_for_signal("s", "go"))


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(define)


def read(durable: Durable, of: Any, *arguments: Any) -> Any:
    with durable.database.read_only() as connection:
        return of(connection, *arguments)


def now(durable: Durable) -> datetime:
    found: datetime = read(durable, traffic.now)
    return found


def test_unfinished_runs_are_counted_as_a_list_shows_them(world: World, durable: Durable) -> None:
    """However each status comes about, the overview and the list say the same."""
    names = ("waits", "waits", "sleeps", "tries", "gives up", "forks", "asks", "has a child")
    for name in (*names, "works"):
        durable.start(name)
    world.drain(durable)
    durable.start("works", delay=60)
    paused = durable.start("works")
    paused.pause()
    durable.start("works")

    found = read(durable, traffic.unfinished)
    listed = {
        status: len(durable.list(status=status)) for status in Status if status not in FINISHED
    }
    assert found.by_status() == listed
    assert listed[Status.SUSPENDED] >= 4
    assert found.is_all


def test_what_unfinished_runs_stand_at_is_told_with_the_oldest(
    world: World, durable: Durable
) -> None:
    oldest = durable.start("waits")
    world.drain(durable)
    durable.start("waits")
    world.drain(durable)
    ready = durable.start("works")

    found = {one.kind: one for one in read(durable, traffic.unfinished).standing}
    assert found.keys() == {"signal", "ready"}
    assert (found["signal"].runs, found["signal"].oldest) == (2, oldest.id)
    assert found["signal"].since == world.token(oldest)["waiting_since"]
    assert (found["ready"].status, found["ready"].oldest) == (Status.RUNNING, ready.id)


def test_counts_stop_at_their_bounds_and_say_so(world: World, durable: Durable) -> None:
    world.rows(
        "INSERT INTO durable_run (id, workflow, version, status, input)"
        " SELECT gen_random_uuid(), 'works', 1, 'pending', 'null'"
        f" FROM generate_series(1, {traffic.MOST_UNFINISHED + 1})"
    )
    world.rows(
        "INSERT INTO durable_token (id, run_id, node, unit, queue, fence)"
        " SELECT gen_random_uuid(), id, 'a', 'a', 'durable', gen_random_uuid() FROM durable_run"
    )
    found = read(durable, traffic.unfinished)
    assert not found.is_all
    assert found.by_status()[Status.PENDING] == traffic.MOST_UNFINISHED


def test_runs_that_have_ended_are_counted_by_status(world: World, durable: Durable) -> None:
    durable.start_many("works", [None] * 3)
    durable.start("fails")
    world.drain(durable)
    durable.start("waits").cancel()
    assert read(durable, traffic.ended) == {
        Status.COMPLETED: 3,
        Status.FAILED: 1,
        Status.CANCELLED: 1,
    }


def test_what_began_and_ended_within_an_hour_and_a_day_is_counted(
    world: World, durable: Durable
) -> None:
    """Children are not: who reads it thinks of what was started."""
    durable.start_many("works", [None] * 2)
    durable.start("fails")
    durable.start("has a child")
    world.drain(durable)
    at = now(durable)
    assert durable.list(workflow="child")

    assert day_and_hour(read(durable, traffic.started_lately, at)) == (4, 4)
    ended = read(durable, traffic.ended_lately, at)
    assert {status: day_and_hour(one) for status, one in ended.items()} == {
        Status.COMPLETED: (2, 2),
        Status.FAILED: (1, 1),
        Status.CANCELLED: (0, 0),
    }
    in_two_hours = at + timedelta(hours=2)
    assert day_and_hour(read(durable, traffic.started_lately, in_two_hours)) == (4, 0)
    assert day_and_hour(read(durable, traffic.ended_lately, in_two_hours)[Status.FAILED]) == (1, 0)
    in_two_days = at + timedelta(days=2)
    assert day_and_hour(read(durable, traffic.ended_lately, in_two_days)[Status.FAILED]) == (0, 0)


def day_and_hour(lately: Lately) -> tuple[int, int]:
    return lately.day, lately.hour


def test_the_pace_is_that_of_the_runs_that_were_looked_at() -> None:
    at = datetime.fromisoformat("2026-03-01T12:00Z")
    some = Lately(5_000, 5_000, is_all=False, oldest=at - timedelta(minutes=15))
    assert some.pace(at) == 20_000
    assert not some.has_hour(at)
    more = Lately(400, 10_000, is_all=False, oldest=at - timedelta(hours=20))
    assert more.pace(at) == 500
    assert more.has_hour(at)
    assert Lately(3, 5, is_all=True, oldest=at).pace(at) is None


def test_failures_are_grouped_by_workflow_and_error(world: World, durable: Durable) -> None:
    last = [durable.start("fails") for _ in range(3)][-1]
    durable.start("forks")
    world.drain(durable)
    world.rows(
        "UPDATE durable_run SET finished_at = clock_timestamp() + interval '1 second'"
        " WHERE id = %s",
        last.id,
    )
    found = read(durable, traffic.failures, now(durable))
    (fails,) = (one for one in found if one.workflow == "fails")
    assert (fails.error, fails.runs, fails.run_id) == (f"{__name__}.Declined", 3, last.id)
    assert fails.message == "no money"
    assert found[0] == fails
    assert read(durable, traffic.failures, now(durable) + timedelta(days=2)) == []

"""`list`: pages and filters, in one query."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from celery_durable import ConfigurationError, Durable, RetryPolicy
from celery_durable.core.status import StatusName
from celery_durable.store.connection import Statement
from tests.integration.driving import ONCE, World, noting


def define(durable: Durable) -> None:
    for name in ("v", "w"):
        durable.workflow(name).step(noting([], "a"))


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(define)


def test_the_newest_runs_come_first_page_by_page(durable: Durable) -> None:
    runs = [durable.start("w", {}) for _ in range(7)]
    expected = sorted((run.id for run in runs), reverse=True)

    pages: list[Any] = []
    before = None
    while page := durable.list(limit=3, before=before):
        pages.append([one.run_id for one in page])
        before = page[-1].run_id

    assert pages == [expected[:3], expected[3:6], expected[6:]]


def test_a_list_is_filtered(world: World, durable: Durable) -> None:
    done = durable.start("w", {}, tags={"shop": "north", "lane": "1"})
    world.drain(durable)
    running = durable.start("w", {}, tags={"shop": "north", "lane": "2"})
    other = durable.start("v", {}, tags={"shop": "south"})
    later = durable.start("v", {}, delay=60)

    def found(**filters: Any) -> set[Any]:
        return {one.run_id for one in durable.list(**filters)}

    assert found() == {done.id, running.id, other.id, later.id}
    assert found(status="completed") == {done.id}
    assert found(status="pending") == {later.id}
    assert found(workflow="w") == {done.id, running.id}
    assert found(workflow="w", status="running") == {running.id}
    assert found(tags={"shop": "north"}) == {done.id, running.id}
    assert found(tags={"shop": "north", "lane": "2"}) == {running.id}
    assert found(tags={"shop": "west"}) == set()
    assert found(tags={}) == found()
    assert found(parent=done.id) == set()
    assert found(workflow="nobody") == set()


def test_a_list_has_the_runs_of_a_time(world: World, durable: Durable) -> None:
    """From `since` on and before `until`, by the clock of the database."""
    first, second, third = (durable.start("w") for _ in range(3))
    at = {one.run_id: one.created_at for one in durable.list()}

    def found(**filters: Any) -> list[Any]:
        return [one.run_id for one in durable.list(**filters)]

    assert found(since=at[second.id]) == [third.id, second.id]
    assert found(until=at[second.id]) == [first.id]
    assert found(since=at[first.id], until=at[third.id]) == [second.id, first.id]
    here = timezone(timedelta(hours=5))
    assert found(since=at[third.id].astimezone(here)) == [third.id]
    assert found(until=datetime(1, 1, 1, tzinfo=UTC)) == []
    assert found(since=datetime(9999, 12, 31, tzinfo=UTC)) == []
    assert found(since=datetime(1, 1, 1, tzinfo=UTC)) == [third.id, second.id, first.id]


def test_a_clock_that_goes_wrong_by_less_than_an_hour_hides_no_run(
    world: World, durable: Durable
) -> None:
    """An id is made by the clock of who starts the run, and `created_at` by the database's."""
    run = durable.start("w")
    for minutes in (59, -59):
        world.rows(
            f"UPDATE durable_run SET created_at = clock_timestamp() + interval '{minutes} minutes'"
        )
        (one,) = durable.list()
        at, moment = one.created_at, timedelta(microseconds=1)
        assert [found.run_id for found in durable.list(since=at, until=at + moment)] == [run.id]


def test_a_run_is_found_by_its_key(durable: Durable) -> None:
    one, other = durable.start("w", key="k"), durable.start("v", key="k")
    durable.start("w", key="l")

    def found(**filters: Any) -> list[Any]:
        return [run.run_id for run in durable.list(**filters)]

    assert found(key="k") == [other.id, one.id]
    assert found(key="k", workflow="w") == [one.id]
    assert found(key="K") == found(key="m") == []


class Declined(Exception):
    """No money."""


class Slow(Exception):
    """No answer."""


def declining(ctx: Any) -> None:
    raise Declined(f"no money, attempt {ctx.attempt}")


def slow(_: Any) -> None:
    raise Slow("100%_sure: no answer")


LATER = RetryPolicy(max_attempts=3, initial=3600)


def define_failing(durable: Durable) -> None:
    durable.workflow("fails").step(declining, retry=ONCE)
    durable.workflow("tries").step(declining, retry=LATER)
    durable.workflow("slow").step(slow, retry=LATER)
    durable.workflow("forks").map(
        "m", over=lambda _: [*range(3)], handler=durable.step(name="i", retry=LATER)(declining)
    )
    undone = durable.step(name="u")(lambda _: None)
    undone.compensate(slow, retry=ONCE)
    durable.workflow("stays").step(undone).step(declining, retry=ONCE)
    durable.workflow("branch").parallel(
        "p", {"compensate": durable.step(name="c", retry=ONCE)(declining)}
    )
    durable.workflow("works").step(noting([], "a"))


def started(world: World) -> tuple[Durable, dict[Any, str]]:
    """A run of each of these, by their ids."""
    durable = world.worker(define_failing)
    names = ("fails", "tries", "slow", "forks", "stays", "branch", "works")
    runs = {durable.start(name).id: name for name in names}
    world.drain(durable)
    return durable, runs


def test_runs_are_found_by_their_error(world: World) -> None:
    """That of the run, or the last one of a unit that is tried again, in a branch too."""
    durable, runs = started(world)

    def found(error: str, **filters: Any) -> set[str]:
        return {runs[one.run_id] for one in durable.list(error=error, **filters)}

    declined = {"fails", "tries", "forks", "stays", "branch"}
    assert found("Declined") == declined
    assert found("Slow") == {"slow"}
    assert found("Declin") == found("declined") == set()
    assert found(f"{__name__}.Declined") == found("test_listing.Declined: no money") == declined
    assert found("listing.Declined") == found("other.Declined") == set()
    assert found("Declined: no money") == declined
    assert found("Declined:attempt 1 ") == declined
    assert found("Slow: 100%_sure: no") == {"slow"}
    assert found("Slow: 100__") == set()
    assert found("Declined", status="failed") == {"fails", "stays", "branch"}
    assert found("Declined", workflow="tries") == {"tries"}
    for one in durable.list(error="Declined"):
        assert one.error is not None
        assert one.error.type == f"{__name__}.Declined"


def test_pages_of_runs_with_an_error_follow_each_other(world: World) -> None:
    durable, _ = started(world)
    whole = durable.list(error="Declined")
    pages, before = [], None
    while page := durable.list(error="Declined", limit=2, before=before):
        pages.append(page)
        before = page[-1].run_id
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [one for page in pages for one in page] == whole


def test_runs_are_found_that_are_not_undone(world: World) -> None:
    """A branch may be called `compensate`."""
    durable, runs = started(world)

    def found(**filters: Any) -> set[str]:
        return {runs[one.run_id] for one in durable.list(**filters)}

    assert found(compensation_failed=True) == {"stays"}
    assert found(compensation_failed=False) == {*runs.values()} - {"stays"}
    assert found(compensation_failed=False, status="failed") == {"fails", "branch"}
    assert found(compensation_failed=True, error="Declined", workflow="stays") == {"stays"}
    assert found(compensation_failed=True, workflow="fails") == set()


def test_every_filter_must_be_true(world: World) -> None:
    durable = world.worker(define_failing)
    run = durable.start("stays", key="k", tags={"shop": "north"})
    durable.start("stays", key="l")
    world.drain(durable)
    at = run.status().created_at
    filters: dict[str, tuple[Any, Any]] = {
        "status": ("failed", "completed"),
        "workflow": ("stays", "fails"),
        "key": ("k", "l"),
        "tags": ({"shop": "north"}, {"shop": "south"}),
        "since": (at, at + timedelta(hours=1)),
        "until": (at + timedelta(microseconds=1), at),
        "error": ("Declined: no money", "Slow"),
        "compensation_failed": (True, False),
    }
    right = {name: value for name, (value, _) in filters.items()}
    assert [one.run_id for one in durable.list(**right)] == [run.id]
    for name, (_, wrong) in filters.items():
        assert durable.list(**{**right, name: wrong}) == [], name


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"since": datetime(2026, 3, 1)}, "since= takes a datetime with a time zone"),  # noqa: DTZ001
        ({"until": "yesterday"}, "until= takes a datetime"),
        ({"error": ": no money"}, "error= takes the type of an error"),
        ({"error": "RunCancelled"}, "status='cancelled' finds it"),
        ({"error": ""}, "error= takes a string"),
        ({"key": ""}, "key= takes a string"),
        ({"compensation_failed": 1}, "compensation_failed= takes True or False"),
    ],
)
def test_a_wrong_filter_is_refused(durable: Durable, wrong: dict[str, Any], said: str) -> None:
    """P12"""
    with pytest.raises(ConfigurationError, match=said):
        durable.list(**wrong)


def test_a_summary_says_where_its_run_stands(world: World) -> None:
    durable, runs = started(world)
    found = {runs[one.run_id]: one for one in durable.list()}

    tries = found["tries"].standing
    assert tries is not None
    assert (tries.unit, tries.attempt, tries.max_attempts) == ("declining", 2, 3)
    assert (tries.is_executing, tries.waits_for) == (False, None)
    assert tries.since is not None
    assert tries.wake_at is not None
    assert tries.failure is not None
    assert tries.failure.attempt == 1
    assert tries.failure.started_at <= tries.failure.failed_at <= tries.since
    assert tries.error == found["tries"].error
    assert tries.error is not None
    assert (tries.error.message, tries.error.traceback) == ("no money, attempt 1", "")

    forks = found["forks"].standing
    assert forks is not None
    assert (forks.unit, forks.waits_for, forks.failure) == ("m", "branches", None)
    error = found["forks"].error
    assert error is not None
    assert error.unit in ("m#0", "m#1", "m#2")
    assert [found[name].standing for name in ("fails", "stays", "works")] == [None] * 3
    assert found["works"].error is None


def test_a_summary_has_the_facts_of_its_run(world: World, durable: Durable) -> None:
    run = durable.start("w", {}, key="k", tags={"a": "b"})
    world.drain(durable)
    (summary,) = durable.list()
    snapshot = run.status()
    for fact in (
        *("run_id", "workflow", "version", "status", "key", "tags", "parent_run_id"),
        *("created_at", "started_at", "updated_at", "finished_at"),
    ):
        assert getattr(summary, fact) == getattr(snapshot, fact), fact


def test_a_list_is_one_query_however_long(
    world: World, durable: Durable, statements: list[Statement]
) -> None:
    durable.start_many("w", [{}] * 50)
    statements.clear()
    assert len(durable.list(limit=50)) == 50
    assert len(statements) == 1


def test_a_list_has_a_hundred_runs_by_default(durable: Durable) -> None:
    durable.start_many("w", [{}] * 120)
    assert len(durable.list()) == 100
    assert len(durable.list(limit=1000)) == 120


def test_a_process_that_imports_no_workflow_can_list_runs(world: World, durable: Durable) -> None:
    run = durable.start("w", {})
    (found,) = world.worker().list(workflow="w", status="running", before=None)
    assert found.run_id == run.id


def define_waits(durable: Durable) -> None:
    child = durable.workflow("child").wait_for_signal("go")
    durable.workflow("asks").wait_for_signal("go")
    durable.workflow("sleeps").sleep("nap", 3600)
    durable.workflow("both").parallel(
        "p", {"asks": durable.workflow("ask").wait_for_signal("go"), "works": noting([], "a")}
    )
    durable.workflow("starts").map("m", over=lambda _: [1, 2, 3], handler=child)


def test_runs_are_found_by_what_they_wait_for(world: World) -> None:
    durable = world.worker(define_waits)
    asks, sleeps, starts = (durable.start(name) for name in ("asks", "sleeps", "starts"))
    world.drain(durable)
    works = durable.start("asks")

    def found(status: StatusName) -> list[Any]:
        return [one.run_id for one in durable.list(status=status) if one.parent_run_id is None]

    assert found("suspended") == [starts.id, asks.id]
    assert found("sleeping") == [sleeps.id]
    assert found("running") == [works.id]
    assert {one.status for one in durable.list(workflow="sleeps")} == {"sleeping"}
    assert {world.status(run) for run in (asks, sleeps, starts, works)} == {"running"}

    children = durable.list(parent=starts.id)
    assert [one.run_id for one in children] == [one.run_id for one in starts.status().children]
    assert {(one.workflow, one.status) for one in children} == {("child", "suspended")}
    for one in children:
        durable.resume(one.run_id, "go")
    world.drain(durable)
    assert starts.status().status == "completed"
    assert found("suspended") == [works.id, asks.id]


def test_a_run_of_which_one_branch_moves_is_running(world: World) -> None:
    durable = world.worker(define_waits)
    run = durable.start("both")
    (fork,) = world.publish()
    durable.engine.advance(fork)
    (summary,) = durable.list(workflow="both")
    assert summary.status == "running"
    world.drain(durable)
    (summary,) = durable.list(workflow="both")
    assert summary.status == run.status().status == "suspended"


def test_runs_are_listed_that_have_ended_since_a_time(world: World) -> None:
    """Whenever they were created; those that are children are left to their parents."""
    durable, runs = started(world)
    at = datetime.now(UTC)

    def found(status: StatusName, since: datetime, **filters: Any) -> set[str]:
        listed = durable.list(status=status, ended_since=since, **filters)
        return {runs[one.run_id] for one in listed}

    hour, day = timedelta(hours=1), timedelta(days=1)
    world.rows("UPDATE durable_run SET created_at = created_at - interval '1 week'")
    failed = {"fails", "stays", "branch"}
    assert found("failed", at - hour) == failed
    assert found("completed", at - hour) == {"works"}
    assert found("cancelled", at - hour) == set()
    assert found("failed", at + hour) == set()
    assert found("failed", at - hour, workflow="fails") == {"fails"}
    assert found("failed", at - hour, error="Declined: no money") == failed
    world.rows(
        "UPDATE durable_run SET finished_at = finished_at - interval '2 hours'"
        " WHERE workflow = 'fails'"
    )
    assert found("failed", at - hour) == failed - {"fails"}
    assert found("failed", at - day) == failed
    world.rows("UPDATE durable_run SET parent_run_id = id WHERE workflow = 'fails'")
    assert found("failed", at - day) == failed - {"fails"}


@pytest.mark.parametrize("status", [None, "running", "suspended"])
def test_only_runs_that_have_ended_can_have_ended_since(
    world: World, status: StatusName | None
) -> None:
    with pytest.raises(ConfigurationError, match="one of 'completed', 'failed', 'cancelled'"):
        world.worker(define).list(status=status, ended_since=datetime.now(UTC))


def test_runs_are_listed_in_which_nothing_has_moved_since_a_time(world: World) -> None:
    """One branch that moves is enough to be left out; what has ended stands nowhere."""
    durable, runs = started(world)
    hour = timedelta(hours=1)
    at = datetime.now(UTC)

    def found(since: datetime, **filters: Any) -> set[str]:
        return {runs[one.run_id] for one in durable.list(standing_since=since, **filters)}

    unfinished = {"tries", "slow", "forks"}
    assert found(at - hour) == set()
    assert found(at + hour) == unfinished
    world.rows("UPDATE durable_run SET created_at = created_at - interval '2 hours'")
    assert found(at - hour) == set()
    world.rows("UPDATE durable_token SET since = since - interval '2 hours'")
    assert found(at - hour) == found(at - hour, status="running") == unfinished
    assert found(at - hour, status="failed") == set()
    assert found(at - hour, status="sleeping") == set()
    world.rows("UPDATE durable_token SET since = clock_timestamp() WHERE unit = 'm#1'")
    assert found(at - hour) == unfinished - {"forks"}

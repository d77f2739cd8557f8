"""A harness executes runs in the thread of the test: no broker, no worker, no waiting."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable import (
    ConfigurationError,
    Context,
    Durable,
    GiveUp,
    RetryLater,
    RetryPolicy,
    RunCancelled,
    RunFailed,
    Suspend,
)
from celery_durable.testing import Harness, RunStands
from tests.integration.driving import World, noting

LATER = RetryPolicy(max_attempts=5, initial=600.0, backoff="fixed", jitter=False)


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker()


@pytest.fixture
def harness(durable: Durable) -> Iterator[Harness]:
    with Harness(durable) as harness:
        yield harness


def test_a_run_has_ended_when_the_call_returns(
    durable: Durable, harness: Harness, log: list[str]
) -> None:
    order = durable.workflow("order").step(noting(log, "reserve", 1)).step(noting(log, "charge", 2))
    run = harness.run(order, {"sku": "A1"}, key="order-1", tags={"shop": "north"})
    assert log == ["reserve", "charge"]
    assert run.result(timeout=0) == {"reserve": 1, "charge": 2}
    assert durable.status(run.id).tags == {"shop": "north"}
    again = harness.run(order, key="order-1")
    assert (again, again.created) == (run, False)


def test_a_transactional_step_commits_with_its_sql(
    world: World, durable: Durable, harness: Harness
) -> None:
    def book(ctx: Context) -> None:
        ctx.session.connection().exec_driver_sql("INSERT INTO booked VALUES (1)")

    world.rows("CREATE TABLE booked (n int)")
    harness.run(durable.workflow("w").step(book, transactional=True)).result()
    assert world.one("SELECT count(*) FROM booked") == 1


def test_branches_items_and_children_are_executed_too(
    durable: Durable, harness: Harness, log: list[str]
) -> None:
    durable.workflow("child").step(noting(log, "pack", "packed"))
    work = (
        durable.workflow("w")
        .parallel("checks", {"fraud": noting(log, "fraud", 1), "price": noting(log, "price", 2)})
        .map("lines", over=lambda _: [1, 2, 3], handler=lambda ctx: 10 * ctx.item, chunk=2)
        .child_workflow("fulfil", "child")
    )
    assert harness.run(work).result() == {
        "checks": {"fraud": 1, "price": 2},
        "lines": [10, 20, 30],
        "fulfil": {"pack": "packed"},
    }


def test_a_run_that_waits_for_a_signal_says_so_instead_of_waiting(
    durable: Durable, harness: Harness
) -> None:
    run = harness.run(durable.workflow("w").wait_for_signal("signoff"))
    with pytest.raises(
        RunStands, match=r"(?s)is suspended\. .*signoff.*harness\.advance"
    ) as stands:
        run.result()
    assert stands.value.diagnosis.reasons[0].code == "signal"
    run.resume("signoff", {"ok": True})
    assert run.result() == {"signoff": {"ok": True}}


async def _result(harness: Harness, run: Any) -> Any:
    return await harness.handle(run).aresult()


def test_a_coroutine_does_not_wait_either(durable: Durable, harness: Harness) -> None:
    async def greet(ctx: Context) -> str:
        return "hello"

    run = durable.workflow("w").step(greet).start()
    assert asyncio.run(_result(harness, run.id)) == {"greet": "hello"}
    stands = durable.workflow("x").wait_for_signal("signoff").start()
    with pytest.raises(RunStands, match="signoff"):
        asyncio.run(_result(harness, stands))


def test_a_run_that_other_code_has_started_is_drained(
    durable: Durable, harness: Harness, log: list[str]
) -> None:
    run = durable.workflow("w").step(noting(log, "a", 7)).start()
    assert log == []
    assert harness.drain() == 1
    assert harness.drain() == 0
    assert harness.handle(run).result() == {"a": 7}


def test_a_failed_unit_is_tried_again_at_once(durable: Durable, harness: Harness) -> None:
    def charge(ctx: Context) -> int:
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return ctx.attempt

    run = harness.run(durable.workflow("w").step(charge, retry=LATER))
    assert run.result() == {"charge": 3}


def test_skipped_backoffs_use_up_the_time_for_which_a_unit_is_tried(
    durable: Durable, harness: Harness
) -> None:
    tried: list[int] = []

    def charge(ctx: Context) -> None:
        tried.append(ctx.attempt)
        raise ValueError("never")

    patient = RetryPolicy(
        max_attempts=100, initial=50.0, backoff="fixed", jitter=False, max_elapsed=125
    )
    with pytest.raises(RunFailed, match="never"):
        harness.run(durable.workflow("w").step(charge, retry=patient)).result()
    assert tried == [1, 2, 3]


def test_backoffs_can_be_left_to_the_test(durable: Durable, log: list[str]) -> None:
    def charge(ctx: Context) -> str:
        log.append(f"try {ctx.attempt}")
        if ctx.attempt == 1:
            raise RetryLater(60, counts=True)
        return "charged"

    with Harness(durable, skip_backoffs=False) as harness:
        run = harness.run(durable.workflow("w").step(charge, retry=LATER))
        harness.advance(59)
        assert log == ["try 1"]
        harness.advance(1)
        assert log == ["try 1", "try 2"]
        assert run.result() == {"charge": "charged"}


def test_a_unit_that_this_process_does_not_know_is_left(world: World, durable: Durable) -> None:
    """As a test leaves it that was aborted, or whose workflow has another name now."""

    def fail(_: Context) -> None:
        raise ValueError("no")

    stranger = world.worker()
    with Harness(stranger, skip_backoffs=False) as harness:
        left = harness.run(stranger.workflow("strange").step(fail, retry=LATER))
    with Harness(durable) as harness:
        run = harness.run(durable.workflow("w").step(lambda _: 1, name="a"))
        assert run.result() == {"a": 1}
    assert left.status().status == "running"


def test_a_loop_between_two_iterations_waits_for_its_time(
    durable: Durable, harness: Harness
) -> None:
    loop = durable.workflow("w").loop("l", lambda _: 1, max_iterations=2, every=1)
    run = harness.run(loop)
    with pytest.raises(RunStands, match="l#1 begins later"):
        run.result()
    harness.advance(1)
    assert run.result() == {"l": 1}


def test_a_sleep_lasts_until_its_time_has_passed(
    durable: Durable, harness: Harness, log: list[str]
) -> None:
    run = harness.run(durable.workflow("w").sleep("cooldown", 3600).step(noting(log, "after")))
    harness.advance(timedelta(minutes=59))
    with pytest.raises(RunStands, match="cooldown"):
        run.result()
    harness.advance(timedelta(minutes=1))
    assert log == ["after"]


def test_what_comes_due_on_the_way_is_executed_in_order(
    durable: Durable, harness: Harness, log: list[str]
) -> None:
    def poll(ctx: Context) -> int:
        log.append(f"poll {ctx.iteration}")
        return ctx.iteration or 0

    slow = durable.workflow("slow").sleep("s", 150).step(noting(log, "slow"))
    polling = durable.workflow("polling").loop("poll", poll, max_iterations=10, every=60)
    harness.run(slow)
    harness.run(polling)
    harness.advance(200)
    assert log == ["poll 0", "poll 1", "poll 2", "slow", "poll 3"]


def test_a_wait_times_out_when_its_time_has_passed(durable: Durable, harness: Harness) -> None:
    work = durable.workflow("w").wait_for_signal(
        "signoff", timeout=timedelta(days=3), on_timeout="continue"
    )
    run = harness.run(work)
    harness.advance(timedelta(days=2))
    assert durable.status(run.id).status == "suspended"
    harness.advance(timedelta(days=1))
    assert run.result() == {"signoff": None}


def test_deadlines_of_runs_strike_when_their_time_has_passed(
    durable: Durable, harness: Harness
) -> None:
    work = durable.workflow("w").wait_for_signal("signoff")
    late = harness.run(work, timeout=60)
    unbegun = harness.run(work, delay=30, expires=60)
    paused = harness.run(work, delay=30, expires=40)
    durable.pause(paused.id)
    harness.advance(61)
    with pytest.raises(RunFailed, match="RunTimeout"):
        late.result()
    assert durable.status(unbegun.id).status == "suspended"
    with pytest.raises(RunCancelled, match="expired"):
        paused.result()


def test_runs_grow_old(durable: Durable, harness: Harness, log: list[str]) -> None:
    run = harness.run(durable.workflow("w").step(noting(log, "a")))
    assert durable.prune(older_than=timedelta(days=30)) == 0
    harness.advance(timedelta(days=31))
    assert durable.status(run.id).created_at < datetime.now(UTC) - timedelta(days=30)
    assert durable.prune(older_than=timedelta(days=30)) == 1


def test_a_rollback_is_executed_too(durable: Durable, harness: Harness, log: list[str]) -> None:
    def charge(ctx: Context) -> None:
        raise GiveUp("no money")

    reserve = durable.step(noting(log, "reserve"), name="reserve")
    reserve.compensate(noting(log, "release"))
    with pytest.raises(RunFailed, match="no money"):
        harness.run(durable.workflow("w").step(reserve).step(charge)).result()
    assert log == ["reserve", "release"]


def test_a_run_is_cancelled_and_tried_again(
    durable: Durable, harness: Harness, log: list[str]
) -> None:
    work = durable.workflow("w").step(noting(log, "a")).wait_for_signal("go")
    run = harness.run(work)
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result()
    again = run.retry()
    again.resume("go", 1)
    assert again.result() == {"a": None, "go": 1}
    assert log == ["a"]


def test_each_unit_is_shown_before_the_next_begins(
    durable: Durable, harness: Harness, log: list[str]
) -> None:
    def ask(ctx: Context) -> Any:
        return ctx.resume_data if ctx.is_resumed else Suspend()

    def charge(ctx: Context) -> None:
        log.append("charge")
        if ctx.attempt == 1:
            raise ValueError("declined")

    work = durable.workflow("w").step(noting(log, "reserve")).step(charge, retry=LATER).step(ask)
    seen = []
    for one in harness.step_by_step(work):
        seen.append((str(one), len(log), one.error.message if one.error else None))
    assert seen == [
        ("w: reserve completed", 1, None),
        ("w: charge retrying", 2, "declined"),
        ("w: charge completed", 3, None),
        ("w: ask waiting", 3, None),
    ]
    one.run.resume("ask", "yes")
    assert one.run.result()["ask"] == "yes"


def test_who_stops_stepping_leaves_the_rest_to_be_drained(
    durable: Durable, harness: Harness, log: list[str]
) -> None:
    work = durable.workflow("w").step(noting(log, "a")).step(noting(log, "b"))
    assert next(harness.step_by_step(work)).unit == "a"
    assert log == ["a"]
    harness.drain()
    assert log == ["a", "b"]


def test_an_assertion_in_a_handler_that_ends_the_test_ends_it(
    durable: Durable, harness: Harness
) -> None:
    class Outcome(BaseException):
        """As pytest's own, of `pytest.fail`."""

    def fails(ctx: Context) -> None:
        if ctx.attempt == 1 and not came:
            came.append(1)
            raise Outcome

    came: list[int] = []
    work = durable.workflow("w").step(fails)
    with pytest.raises(Outcome):
        harness.run(work)
    assert harness.drain() == 1, "the unit is free again"


def test_a_handler_that_ends_the_test_does_not_end_the_next_one(
    durable: Durable, harness: Harness, log: list[str]
) -> None:
    """Ctrl-C in a handler, each time: the run is left, and others are executed."""

    def interrupted(_: Context) -> None:
        log.append("interrupted")
        raise KeyboardInterrupt

    broken = durable.workflow("broken").step(interrupted)
    work = durable.workflow("w").step(noting(log, "a"))
    with pytest.raises(KeyboardInterrupt):
        harness.run(broken)
    assert harness.run(work).status().status == "completed"
    harness.advance(3600)
    assert [str(one) for one in harness.step_by_step(work)] == ["w: a completed"]
    assert log == ["interrupted", "a", "a"]
    with pytest.raises(KeyboardInterrupt):
        harness.drain()


def test_a_harness_that_is_closed_says_so(durable: Durable) -> None:
    work = durable.workflow("w").step(lambda _: 1, name="a")
    with Harness(durable) as harness:
        harness.run(work)
    for call in (lambda: harness.run(work), harness.drain, lambda: harness.advance(1)):
        with pytest.raises(ConfigurationError, match="This harness is closed"):
            call()
    assert len(durable.list()) == 1


def test_no_more_time_passes_than_there_are_dates_for(durable: Durable, harness: Harness) -> None:
    durable.workflow("w").wait_for_signal("s", "go")
    run = harness.run("w")
    with pytest.raises(ConfigurationError, match="hundred years"):
        harness.advance(timedelta(days=365 * 3000))
    for _ in range(10):
        harness.advance(timedelta(days=36_500))
    with pytest.raises(ConfigurationError, match="1000 years pass in all, and not"):
        harness.advance(timedelta(days=36_500))
    assert run.status().status == "suspended"


def test_ordinary_tasks_stay_in_the_outbox(durable: Durable, harness: Harness) -> None:
    @durable.app.task(name="mail", shared=False)
    def mail(run_id: str, to: str) -> None: ...

    work = durable.workflow("w", on_completed=mail.s("ops")).step(lambda _: 1, name="a")
    run = harness.run(work)
    (sent,) = harness.sent()
    assert (sent.task, sent.args) == ("mail", [str(run.id), "ops"])


def test_a_live_worker_is_refused(world: World, durable: Durable) -> None:
    other = world.worker()
    other.liveness.worker_id()
    with pytest.raises(ConfigurationError, match=r"worker is alive.*database of their own"):
        Harness(durable).drain()
    other.liveness.leave()
    assert Harness(durable).drain() == 0


def test_the_row_of_the_test_ends_with_the_harness(world: World, durable: Durable) -> None:
    with Harness(durable) as harness:
        harness.run(durable.workflow("w").step(lambda _: 1, name="a"))
    (row,) = world.rows("SELECT ended_at, pool FROM durable_worker")
    assert row["ended_at"] is not None
    assert row["pool"] == "test"


def test_a_run_that_would_join_a_transaction_is_refused(
    world: World, durable: Durable, harness: Harness
) -> None:
    work = durable.workflow("w").step(lambda _: 1, name="a")
    engine = sa.create_engine(world.url)
    with engine.begin() as connection, durable.joining(connection):
        for start in (harness.run, harness.step_by_step, harness.crash_everywhere):
            with pytest.raises(ConfigurationError, match=r"would join.*then call drain\(\)"):
                start(work)
        run = work.start()
    engine.dispose()
    assert harness.drain() == 1
    assert [one.run_id for one in durable.list()] == [run.id]


def test_what_is_no_durable_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes a Durable, not 'shop'"):
        Harness("shop")  # type: ignore[arg-type]

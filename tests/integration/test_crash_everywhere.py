"""A run is repeated with a death at every commit, and what that changes is found."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from celery_durable import ConfigurationError, Context, Durable, GiveUp, RetryPolicy, Run
from celery_durable.testing import Harness, RunStands
from celery_durable.testing.courier import Courier
from tests.integration.driving import World, noting
from tests.waiting import wait_until


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker()


@pytest.fixture
def harness(durable: Durable) -> Iterator[Harness]:
    with Harness(durable) as harness:
        yield harness


class Bank:
    """A payment provider that takes idempotency keys, and gives each payment a number."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._by_key: dict[str, int] = {}
        self.paid: Counter[str] = Counter()

    def pay(self, ctx: Context, key: str) -> dict[str, Any]:
        if key not in self._by_key:
            self._by_key[key] = next(self._numbers)
            self.paid[str(ctx.run_id)] += 1
        return {"payment": self._by_key[key], "key": ctx.idempotency_key}


def test_handlers_that_can_be_called_again_are_found_to_be_so(
    durable: Durable, harness: Harness
) -> None:
    bank = Bank()
    work = (
        durable.workflow("order")
        .step(noting([], "reserve", 1))
        .step(lambda ctx: bank.pay(ctx, ctx.idempotency_key), name="charge")
    )
    report = harness.crash_everywhere(work, check=lambda run: bank.paid[str(run.id)])
    assert report.ok
    assert report.crashes == 4
    assert str(report) == (
        "order: a worker died 4 times, before and after each commit, and that made no difference."
    )
    report.raise_if_found()


def test_a_second_call_that_returns_something_else_is_found(
    durable: Durable, harness: Harness
) -> None:
    bank, keys = Bank(), count()
    work = (
        durable.workflow("order")
        .step(noting([], "reserve", 1))
        .step(lambda ctx: bank.pay(ctx, str(next(keys)))["payment"], name="charge")
    )
    report = harness.crash_everywhere(work)
    (found,) = report.findings
    assert (found.unit, found.moment, found.commit, found.what) == ("charge", "before", 2, "result")
    assert int(found.found) == int(found.expected) + 1
    with pytest.raises(AssertionError, match=r"(?s)charge is not repeatable: .*idempotency_key"):
        report.raise_if_found()


def test_an_effect_that_happens_twice_is_found(durable: Durable, harness: Harness) -> None:
    mails: Counter[str] = Counter()

    def notify(ctx: Context) -> None:
        mails[str(ctx.run_id)] += 1

    def sent(run: Run) -> int:
        return mails[str(run.id)]

    work = durable.workflow("order").step(notify).step(noting([], "close"))
    report = harness.crash_everywhere(work, check=sent)
    (found,) = report.findings
    assert str(found) == (
        "notify is not repeatable: its worker died before its commit, and check() returned 2"
        " instead of 1."
    )
    assert "of 4 deaths of a worker, 1 made a difference" in str(report)


def test_a_handler_that_fails_the_second_time_is_found(durable: Durable, harness: Harness) -> None:
    done: set[str] = set()

    def open_account(ctx: Context) -> str:
        if str(ctx.run_id) in done:
            raise GiveUp("there is one already")
        done.add(str(ctx.run_id))
        return "opened"

    report = harness.crash_everywhere(durable.workflow("w").step(open_account))
    (found,) = report.findings
    assert (found.unit, found.what) == ("open_account", "outcome")
    assert "open_account failed with GiveUp: there is one already instead of" in str(found)


def test_a_transactional_step_is_repeatable(
    world: World, durable: Durable, harness: Harness
) -> None:
    def book(ctx: Context) -> None:
        ctx.session.connection().exec_driver_sql("INSERT INTO booked VALUES (%s)", (ctx.run_id,))

    def booked(run: Run) -> int:
        return int(world.one("SELECT count(*) FROM booked WHERE run_id = %s", run.id))

    world.rows("CREATE TABLE booked (run_id uuid)")
    work = durable.workflow("w").step(book, transactional=True)
    report = harness.crash_everywhere(work, check=booked)
    report.raise_if_found()
    assert report.crashes == 2


def test_every_kind_of_node_is_crashed(durable: Durable, harness: Harness) -> None:
    def fail_once(ctx: Context) -> int:
        if ctx.attempt == 1:
            raise ValueError("not yet")
        return ctx.attempt

    durable.workflow("child").step(noting([], "pack", "packed"))
    reserve = durable.step(noting([], "reserve"), name="reserve")
    reserve.compensate(noting([], "release"))
    work = (
        durable.workflow("w")
        .step(reserve)
        .parallel("checks", {"fraud": noting([], "fraud"), "price": noting([], "price")})
        .map("lines", over=lambda _: [1, 2], handler=lambda ctx: ctx.item)
        .loop("poll", lambda ctx: ctx.iteration, max_iterations=2, every=60)
        .sleep("cooldown", timedelta(days=1))
        .wait_for_signal("signoff", timeout=timedelta(days=3))
        .child_workflow("fulfil", "child")
        .step(fail_once, retry=RetryPolicy(initial=60))
        .step(noting([], "last"))
    )
    report = harness.crash_everywhere(work, signals={"signoff": {"ok": True}})
    report.raise_if_found()
    assert report.crashes > 30


def test_a_rollback_is_crashed_too(durable: Durable, harness: Harness) -> None:
    released: Counter[str] = Counter()

    def release(ctx: Context) -> None:
        released[str(ctx.run_id)] += 1

    def fail(ctx: Context) -> None:
        raise GiveUp("no money")

    reserve = durable.step(noting([], "reserve"), name="reserve", compensate=release)
    work = durable.workflow("w").step(reserve).step(fail)
    report = harness.crash_everywhere(work, check=lambda run: released[str(run.id)])
    assert {one.unit for one in report.findings} == {"reserve#compensate"}


def test_what_differs_from_run_to_run_is_not_compared(durable: Durable, harness: Harness) -> None:
    numbers: dict[str, int] = {}

    def number(ctx: Context) -> int:
        return numbers.setdefault(ctx.idempotency_key, len(numbers))

    assert harness.crash_everywhere(durable.workflow("w").step(number)).ok


def test_a_signal_that_nothing_takes_is_refused(durable: Durable, harness: Harness) -> None:
    work = durable.workflow("w").wait_for_signal("s", "go").step(lambda _: 1, name="a")
    assert harness.crash_everywhere(work, signals={"go": 1}).ok
    with pytest.raises(ConfigurationError, match="nothing in it has taken 'nope'"):
        harness.crash_everywhere(work, signals={"go": 1, "nope": 1})
    for odd in ([1], "go", {1: 2}):
        with pytest.raises(ConfigurationError, match="signals= takes a mapping"):
            harness.crash_everywhere(work, signals=odd)  # type: ignore[arg-type]


def test_a_check_that_sees_other_runs_is_refused(durable: Durable, harness: Harness) -> None:
    log: list[str] = []
    work = durable.workflow("w").step(noting(log, "a"))
    with pytest.raises(ConfigurationError, match=r"returned 1, and after a second run.* 2\. It"):
        harness.crash_everywhere(work, check=lambda _: len(log))


def test_a_run_that_does_not_end_says_why(durable: Durable, harness: Harness) -> None:
    work = durable.workflow("w").wait_for_signal("signoff")
    with pytest.raises(RunStands, match="signoff"):
        harness.crash_everywhere(work)


@pytest.mark.parametrize("what", ["sleep", "timeout"])
def test_a_time_that_comes_between_two_looks_moves_a_run_on(
    world: World,
    durable: Durable,
    harness: Harness,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """Nothing was due a moment ago, and nothing will be."""
    looks = Courier.seconds_to_next
    late = "SELECT count(*) AS late FROM durable_run WHERE finished_at IS NULL"
    late += " AND clock_timestamp() < created_at + interval '0.3 seconds'"

    def look_late(courier: Courier) -> float | None:
        wait_until(lambda: world.one(late) == 0, message="the time to come")
        return looks(courier)

    monkeypatch.setattr(Courier, "seconds_to_next", look_late)
    if what == "sleep":
        work = durable.workflow("w").sleep("nap", 0.2)
    else:
        work = durable.workflow("w", timeout=0.2).wait_for_signal("go")
    assert harness.crash_everywhere(work).ok


def test_a_death_is_counted_and_taken_over_as_that_of_a_worker(
    world: World, durable: Durable, harness: Harness
) -> None:
    """What is simulated is what `kill -9` leaves: a claim, and a worker that has ended."""
    seen: list[tuple[int, int]] = []

    def look(ctx: Context) -> None:
        query = "SELECT (SELECT sum(crashes) FROM durable_token) AS crashes, count(*) AS ended"
        (row,) = world.rows(f"{query} FROM durable_worker WHERE ended_at IS NOT NULL")
        seen.append((row["crashes"], row["ended"]))

    harness.crash_everywhere(durable.workflow("w").step(look))
    assert seen == [(0, 0), (0, 0), (0, 0), (1, 1), (0, 1)]

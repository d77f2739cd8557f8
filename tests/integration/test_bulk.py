"""One action on all runs of a filter: which are taken, and what becomes of them."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from celery_durable import BulkResult, Durable, RetryPolicy, Run
from celery_durable.bulk import actions
from celery_durable.errors import ConfigurationError, NotSerializable
from celery_durable.store.connection import Statement
from tests.integration.driving import ONCE, World, all_at_once, spawn, warnings
from tests.integration.hearing import hearing
from tests.integration.pruned import Past
from tests.waiting import wait_until

LATER = RetryPolicy(max_attempts=3, backoff="fixed", initial=3600, jitter=False)


class Shop:
    """Workflows `order` and `parcel`: `reserve`, then `charge`, which fails until it is mended.

    Then both wait for the signal `go`. What was called is in `log`.
    """

    def __init__(self, retry: RetryPolicy = ONCE, *, undo_fails: bool = False) -> None:
        self.is_mended = False
        self.undo_fails = undo_fails
        self.log: list[Any] = []
        self._retry = retry

    def define(self, durable: Durable) -> None:
        reserve = durable.step(lambda _: self.log.append("reserve"), name="reserve")
        reserve.compensate(self._undo, retry=ONCE)
        for name in ("order", "parcel"):
            workflow = durable.workflow(name).step(reserve)
            workflow.step(self._charge, name="charge", retry=self._retry).wait_for_signal("go")

    def _charge(self, _: Any) -> None:
        self.log.append("charge")
        if not self.is_mended:
            raise ValueError("no money")

    def _undo(self, _: Any) -> None:
        self.log.append("undo")
        if self.undo_fails:
            raise ValueError("cannot be undone")


def started(world: World, shop: Shop, orders: int = 3, parcels: int = 2) -> tuple[Durable, Any]:
    """A worker that has gone as far as it can with so many runs of each."""
    worker = world.worker(shop.define)
    runs = [worker.start("order", {}, key=f"o{n}") for n in range(orders)]
    runs += [worker.start("parcel", {}, key=f"p{n}") for n in range(parcels)]
    world.drain(worker)
    return worker, runs


def mended() -> Shop:
    """A shop whose runs get as far as the signal."""
    shop = Shop()
    shop.is_mended = True
    return shop


def statuses(runs: list[Run]) -> list[str]:
    return [run.status().status.value for run in runs]


def done(n: int) -> BulkResult:
    return BulkResult(matched=n, done=n)


@pytest.fixture
def pages_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in actions.ACTIONS.values():
        monkeypatch.setattr(kind, "limit", 2)
    for name in ("FEWEST", "PAGE"):
        monkeypatch.setattr(actions, name, 2)


# Each action.


def test_the_runs_of_a_filter_are_paused_and_unpaused(world: World, pages_of_two: None) -> None:
    worker, runs = started(world, mended(), orders=5)
    runs[0].pause(reason="by hand")
    worker.pause(step="charge")
    assert worker.bulk("pause", workflow="order", reason="an incident") == done(4)
    assert worker.bulk("pause", workflow="order") == done(0)
    assert statuses(runs) == ["paused"] * 5 + ["suspended"] * 2
    assert {one.reason for one in worker.pauses()} == {"by hand", "an incident", None}
    for run in runs:
        run.resume("go")
    world.drain(worker)
    assert worker.bulk("unpause", status="paused") == done(5)
    world.drain(worker)
    assert statuses(runs) == ["completed"] * 7, "what had come meanwhile goes on"
    (left,) = worker.pauses()
    assert left.pause.step == "charge"


def test_the_pause_of_one_step_is_not_that_of_the_run(world: World) -> None:
    worker, (run,) = started(world, mended(), orders=1, parcels=0)
    run.pause(step="go")
    assert worker.bulk("unpause", workflow="order") == done(0)
    assert worker.bulk("pause", workflow="order") == done(1)
    assert len(worker.pauses()) == 2


def test_the_runs_of_a_filter_are_cancelled(world: World, pages_of_two: None) -> None:
    worker, runs = started(world, mended(), orders=5)
    runs[1].cancel()
    with hearing("run_cancelled") as heard:
        assert worker.bulk("cancel", workflow="order", reason="closed") == done(4)
    assert statuses(runs) == ["cancelled"] * 5 + ["suspended"] * 2
    assert sorted(one["run_id"] for one in heard.of("run_cancelled")) == sorted(
        run.id for run in runs[:5] if run != runs[1]
    )
    error = runs[0].status().error
    assert error is not None
    assert error.message == "closed"
    assert worker.bulk("cancel", workflow="order") == done(0)
    counts = world.counts()
    assert (counts["token"], counts["inbox"]) == (2, 0)


def test_a_cancel_of_many_compensates(world: World) -> None:
    shop = mended()
    worker, runs = started(world, shop)
    assert worker.bulk("cancel", workflow="order", compensate=True) == done(3)
    again = worker.bulk("cancel", workflow="order", compensate=True)
    assert again == done(0), "they were asked already"
    world.drain(worker)
    assert statuses(runs) == ["cancelled"] * 3 + ["suspended"] * 2
    assert shop.log.count("undo") == 3


def test_failed_runs_are_tried_again(world: World, pages_of_two: None) -> None:
    shop = Shop()
    worker, runs = started(world, shop, orders=5)
    shop.is_mended = True
    shop.log.clear()
    with hearing("run_started") as heard:
        assert worker.bulk("retry", workflow="order", from_step="charge").done == 0, (
            "`reserve` was compensated: each is refused"
        )
        assert worker.bulk("retry", workflow="order") == done(5)
    assert len(heard) == 5
    world.drain(worker)
    assert shop.log.count("reserve") == shop.log.count("charge") == 5
    assert statuses(runs) == ["failed"] * 7, "the old ones stay"
    for n in range(5):
        new = worker.run(workflow="order", key=f"o{n}")
        assert new.status().forked_from == runs[n].id
    assert worker.bulk("retry", workflow="order") == done(0)


def test_of_a_run_that_was_tried_again_the_last_try_is(world: World) -> None:
    """Else what it does would be done twice."""
    shop = Shop()
    worker, (first,) = started(world, shop, orders=1, parcels=0)
    second = first.retry()
    world.drain(worker)
    assert statuses([first, second]) == ["failed", "failed"]
    assert worker.bulk("retry", everything=True) == done(1)
    third = worker.run(workflow="order", key="o0")
    assert third.status().forked_from == second.id


def test_a_child_is_left_to_the_retry_of_its_parent(world: World) -> None:
    def fails(_: Any) -> None:
        raise ValueError

    def define(durable: Durable) -> None:
        child = durable.workflow("child").step(fails, retry=ONCE)
        durable.workflow("w").child_workflow("c", child)

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    (child,) = worker.list(workflow="child")
    assert worker.bulk("retry", workflow="child") == done(0)
    found = worker.bulk("retry", parent=run.id)
    assert (found.matched, found.done) == (1, 0)
    assert [*found.refused] == ["Run … is a child of run …, which undoes it; retry that one."]
    assert [*found.examples.values()] == [(child.run_id,)]
    assert worker.bulk("retry", error="ChildFailed") == done(1)


def test_only_failed_runs_are_tried_again_unless_the_status_is_named(world: World) -> None:
    worker, runs = started(world, mended())
    runs[0].cancel()
    assert worker.bulk("retry", workflow="order") == done(0)
    assert worker.bulk("retry", workflow="order", status="cancelled") == done(1)


def test_units_between_tries_are_tried_now(world: World, pages_of_two: None) -> None:
    shop = Shop(LATER)
    worker, runs = started(world, shop)
    shop.is_mended = True
    assert worker.bulk("retry_now", workflow="order", error="ValueError: no money") == done(3)
    world.drain(worker)
    assert statuses(runs) == ["suspended"] * 3 + ["running"] * 2
    assert worker.bulk("retry_now", everything=True) == done(2)
    assert worker.bulk("retry_now", everything=True) == done(0)


def test_units_that_are_paused_after_their_tries_have_one_more(world: World) -> None:
    shop = Shop(RetryPolicy(max_attempts=1, on_exhausted="pause"))
    worker, runs = started(world, shop)
    shop.is_mended = True
    assert worker.bulk("retry_now", status="paused") == done(5)
    world.drain(worker)
    assert statuses(runs) == ["suspended"] * 5


def test_a_signal_reaches_each_run_once(world: World, pages_of_two: None) -> None:
    worker, runs = started(world, mended())
    sent: dict[str, Any] = {"signal": "go", "data": {"by": "ann"}, "key": "incident-7"}
    runs[1].resume("go", {"by": "bob"}, key="incident-7")
    assert worker.bulk("resume", workflow="order", **sent) == done(2)
    assert worker.bulk("resume", workflow="order", **sent) == done(0)
    world.drain(worker)
    assert statuses(runs) == ["completed"] * 3 + ["suspended"] * 2
    assert [run.result(timeout=5)["go"]["by"] for run in runs[:3]] == ["ann", "bob", "ann"]


def test_a_signal_comes_before_the_runs_wait_for_it(world: World) -> None:
    shop = mended()
    worker = world.worker(shop.define)
    run = worker.start("order", {})
    assert worker.bulk("resume", workflow="order", signal="go") == done(1)
    world.drain(worker)
    assert world.status(run) == "completed"


def test_branches_that_wait_for_a_signal_get_their_hints(world: World) -> None:
    def define(durable: Durable) -> None:
        asks = durable.step(name="asks", suspends=True)(asking)
        durable.workflow("w").parallel("p", {"x": asks, "y": asks})

    def asking(ctx: Any) -> Any:
        return "answered" if ctx.resume_data else {"status": "suspended"}

    worker = world.worker(define)
    runs = [worker.start("w") for _ in range(3)]
    world.drain(worker)
    for branch in ("p#x", "p#y"):
        assert worker.bulk("resume", workflow="w", signal=branch, data=1) == done(3)
    world.drain(worker)
    assert [world.status(run) for run in runs] == ["completed"] * 3


def test_a_signal_that_no_node_waits_for_is_warned_of_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    worker, _ = started(world, mended())
    with caplog.at_level(logging.WARNING):
        assert worker.bulk("resume", workflow="order", signal="og") == done(3)
    (warning,) = warnings(caplog)
    assert "no node of 'order' version 1 waits for the signal 'og'" in warning


def test_failed_compensations_are_tried_again(world: World, pages_of_two: None) -> None:
    shop = Shop(undo_fails=True)
    worker, runs = started(world, shop)
    shop.undo_fails = False
    shop.log.clear()
    assert worker.bulk("retry_compensation", workflow="order") == done(3)
    world.drain(worker)
    assert shop.log == ["undo"] * 3
    assert statuses(runs) == ["failed"] * 5
    assert worker.bulk("retry_compensation", workflow="order") == done(0)
    assert worker.bulk("retry_compensation", everything=True) == done(2)


def test_runs_that_ended_long_ago_are_deleted(world: World, pages_of_two: None) -> None:
    past, worker = Past(world), world.worker()
    past.runs(3, parent=past.run(workflow="order"), workflow="parcel")
    past.runs(5, workflow="order", status="failed")
    young, other = past.run(workflow="order", days=1), past.run(workflow="parcel")
    assert worker.bulk("prune", workflow="order", older_than=timedelta(days=2)) == done(6)
    assert past.left() == {young, other}
    assert worker.bulk("prune", workflow="order") == done(0), "by durable_retention"


def test_a_run_goes_after_the_runs_that_were_forked_from_it(
    world: World, pages_of_two: None
) -> None:
    """On its page, or on one before: the newest go first."""
    worker, (run,) = started(world, Shop(), orders=1, parcels=0)
    for _ in range(4):
        run = run.retry()
        world.drain(worker)
    assert worker.bulk("prune", workflow="order", older_than=0) == done(5)
    assert world.counts("worker", "definition")["run"] == 0


def test_a_run_that_is_needed_is_not_deleted(world: World) -> None:
    past, worker = Past(world), world.worker()
    run = past.run(workflow="order")
    child = past.run(parent=run, days=None)
    found = worker.bulk("prune", workflow="order", older_than=0)
    assert (found.matched, found.done, found.unchanged) == (1, 0, 0)
    ((reason, n),) = found.refused.items()
    assert n == 1
    assert "a run below it is unfinished" in reason
    assert past.left() == {run, child}


# What is not done.


def test_a_dry_run_does_nothing(world: World) -> None:
    worker, runs = started(world, mended())
    before = world.counts()
    for action, options in (
        ("cancel", {}),
        ("pause", {}),
        ("resume", {"signal": "go"}),
    ):
        call: Any = worker.bulk
        found = call(action, workflow="order", dry_run=True, **options)
        assert found == BulkResult(matched=3)
    assert world.counts() == before
    assert statuses(runs) == ["suspended"] * 5


def test_what_is_refused_is_counted_by_reason_and_spoils_nothing(
    world: World, pages_of_two: None
) -> None:
    shop = Shop(undo_fails=True)
    worker, runs = started(world, shop, orders=5, parcels=0)
    shop.undo_fails, shop.is_mended = False, True
    runs[2].retry_compensation()
    world.drain(worker)
    found = worker.bulk("retry", workflow="order")
    assert (found.matched, found.done, found.unchanged) == (5, 1, 0)
    ((reason, n),) = found.refused.items()
    assert reason.startswith("The compensation of reserve of run … has failed")
    assert n == 4
    assert found.examples[reason] == (runs[0].id, runs[1].id, runs[3].id)
    assert worker.run(workflow="order", key="o2").status().forked_from == runs[2].id


@pytest.mark.parametrize(
    ("action", "options", "message"),
    [
        ("cancle", {"workflow": "w"}, "action= takes one of 'cancel'"),
        ("cancel", {}, "cancel without a filter is for all runs"),
        ("cancel", {"workflow": None, "tags": {}}, "without a filter"),
        ("cancel", {"workflow": "w", "everything": True}, "leave out the filters"),
        ("cancel", {"workflow": "w", "from_step": "a"}, "from_step= is no option of cancel"),
        ("cancel", {"workflow": "w", "signal": "go"}, "signal= is no option of cancel"),
        ("cancel", {"status": "completed"}, "cancel is nothing for runs that are completed"),
        ("retry", {"status": "running"}, "it is for completed, failed, cancelled"),
        ("retry_compensation", {"status": "cancelled"}, "it is for failed"),
        ("resume", {"workflow": "w"}, "signal= takes a string"),
        ("pause", {"workflow": "w", "reason": ""}, "reason= takes"),
        ("prune", {"workflow": "w", "older_than": -1}, "older_than= takes"),
        ("prune", {"status": "running"}, "status= takes the status of runs that have ended"),
        ("pause", {"status": "tired"}, "No run is ever 'tired'"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    world: World, action: Any, options: dict[str, Any], message: str
) -> None:
    """P12"""
    worker, runs = started(world, mended(), orders=1, parcels=0)
    with pytest.raises(ConfigurationError, match=message):
        worker.bulk(action, **options)
    assert statuses(runs) == ["suspended"]


def test_data_that_cannot_be_stored_is_refused_before_anything_is_sent(world: World) -> None:
    """P12"""
    worker, _ = started(world, mended())
    with pytest.raises(NotSerializable):
        worker.bulk("resume", workflow="order", signal="go", data=object())
    assert world.counts()["inbox"] == 0


# Many, interrupted, and at once.


class Interrupted(Exception):
    """Somebody has stopped it."""


def after(pages: int) -> Callable[[BulkResult], None]:
    """A listener to the progress that stops it after so many pages."""
    left = itertools.count(pages - 1, -1)

    def stop(_: BulkResult) -> None:
        if next(left) == 0:
            raise Interrupted

    return stop


Prepare = Callable[[World], tuple[Durable, Any]]


def _waiting(world: World) -> tuple[Durable, Any]:
    return started(world, mended(), orders=7)


def _failed(world: World) -> tuple[Durable, Any]:
    return started(world, Shop(), orders=7)


def _between_tries(world: World) -> tuple[Durable, Any]:
    return started(world, Shop(LATER), orders=7)


def _not_undone(world: World) -> tuple[Durable, Any]:
    return started(world, Shop(undo_fails=True), orders=7)


def _paused(world: World) -> tuple[Durable, Any]:
    worker, runs = _waiting(world)
    worker.bulk("pause", everything=True)
    return worker, runs


EACH: dict[str, tuple[Prepare, dict[str, Any]]] = {
    "cancel": (_waiting, {}),
    "retry": (_failed, {}),
    "retry_now": (_between_tries, {}),
    "resume": (_waiting, {"signal": "go", "key": "k"}),
    "pause": (_waiting, {}),
    "unpause": (_paused, {}),
    "retry_compensation": (_not_undone, {}),
    "prune": (_failed, {"older_than": 0}),
}
"""Seven runs of `order` that an action can be done to, and its options."""


@pytest.mark.parametrize("action", EACH)
def test_an_action_that_was_interrupted_goes_on_where_it_was(
    world: World, pages_of_two: None, action: Any
) -> None:
    prepare, options = EACH[action]
    worker, _ = prepare(world)
    with pytest.raises(Interrupted):
        worker.bulk(action, workflow="order", on_progress=after(2), **options)
    seen: list[BulkResult] = []
    found = worker.bulk(action, workflow="order", on_progress=seen.append, **options)
    assert found == done(3)
    assert [one.matched for one in seen] == [2, 3]
    assert worker.bulk(action, workflow="order", **options) == done(0)


@pytest.mark.parametrize("action", EACH)
def test_two_at_once_do_it_once_to_each_run(world: World, pages_of_two: None, action: Any) -> None:
    prepare, options = EACH[action]
    worker, runs = prepare(world)
    other = world.worker()

    def by(durable: Durable) -> Callable[[], BulkResult]:
        return lambda: durable.bulk(action, workflow="order", **options)

    found = all_at_once([by(worker), by(other)])
    assert sum(one.done for one in found) >= 7
    if action in ("retry", "resume", "pause", "unpause", "retry_compensation"):
        assert sum(one.done for one in found) == 7
    if action == "retry":
        assert len(worker.list(workflow="order")) == 14
    assert worker.bulk(action, workflow="order", **options) == done(0)
    assert len(worker.list(workflow="parcel")) == len(runs) - 7


def test_runs_that_are_started_meanwhile_are_left_alone(world: World, pages_of_two: None) -> None:
    worker, _ = started(world, mended())
    new: list[Run] = []

    def start(_: BulkResult) -> None:
        new.append(worker.start("order", {}))

    assert worker.bulk("pause", workflow="order", on_progress=start) == done(3)
    world.drain(worker)
    assert statuses(new) == ["suspended", "suspended"]


def test_the_oldest_runs_come_first(world: World, pages_of_two: None) -> None:
    worker, runs = started(world, mended(), orders=4, parcels=0)
    with pytest.raises(Interrupted):
        worker.bulk("pause", workflow="order", on_progress=after(1))
    assert statuses(runs) == ["paused", "paused", "suspended", "suspended"]


@pytest.mark.parametrize("action", ["retry", "retry_now", "retry_compensation"])
def test_a_run_that_somebody_has_locked_keeps_no_other_waiting(world: World, action: Any) -> None:
    """Those that are not locked are done and committed; then it waits for the one."""
    prepare, options = EACH[action]
    worker, runs = prepare(world)
    with world.connect() as blocker, blocker.transaction():
        for table, column in (("run", "id"), ("token", "run_id")):
            blocker.execute(
                f"SELECT 1 FROM durable_{table} WHERE {column} = %s FOR UPDATE".encode(),
                [runs[3].id],
            )
        going = spawn(lambda: worker.bulk(action, workflow="order", **options))
        wait_until(
            lambda: worker.bulk(action, workflow="order", dry_run=True, **options).matched == 1,
            message="all but the locked one to be done",
        )
        wait_until(lambda: world.waiting_for_locks() == 1, message="it to wait for the lock")
    assert going.result(30) == done(7)


@pytest.mark.parametrize("action", ["pause", "resume", "retry_compensation"])
def test_a_page_that_postgres_cannot_do_is_done_run_by_run(world: World, action: Any) -> None:
    """As where two transactions have waited for each other: one of them has to begin anew."""
    prepare, options = EACH[action]
    worker, runs = prepare(world)
    table = {"pause": "pause", "resume": "inbox", "retry_compensation": "token"}[action]
    world.trigger(
        f"BEFORE INSERT ON durable_{table}",
        "RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01';",
        when=f"NEW.run_id = '{runs[3].id}'",
    )
    found = worker.bulk(action, workflow="order", **options)
    assert (found.matched, found.done) == (7, 6)
    ((reason, n),) = found.refused.items()
    assert n == 1
    assert "deadlock detected" in reason
    world.drop_trigger(f"durable_{table}")
    assert worker.bulk(action, workflow="order", **options) == done(1)


LARGE = 2000


def test_thousands_of_runs_take_few_statements(world: World, statements: list[Statement]) -> None:
    """Two thousand runs, and fewer statements than a tenth of that, whatever is done."""
    shop = mended()
    worker = world.worker(shop.define)
    worker.start_many("order", [{}] * LARGE)

    def took(call: Callable[[], BulkResult]) -> int:
        statements.clear()
        assert call() == done(LARGE)
        return len(statements)

    def failed() -> None:
        """Each run has failed at `charge`, and so has the compensation of `reserve`."""
        world.rows("DELETE FROM durable_token")
        world.rows("DELETE FROM durable_outbox")
        world.rows("UPDATE durable_run SET status = 'failed', finished_at = now(), error = '{}'")

    taken = {
        "pause": took(lambda: worker.bulk("pause", workflow="order")),
        "unpause": took(lambda: worker.bulk("unpause", workflow="order")),
        "resume": took(lambda: worker.bulk("resume", workflow="order", signal="go", key="k")),
    }
    world.rows("UPDATE durable_token SET failures = '[]', wake_at = now() + interval '1 hour'")
    taken["retry_now"] = took(lambda: worker.bulk("retry_now", workflow="order"))
    failed()
    world.rows(
        "INSERT INTO durable_journal (run_id, unit, node, outcome, undoable, attempt, error,"
        " started_at) SELECT id, 'reserve#compensate', 'reserve', 'failed', false, 1, '{}', now()"
        " FROM durable_run"
    )
    taken["retry_compensation"] = took(lambda: worker.bulk("retry_compensation", workflow="order"))
    failed()
    taken["retry"] = took(lambda: worker.bulk("retry", workflow="order"))
    taken["cancel"] = took(lambda: worker.bulk("cancel", status="running"))
    assert {action: n for action, n in taken.items() if n > LARGE / 10} == {}


def test_it_has_a_twin_for_async_code(world: World) -> None:
    worker, runs = started(world, mended())
    assert asyncio.run(worker.abulk("pause", workflow="order")) == done(3)
    assert statuses(runs) == ["paused"] * 3 + ["suspended"] * 2


def test_each_filter_of_a_list_is_one(world: World) -> None:
    worker, runs = started(world, Shop())
    mine = worker.start("order", {}, tags={"shop": "north"})
    world.drain(worker)
    at = {one.run_id: one.created_at for one in worker.list()}

    def found(**filters: Any) -> int:
        return worker.bulk("retry", dry_run=True, **filters).matched

    assert found(status="failed") == found(everything=True) == 6
    assert found(workflow="parcel") == 2
    assert found(tags={"shop": "north"}) == 1
    assert found(run_key="o1") == 1
    assert found(since=at[mine.id]) == 1
    assert found(until=at[runs[1].id]) == 1
    assert found(error="ValueError: no money") == 6
    assert found(error="TypeError") == 0
    assert found(compensation_failed=True) == 0
    assert found(compensation_failed=False) == 6
    assert found(parent=UUID(int=1)) == 0

"""Bundles: several tokens of one message share their claim and their commits."""

from __future__ import annotations

import threading
import time
from typing import Any
from uuid import UUID, uuid4

import pytest

from celery_durable import Durable, RetryPolicy, Step
from celery_durable.core.status import Status
from celery_durable.engine import bundle, loop, slow_units
from celery_durable.engine.claims import Claims
from celery_durable.errors import DatabaseUnavailable
from celery_durable.run import Run
from celery_durable.store import reaping
from celery_durable.store.bundle import claiming, committing
from celery_durable.worker import process
from tests.integration.driving import Gate, World, claimed, defining, noting, spawn, worker_id
from tests.integration.watching import Meter
from tests.waiting import wait_until

NEVER = 1e9
"""Seconds."""


@pytest.fixture(autouse=True)
def only_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, nothing is done for want of time unless a test sets it."""
    for name in ("LOOK_AGAIN_AFTER", "WRITE_AFTER", "GIVE_BACK_AFTER"):
        monkeypatch.setattr(bundle, name, NEVER)
    monkeypatch.setattr(slow_units, "SLOW_FROM", NEVER)


@pytest.fixture
def looks_again(monkeypatch: pytest.MonkeyPatch) -> float:
    """Claims are looked at again after so many seconds."""
    seconds = 0.01
    monkeypatch.setattr(bundle, "LOOK_AGAIN_AFTER", seconds)
    return 2 * seconds


def bundled(world: World, worker: Durable) -> None:
    """Deliver all that is due in one message."""
    worker.engine.advance_together(world.publish())


def run_all(world: World, worker: Durable) -> None:
    """Deliver what is due in one message, until nothing is."""
    for _ in range(100):
        hints = world.publish()
        if not hints:
            return
        worker.engine.advance_together(hints)
    pytest.fail("hints come without end")


def started(worker: Durable, count: int, workflow: str = "w") -> list[Run]:
    """So many runs, each with its number as input; in the order of their hints."""
    return [worker.start(workflow, number) for number in range(count)]


def statuses(world: World, runs: list[Run]) -> set[str]:
    return {world.status(run) for run in runs}


def wait_for(condition: Any, what: str) -> None:
    wait_until(condition, message=what)


# What is shared.


def test_units_of_several_runs_share_a_claim_and_their_commits(world: World, meter: Meter) -> None:
    """One claim, and one commit for each step of all."""
    log: list[str] = []
    worker = world.worker(defining(log, "a", "b", "c"))
    runs = started(worker, 5)
    hints = world.publish()
    worker.engine.advance_together(hints[:1])  # reads the stored plan, once a process
    before = meter.statements
    worker.engine.advance_together(hints[1:])

    assert meter.statements - before == 1 + 3
    assert statuses(world, runs) == {"completed"}
    assert log == ["a", "b", "c"] + ["a"] * 4 + ["b"] * 4 + ["c"] * 4


def test_what_a_bundle_records_is_what_single_messages_record(world: World) -> None:
    """P1, P3: the journal of both is the same."""

    def define(durable: Durable) -> None:
        first: Step = durable.step(lambda ctx: {"n": ctx.input}, name="first")
        first.compensate(lambda _ctx: None)
        workflow = durable.workflow("w").step(first)
        workflow.step(lambda _ctx: None, name="nothing")
        workflow.step(lambda _ctx: 'quote " and \\ and é', name="text")
        workflow.returns(lambda ctx: ctx.results["first"])

    worker = world.worker(define)
    runs = started(worker, 4)
    alone, *together = world.publish()
    worker.engine.advance(alone)
    worker.engine.advance_together(together)

    columns = "unit, node, part, position, outcome, undoable, attempt, input::text, result::text"
    query = f"SELECT {columns}, error, failures FROM durable_journal WHERE run_id = %s ORDER BY seq"
    journals = [world.rows(query, run.id) for run in runs]
    for n, journal in enumerate(journals):
        journal[0]["result"] = journal[0]["result"].replace(str(n), "0")
    assert journals[1:] == [journals[0]] * 3
    assert [run.result(timeout=5) for run in runs] == [{"n": n} for n in range(4)]


def test_each_unit_has_a_start_and_an_end_of_its_own(world: World) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").step(lambda _: time.sleep(0.01), name="a")

    worker = world.worker(define)
    started(worker, 3)
    bundled(world, worker)

    times = world.rows("SELECT started_at FROM durable_journal ORDER BY seq")
    first, second, third = [row["started_at"] for row in times]
    assert (second - first).total_seconds() > 0.009
    assert (third - second).total_seconds() > 0.009


def test_branches_leave_together_and_are_counted_once(world: World, meter: Meter) -> None:
    def define(durable: Durable) -> None:
        item = durable.step(lambda ctx: ctx.item * 2, name="item")
        durable.workflow("w").map("m", over=lambda _: [*range(10)], handler=item)

    worker = world.worker(define)
    run = worker.start("w")
    worker.engine.advance(world.publish()[0])
    hints = world.publish()
    before = meter.statements
    worker.engine.advance_together(hints)

    assert meter.statements - before == 2  # one claim, one commit
    assert world.hints(run) == 1  # the parent's
    run_all(world, worker)
    assert run.result(timeout=5) == {"m": [n * 2 for n in range(10)]}


@pytest.mark.parametrize(
    ("window", "chunk"), [(2, 1), (3, 1), (5, 1), (2, 2), (5, 2), (3, 3), (5, 3)]
)
def test_a_window_is_kept_full_and_never_more(world: World, window: int, chunk: int) -> None:
    def define(durable: Durable) -> None:
        item = durable.step(lambda ctx: ctx.item, name="item")
        durable.workflow("w").map(
            "m", over=lambda _: [*range(11)], handler=item, max_concurrency=window, chunk=chunk
        )

    worker = world.worker(define)
    run = worker.start("w")
    worker.engine.advance(world.publish()[0])
    open_at_once = "SELECT count(*) FROM durable_token WHERE parent_id IS NOT NULL"
    while hints := world.publish():
        assert world.one(open_at_once) <= window
        worker.engine.advance_together(hints)

    assert run.result(timeout=5) == {"m": [*range(11)]}
    assert world.counts("run", "journal", "worker", "definition")["item"] == 0


def test_a_window_is_full_again_after_several_have_left(world: World) -> None:
    def define(durable: Durable) -> None:
        item = durable.step(lambda ctx: ctx.item, name="item")
        durable.workflow("w").map("m", over=lambda _: [*range(9)], handler=item, max_concurrency=3)

    worker = world.worker(define)
    worker.start("w")
    worker.engine.advance(world.publish()[0])
    worker.engine.advance_together(world.publish())

    assert world.hints() == 3
    assert world.one("SELECT count(*) FROM durable_token WHERE parent_id IS NOT NULL") == 3


def test_branches_are_undone_in_the_reverse_of_the_order_they_ended_in(world: World) -> None:
    """P8: one statement records them in the order in which they completed."""

    def define(durable: Durable) -> None:
        item = durable.step(lambda ctx: ctx.item, name="item")
        item.compensate(lambda _: None)
        workflow = durable.workflow("w").map("m", over=lambda _: [*range(4)], handler=item)
        workflow.step(lambda _: 1 / 0, name="fails", retry=RetryPolicy(max_attempts=1))

    worker = world.worker(define)
    run = worker.start("w")
    worker.engine.advance(world.publish()[0])
    first, *others = world.publish()
    worker.engine.advance_together([*others, first])
    run_all(world, worker)

    ended = [unit.split()[0] for unit in world.units(run) if unit.startswith("m#")]
    assert ended[:4] == ["m#1", "m#2", "m#3", "m#0"]
    assert ended[4:] == [f"{unit}#compensate" for unit in reversed(ended[:4])]


def test_branches_of_two_parents_leave_each_its_own(world: World, meter: Meter) -> None:
    """One statement for each parent: of two, their rows would be locked in no order."""

    def define(durable: Durable) -> None:
        item = durable.step(lambda ctx: ctx.item, name="item")
        durable.workflow("w").map("m", over=lambda ctx: [ctx.input] * 3, handler=item)

    worker = world.worker(define)
    runs = started(worker, 2)
    for parent in world.publish():
        worker.engine.advance(parent)
    branches = world.publish()
    before = meter.statements
    worker.engine.advance_together(branches)

    assert meter.statements - before == 1 + 2
    run_all(world, worker)
    assert [run.result(timeout=5) for run in runs] == [{"m": [0] * 3}, {"m": [1] * 3}]


def test_what_is_not_plain_goes_its_own_way_in_a_bundle(world: World) -> None:
    """Failures, retries, routes, loops, waits, children and rollbacks, beside each other."""

    def fails(ctx: Any) -> None:
        if ctx.input % 2:
            raise ValueError(ctx.input)

    def define(durable: Durable) -> None:
        undone = durable.step(lambda _: "done", name="undone")
        undone.compensate(lambda _: None)
        child = durable.workflow("child").step(lambda ctx: ctx.input, name="only")
        workflow = durable.workflow("w").step(undone)
        workflow.loop("l", lambda ctx: ctx.iteration, max_iterations=3)
        workflow.route("r", lambda _: "x", {"x": durable.step(lambda _: "x", name="x")})
        workflow.parallel("p", [durable.step(lambda _: 1, name="one"), child])
        workflow.wait_for_signal("go")
        workflow.step(lambda ctx: bool(ctx.session.connection()), name="own", transactional=True)
        workflow.step(fails, name="fails", retry=RetryPolicy(max_attempts=1))

    worker = world.worker(define)
    runs = started(worker, 6)
    run_all(world, worker)
    for run in runs:
        run.resume("go", 1)
    run_all(world, worker)

    assert [world.status(run) for run in runs] == ["completed", "failed"] * 3
    assert world.units(runs[1])[-1] == "undone#compensate completed"
    assert runs[0].status().results["l"] == 2


def test_a_budget_ends_a_bundle_with_a_hint_for_each_run(world: World) -> None:
    log: list[str] = []
    worker = world.worker(defining(log, "a", "b", "c"), inline_steps=2)
    runs = started(worker, 3)
    bundled(world, worker)

    assert log == ["a"] * 3 + ["b"] * 3
    assert [world.hints(run) for run in runs] == [1, 1, 1]
    assert world.one("SELECT count(*) FROM durable_token WHERE claimed_by IS NULL") == 3
    run_all(world, worker)
    assert statuses(world, runs) == {"completed"}


def test_a_move_to_another_queue_takes_the_run_there(world: World) -> None:
    def define(durable: Durable) -> None:
        workflow = durable.workflow("w").step(lambda _: 1, name="a")
        workflow.step(lambda _: 2, name="b", queue="other", priority=3)

    worker = world.worker(define)
    started(worker, 2)
    bundled(world, worker)

    rows = world.rows("SELECT queue, priority, options FROM durable_outbox")
    assert [(row["queue"], row["priority"]) for row in rows] == [("other", 3)] * 2
    assert {row["options"]["shadow"] for row in rows} == {"w.b"}


def test_a_bundle_of_one_turns_them_off(world: World, meter: Meter) -> None:
    worker = world.worker(defining([], "a"), bundle=1)
    started(worker, 3)
    hints = world.publish()
    worker.engine.advance_together(hints[:1])
    before = meter.statements
    worker.engine.advance_together(hints[1:])

    assert meter.statements - before == 2 * 2  # a claim and a commit each


# Who is in a bundle.


def test_what_may_not_share_a_process_is_not_claimed_with_others(world: World) -> None:
    """P4, P6: suspects and units with a time limit are alone in their message."""
    worker = world.worker(defining([], "a"))
    started(worker, 7)
    crashed, limited, single, flagged, waiting, early, plain = world.publish()
    world.rows("UPDATE durable_token SET crashes = 1 WHERE id = %s", crashed)
    world.rows("UPDATE durable_token SET time_limit = 5 WHERE id = %s", limited)
    world.rows("UPDATE durable_token SET single = true WHERE id = %s", single)
    world.rows("UPDATE durable_token SET flags = 1 WHERE id = %s", flagged)
    world.rows(
        "UPDATE durable_token SET wait = 'signal', awaits = 'go', waiting_since = since"
        " WHERE id = %s",
        waiting,
    )
    later = "clock_timestamp() + interval '1 hour'"
    world.rows(f"UPDATE durable_token SET wake_at = {later} WHERE id = %s", early)

    with worker.database.autocommit() as connection:
        ids = [crashed, limited, single, flagged, waiting, early, plain, uuid4()]
        claims = claiming.claim(connection, ids, worker_id(worker), uuid4())
    assert [claim.token.id for claim in claims] == [plain]


def test_those_that_are_left_out_get_messages_of_their_own_at_once(world: World) -> None:
    """P2: in this message they would wait for the others, and nothing else would bring them."""
    hinted: list[int] = []
    worker = world.worker(
        lambda durable: durable.workflow("w").step(lambda _: hinted.append(world.hints()), name="a")
    )
    runs = started(worker, 3)
    first, *_ = hints = world.publish()
    world.rows("UPDATE durable_token SET crashes = 1 WHERE id = %s", first)
    worker.engine.advance_together([*hints, hints[1], uuid4()])

    assert hinted == [1, 1]
    run_all(world, worker)
    assert statuses(world, runs) == {"completed"}


def test_where_none_can_be_claimed_together_each_is_advanced_alone(world: World) -> None:
    log: list[str] = []
    worker = world.worker(defining(log, "a"))
    runs = started(worker, 3)
    world.rows("UPDATE durable_token SET crashes = 1")
    bundled(world, worker)

    assert log == ["a"] * 3
    assert statuses(world, runs) == {"completed"}


def test_where_one_crash_is_the_last_no_unit_has_neighbours(world: World, meter: Meter) -> None:
    """P4: the crash of another unit would fail it."""
    worker = world.worker(defining([], "a"), max_crashes=1)
    started(worker, 3)
    hints = world.publish()
    worker.engine.advance_together(hints[:1])
    before = meter.statements
    worker.engine.advance_together(hints[1:])
    assert meter.statements - before == 2 * 2
    assert worker.settings.tokens_per_message == 1


def test_a_token_that_is_locked_holds_up_no_other(world: World) -> None:
    """Its lock may be that of a release, whose hint has come already."""
    log: list[int] = []
    worker = world.worker(
        lambda durable: durable.workflow("w").step(lambda ctx: log.append(ctx.input), name="a")
    )
    runs = started(worker, 3)
    hints = world.publish()
    with world.connect() as other, other.transaction():
        other.execute("SELECT 1 FROM durable_token WHERE id = %s FOR UPDATE", [hints[0]])
        at_work = spawn(worker.engine.advance_together, hints)
        at_work.result(20)
    assert log == [1, 2]
    run_all(world, worker)

    assert log == [1, 2, 0]
    assert statuses(world, runs) == {"completed"}


def test_a_worker_that_has_ended_claims_nothing(world: World) -> None:
    worker = world.worker(defining([], "a"))
    started(worker, 2)
    world.rows(
        "UPDATE durable_worker SET ended_at = clock_timestamp() WHERE id = %s", worker_id(worker)
    )
    with worker.database.autocommit() as connection:
        assert not claiming.claim(connection, world.publish(), worker_id(worker), uuid4())


def test_a_claim_of_several_that_is_sent_again_is_one_claim(world: World) -> None:
    worker = world.worker(defining([], "a"))
    started(worker, 3)
    hints, fence = world.publish(), uuid4()
    with worker.database.autocommit() as connection:
        for again in (False, True):
            claims = claiming.claim(connection, hints, worker_id(worker), fence, again=again)
            assert len(claims) == 3
        assert not claiming.claim(connection, hints, worker_id(worker), uuid4())


def test_a_claim_that_is_sent_again_waits_for_what_it_may_have(world: World) -> None:
    """P2: a cancel has locked one meanwhile, and raises its flag. Nobody else would free it."""
    worker = world.worker(defining([], "a"))
    started(worker, 2)
    hints, fence = world.publish(), uuid4()

    def claim(*, again: bool) -> list[int]:
        with worker.database.autocommit() as connection:
            return [
                int(one.token.flags)
                for one in claiming.claim(connection, hints, worker_id(worker), fence, again=again)
            ]

    assert claim(again=False) == [0, 0]
    with world.connect() as other, other.transaction():
        other.execute("UPDATE durable_token SET flags = 1 WHERE id = %s", [hints[0]])
        sent_again = spawn(lambda: claim(again=True))
        wait_for(world.waiting_for_locks, "the claim that was sent again")
    assert sent_again.result(20) == [1, 0]


def test_a_branch_that_a_failure_may_drop_is_single(world: World) -> None:
    """A sibling in a bundle would count as begun."""
    log: list[int] = []

    def item(ctx: Any) -> None:
        log.append(ctx.item)
        raise ValueError(ctx.item)

    def define(durable: Durable) -> None:
        handler = durable.step(item, name="item", retry=RetryPolicy(max_attempts=1))
        durable.workflow("w").map(
            "m", over=lambda _: [*range(6)], handler=handler, fail_fast=True, chunk=3
        )

    worker = world.worker(define)
    run = worker.start("w")
    worker.engine.advance(world.publish()[0])
    run_all(world, worker)

    assert log == [0]
    assert world.status(run) == "failed"


def test_a_named_branch_that_a_failure_may_drop_is_single(world: World) -> None:
    def define(durable: Durable) -> None:
        branches = {"x": noting([], "x"), "y": noting([], "y")}
        durable.workflow("w").parallel("p", branches, fail_fast=True)

    worker = world.worker(define)
    worker.start("w")
    worker.engine.advance(world.publish()[0])
    hints = world.rows("SELECT single FROM durable_outbox")
    assert [hint["single"] for hint in hints] == [True, True]


# What happens meanwhile.


def cancelling(world: World, runs: list[Run], log: list[int], *, pause: float) -> Any:
    """A step whose first execution cancels the other runs, and takes `pause` seconds."""

    def handler(ctx: Any) -> None:
        log.append(ctx.input)
        if ctx.input == 0:
            for run in runs[1:]:
                run.cancel()
            time.sleep(pause)

    return handler


def test_once_a_cancel_has_committed_no_further_unit_begins(
    world: World, looks_again: float
) -> None:
    """P3: the claim was looked at before it, but long ago."""
    log: list[int] = []
    runs: list[Run] = []
    handler = cancelling(world, runs, log, pause=looks_again)
    worker = world.worker(lambda durable: durable.workflow("w").step(handler, name="a"))
    runs += started(worker, 4)
    bundled(world, worker)
    run_all(world, worker)

    assert log == [0]
    assert [world.status(run) for run in runs] == ["completed"] + ["cancelled"] * 3


def test_a_cancel_keeps_what_has_been_executed_from_being_recorded(world: World) -> None:
    """The decisions of the others are written all the same."""
    log: list[int] = []
    runs: list[Run] = []

    def handler(ctx: Any) -> None:
        log.append(ctx.input)
        if ctx.input == 2:
            runs[0].cancel()

    worker = world.worker(
        lambda durable: durable.workflow("w").step(handler, name="a").step(lambda _: None, name="b")
    )
    runs += started(worker, 3)
    bundled(world, worker)
    run_all(world, worker)

    assert log == [0, 1, 2]
    assert [world.status(run) for run in runs] == ["cancelled", "completed", "completed"]
    assert world.units(runs[0]) == ["a cancelled"]


def test_a_claim_that_was_lost_meanwhile_is_not_executed(world: World, looks_again: float) -> None:
    """P4: a process that was frozen begins nothing that is another's by now."""
    log: list[int] = []
    taken: list[UUID] = []

    def handler(ctx: Any) -> None:
        log.append(ctx.input)
        if ctx.input == 0:
            other = world.worker(None)
            for token in taken[1:]:
                free(world, worker, token)
                assert claimed(other, token) is not None
            time.sleep(looks_again)

    worker = world.worker(lambda durable: durable.workflow("w").step(handler, name="a"))
    runs = started(worker, 3)
    taken += world.publish()
    worker.engine.advance_together(taken)

    assert log == [0]
    assert [world.status(run) for run in runs] == ["completed", "running", "running"]


def test_a_worker_that_was_declared_dead_meanwhile_begins_nothing(
    world: World, looks_again: float
) -> None:
    """P4: it is frozen between its end and the loss of its claims."""
    log: list[int] = []

    def handler(ctx: Any) -> None:
        log.append(ctx.input)
        if ctx.input == 0:
            world.rows("UPDATE durable_worker SET ended_at = clock_timestamp()")
            time.sleep(looks_again)

    worker = world.worker(lambda durable: durable.workflow("w").step(handler, name="a"))
    started(worker, 3)
    bundled(world, worker)
    assert log == [0]


def free(world: World, worker: Durable, token_id: UUID) -> None:
    """Reap a claim of the worker, as if it had been declared dead."""
    with worker.database.autocommit() as connection:
        for one in reaping.claimed_by(connection, worker_id(worker)):
            if one.token_id == token_id:
                assert reaping.reap(connection, one, uuid4())


def test_a_zombie_writes_what_is_still_its_own(world: World) -> None:
    """P4: the fence of each token is looked at."""
    log: list[int] = []
    taken: list[UUID] = []

    def handler(ctx: Any) -> None:
        log.append(ctx.input)
        if ctx.input == 2:
            free(world, worker, taken[0])
            assert claimed(world.worker(None), taken[0]) is not None

    worker = world.worker(lambda durable: durable.workflow("w").step(handler, name="a"))
    runs = started(worker, 3)
    taken += world.publish()
    worker.engine.advance_together(taken)

    assert log == [0, 1, 2]
    assert [world.status(run) for run in runs] == ["running", "completed", "completed"]
    assert world.units(runs[0]) == []


def test_a_claim_that_is_the_same_worker_s_anew_is_not_written(world: World) -> None:
    """P4: another message may have brought the token back to this very worker."""
    taken: list[UUID] = []

    def handler(ctx: Any) -> None:
        if ctx.input == 2:
            free(world, worker, taken[0])
            assert claimed(worker, taken[0]) is not None

    worker = world.worker(lambda durable: durable.workflow("w").step(handler, name="a"))
    runs = started(worker, 3)
    taken += world.publish()
    worker.engine.advance_together(taken)

    assert [world.status(run) for run in runs] == ["running", "completed", "completed"]


def test_a_conflict_of_one_keeps_none_of_the_others(world: World) -> None:
    """P3: the journal refuses what is recorded; the statement for all is given up."""
    worker = world.worker(defining([], "a", "b"))
    runs = started(worker, 3)
    world.rows(
        "INSERT INTO durable_journal (run_id, unit, node, outcome, undoable, attempt, started_at)"
        " VALUES (%s, 'a', 'a', 'completed', false, 1, clock_timestamp())",
        runs[1].id,
    )
    bundled(world, worker)

    assert [world.status(run) for run in runs] == ["completed", "running", "completed"]


def test_a_locked_token_holds_up_its_own_commit_only(world: World) -> None:
    log: list[int] = []
    other = world.connect()
    at_work: Any = None

    def handler(ctx: Any) -> None:
        log.append(ctx.input)
        if ctx.input == 0:
            other.execute("BEGIN")
            lock = "SELECT 1 FROM durable_token WHERE run_id = %s FOR UPDATE"
            other.execute(lock.encode(), [ctx.run_id])

    worker = world.worker(lambda durable: durable.workflow("w").step(handler, name="a"))
    runs = started(worker, 3)
    at_work = spawn(bundled, world, worker)
    wait_for(
        lambda: [world.status(run) for run in runs] == ["running", "completed", "completed"],
        "the commits of the others",
    )
    other.execute("COMMIT")
    other.close()
    at_work.result(20)
    assert statuses(world, runs) == {"completed"}


def test_a_lost_answer_is_not_written_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """P3: sent again, the statement finds nothing as it was; each token is looked at alone."""
    log: list[str] = []
    worker = world.worker(defining(log, "a", "b"))
    runs = started(worker, 3)
    written: list[int] = []
    commit = committing.commit

    def loses_the_first_answer(connection: Any, plain: Any) -> Any:
        answer = commit(connection, plain)
        written.append(len(answer.written))
        if len(written) == 1:
            raise DatabaseUnavailable("cut after the statement")
        return answer

    monkeypatch.setattr(committing, "commit", loses_the_first_answer)
    bundled(world, worker)
    run_all(world, worker)

    assert written[:2] == [3, 0]
    assert sorted(log) == ["a"] * 3 + ["b"] * 3
    assert statuses(world, runs) == {"completed"}


# The guard.


def test_a_decision_is_written_while_another_unit_is_executed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "WRITE_AFTER", 0.005)

    def handler(ctx: Any) -> None:
        if ctx.input == 1:
            recorded = "SELECT count(*) FROM durable_journal"
            wait_for(lambda: world.one(recorded) == 1, "the decision on the first")

    worker = world.worker(lambda durable: durable.workflow("w").step(handler, name="a"))
    runs = started(worker, 2)
    bundled(world, worker)
    assert statuses(world, runs) == {"completed"}


def test_nothing_ready_waits_for_a_look_at_claims(
    world: World, looks_again: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look may take as long as Postgres is away; the guard does nothing in that time."""
    executed: list[int] = []
    seen: list[tuple[int, int]] = []

    def handler(ctx: Any) -> None:
        executed.append(ctx.input)
        time.sleep(looks_again)

    def define(durable: Durable) -> None:
        durable.workflow("w").step(handler, name="a")

    worker = world.worker(define)
    started(worker, 2)
    look_again = Claims.look_again

    def looks(claims: Claims, own: Any) -> Any:
        seen.append((len(executed), world.one("SELECT count(*) FROM durable_journal")))
        return look_again(claims, own)

    monkeypatch.setattr(Claims, "look_again", looks)
    bundled(world, worker)
    assert seen[-1] == (1, 1)


def test_what_has_not_begun_is_given_back_while_a_unit_takes_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each gets a message of its own, and no crash is counted."""
    monkeypatch.setattr(bundle, "GIVE_BACK_AFTER", 0.05)
    log: list[int] = []
    given_back = (
        "SELECT count(*) FROM durable_token t JOIN durable_outbox o ON o.token_id = t.id"
        " WHERE claimed_by IS NULL AND crashes = 0 AND t.single AND o.single"
    )

    def handler(ctx: Any) -> None:
        log.append(ctx.input)
        if len(log) == 1:
            wait_for(lambda: world.one(given_back) == 2, "the others, given back")

    worker = world.worker(lambda durable: durable.workflow("w").step(handler, name="a"))
    runs = started(worker, 3)
    bundled(world, worker)

    assert log == [0]
    run_all(world, worker)
    assert sorted(log) == [0, 1, 2]
    assert statuses(world, runs) == {"completed"}


def test_a_unit_that_is_slow_is_not_bundled_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_units, "SLOW_FROM", 0.25)
    log: list[int] = []

    def slow(ctx: Any) -> None:
        log.append(ctx.input)
        time.sleep(0.5)

    def define(durable: Durable) -> None:
        durable.workflow("w").step(lambda _: None, name="quick").step(slow, name="slow")

    worker = world.worker(define)
    runs = started(worker, 1)
    run_all(world, worker)
    runs += started(worker, 3)
    bundled(world, worker)

    assert log == [0]
    hints = world.rows("SELECT single FROM durable_outbox")
    assert [hint["single"] for hint in hints] == [True] * 3
    run_all(world, worker)
    assert statuses(world, runs) == {"completed"}


def test_of_units_that_are_known_to_be_slow_one_is_executed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_units, "SLOW_FROM", 0.25)
    log: list[int] = []

    def slow(ctx: Any) -> None:
        log.append(ctx.input)
        time.sleep(0.5)

    worker = world.worker(lambda durable: durable.workflow("w").step(slow, name="slow"))
    runs = started(worker, 1)
    run_all(world, worker)
    runs += started(worker, 3)
    bundled(world, worker)

    assert len(log) == 2
    assert [world.hints(run) for run in runs[1:]] == [0, 1, 1]
    run_all(world, worker)
    assert statuses(world, runs) == {"completed"}


def test_a_round_with_large_results_is_written_before_it_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits to be written is bounded, in bytes too."""
    monkeypatch.setattr(bundle, "MOST_BYTES", 100)
    recorded: list[int] = []

    def handler(_: Any) -> str:
        recorded.append(world.one("SELECT count(*) FROM durable_journal"))
        return "x" * 60

    worker = world.worker(lambda durable: durable.workflow("w").step(handler, name="a"))
    started(worker, 5)
    bundled(world, worker)
    assert recorded == [0, 0, 2, 2, 4]


# Ends.


def test_an_exit_writes_what_is_ready_and_releases_what_has_not_begun(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P5: the unit in hand is let go, and no other has a crash on its count."""
    monkeypatch.setattr(loop, "SAYS_IT_STOPS_WITHIN", 0.01)
    ending = [False]
    monkeypatch.setattr(process, "_is_ending", ending)
    log: list[int] = []

    def handler(ctx: Any) -> None:
        log.append(ctx.input)
        if ctx.input == 1:
            ending[0] = True
            raise SystemExit("told to")

    worker = world.worker(lambda durable: durable.workflow("w").step(handler, name="a"))
    runs = started(worker, 4)
    with pytest.raises(SystemExit, match="told to"):
        bundled(world, worker)
    ending[0] = False

    assert log == [0, 1]
    assert [world.status(run) for run in runs] == ["completed"] + ["running"] * 3
    tokens = world.rows("SELECT claimed_by, crashes FROM durable_token ORDER BY run_id")
    assert [row["claimed_by"] for row in tokens] == [None] * 3
    assert [row["crashes"] for row in tokens] == [1, 0, 0]
    assert [world.hints(run) for run in runs] == [0, 1, 1, 1]


def test_a_worker_that_stops_hands_over_what_has_not_begun(
    world: World, looks_again: float
) -> None:
    log: list[int] = []

    def handler(ctx: Any) -> None:
        log.append(ctx.input)
        if ctx.input == 0:
            world.rows("UPDATE durable_worker SET draining = true")
            time.sleep(looks_again)

    worker = world.worker(lambda durable: durable.workflow("w").step(handler, name="a"))
    runs = started(worker, 3)
    bundled(world, worker)

    assert log == [0]
    assert [world.hints(run) for run in runs] == [0, 1, 1]


def test_an_error_of_the_engine_leaves_no_claim_behind(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken")

    worker = world.worker(defining([], "a"))
    runs = started(worker, 3)
    monkeypatch.setattr(worker.engine._committer, "commit_together", breaks)
    with pytest.raises(RuntimeError, match="broken"):
        bundled(world, worker)

    assert world.one("SELECT count(*) FROM durable_token WHERE claimed_by IS NOT NULL") == 0
    assert [world.hints(run) for run in runs] == [1, 1, 1]
    monkeypatch.undo()
    run_all(world, worker)
    assert {run.status().status for run in runs} == {Status.COMPLETED}


def test_a_dead_worker_has_a_crash_counted_on_each_and_each_is_alone_then(world: World) -> None:
    """P4: three bundles cannot use up `max_crashes` of units that never began."""
    gate = Gate()

    def define(durable: Durable) -> None:
        durable.workflow("w").step(noting([], "a", gate=gate))

    doomed, other = world.worker(define), world.worker(define)
    started(doomed, 3)
    hints = world.publish()
    at_work = gate.hold(doomed.engine.advance_together, hints)
    world.kill(doomed)
    freed = world.reap(other)
    with other.database.autocommit() as connection:
        assert not claiming.claim(connection, hints, worker_id(other), uuid4())
    gate.finish(at_work)

    assert freed == 3
    crashes = world.rows("SELECT crashes FROM durable_token")
    assert [row["crashes"] for row in crashes] == [1, 1, 1]
    marks = world.rows("SELECT single FROM durable_outbox")
    assert [mark["single"] for mark in marks] == [True, True, True]


def test_threads_have_bundles_at_once(world: World) -> None:
    """The guard looks after all of them, and each token is executed once."""
    log: list[int] = []
    lock = threading.Lock()

    def handler(ctx: Any) -> None:
        with lock:
            log.append(ctx.input)

    worker = world.worker(
        lambda durable: durable.workflow("w").step(handler, name="a").step(lambda _: None, name="b")
    )
    runs = started(worker, 24)
    hints = world.publish()
    parts = [hints[n::4] for n in range(4)]
    for at_work in [spawn(worker.engine.advance_together, [*part, *hints[:3]]) for part in parts]:
        at_work.result(30)
    run_all(world, worker)

    assert sorted(log) == [*range(24)]
    assert statuses(world, runs) == {"completed"}

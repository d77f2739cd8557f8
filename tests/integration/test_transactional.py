"""P6: a transactional step's own SQL, its entry and the next enqueue are one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable import Durable, RetryPolicy
from celery_durable.run import Run
from tests.integration.driving import Gate, World, all_at_once, error_of, noting

DELIVERIES = 50

BOOK = sa.text("INSERT INTO ledger (run_id, amount) VALUES (:run_id, :amount)")


@pytest.fixture
def ledger(world: World) -> World:
    """A table of the user's, in the database that holds ours."""
    world.rows(
        "CREATE TABLE account (id integer PRIMARY KEY);"
        "CREATE TABLE ledger (run_id uuid NOT NULL, amount integer NOT NULL, account integer"
        " REFERENCES account DEFERRABLE INITIALLY DEFERRED)"
    )
    return world


def booked(world: World) -> list[int]:
    return [row["amount"] for row in world.rows("SELECT amount FROM ledger ORDER BY amount")]


def write(ctx: Any, amount: int = 1) -> None:
    ctx.session.execute(BOOK, {"run_id": ctx.run_id, "amount": amount})


def transactional(handler: Callable[[Any], Any], **options: Any) -> Callable[[Durable], None]:
    """A workflow of `handler`, transactional, and a step after it."""

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w").step(
            handler, name="book", transactional=True, **{"retry": RetryPolicy(1), **options}
        )
        workflow.step(noting([], "after"))

    return define


def test_a_transactional_step_that_succeeds_leaves_its_row(ledger: World) -> None:
    """P6"""
    worker = ledger.worker(transactional(write))
    run = worker.start("w", {})

    ledger.drain(worker)

    assert booked(ledger) == [1]
    assert ledger.units(run) == ["book completed", "after completed"]


def test_one_that_raises_after_its_sql_leaves_no_row(ledger: World) -> None:
    """P6"""

    def book(ctx: Any) -> None:
        write(ctx)
        ctx.session.flush()
        raise ValueError("no")

    worker = ledger.worker(transactional(book))
    run = worker.start("w", {})

    ledger.drain(worker)

    assert booked(ledger) == []
    assert ledger.units(run) == ["book failed"]
    assert run.status().status == "failed"


def test_a_try_that_fails_leaves_no_row_and_the_next_one_leaves_one(ledger: World) -> None:
    """P6"""

    def book(ctx: Any) -> None:
        write(ctx, ctx.attempt)
        if ctx.attempt < 3:
            raise ValueError("no")

    worker = ledger.worker(transactional(book, retry=RetryPolicy(3, initial=0)))
    run = worker.start("w", {})

    ledger.drain(worker)

    assert booked(ledger) == [3]
    assert run.status().status == "completed"


def test_fifty_deliveries_at_once_on_two_workers_leave_exactly_one_row(ledger: World) -> None:
    """P6"""
    define = transactional(write)
    workers = [ledger.worker(define) for _ in range(2)]
    run = workers[0].start("w", {})
    (token_id,) = ledger.publish()

    all_at_once([partial(workers[i % 2].engine.advance, token_id) for i in range(DELIVERIES)])

    assert booked(ledger) == [1]
    assert run.status().status == "completed"


def test_a_step_and_its_retries_hit_by_deliveries_all_the_time_leave_one_row(
    ledger: World,
) -> None:
    """P6"""

    def book(ctx: Any) -> None:
        write(ctx, ctx.attempt)
        if ctx.attempt < 4:
            raise ValueError("no")

    define = transactional(book, retry=RetryPolicy(4, initial=0))
    workers = [ledger.worker(define, inline_steps=1) for _ in range(2)]
    run = workers[0].start("w", {})
    token_id = ledger.token_id(run)
    while not ledger.has_ended(run):
        all_at_once([partial(workers[i % 2].engine.advance, token_id) for i in range(10)])

    assert booked(ledger) == [4]
    assert ledger.units(run) == ["book completed", "after completed"]


@pytest.mark.parametrize("ending", ["commit", "rollback", "begin_nested"])
def test_a_handler_cannot_split_the_transaction(ledger: World, ending: str) -> None:
    """P6: what it commits itself is not committed when it fails."""

    def book(ctx: Any) -> None:
        write(ctx)
        getattr(ctx.session, ending)()
        raise ValueError("no")

    worker = ledger.worker(transactional(book))
    run = worker.start("w", {})

    ledger.drain(worker)

    assert booked(ledger) == []
    assert run.status().status == "failed"


def test_a_handler_that_commits_its_session_still_commits_with_its_step(ledger: World) -> None:
    """P6"""

    def book(ctx: Any) -> None:
        write(ctx, 1)
        ctx.session.commit()
        write(ctx, 2)

    worker = ledger.worker(transactional(book))
    run = worker.start("w", {})

    ledger.drain(worker)

    assert booked(ledger) == [1, 2]
    assert run.status().status == "completed"


def test_a_handler_may_undo_a_part_of_its_work_with_a_savepoint(ledger: World) -> None:
    """P6"""

    def book(ctx: Any) -> None:
        write(ctx, 1)
        savepoint = ctx.session.begin_nested()
        write(ctx, 2)
        savepoint.rollback()

    worker = ledger.worker(transactional(book))
    worker.start("w", {})

    ledger.drain(worker)

    assert booked(ledger) == [1]


def test_a_constraint_that_speaks_at_commit_is_a_failure_of_the_step(ledger: World) -> None:
    """P6: it is retried under the step's policy, and nothing of it is recorded."""
    attempts: list[int] = []

    def book(ctx: Any) -> None:
        attempts.append(ctx.attempt)
        ctx.session.execute(
            sa.text("INSERT INTO ledger (run_id, amount, account) VALUES (:run_id, 1, 7)"),
            {"run_id": ctx.run_id},
        )

    worker = ledger.worker(transactional(book, retry=RetryPolicy(2, initial=0)))
    run = worker.start("w", {})

    ledger.drain(worker)

    assert attempts == [1, 2]
    assert booked(ledger) == []
    assert ledger.units(run) == ["book failed"]
    assert "violates foreign key constraint" in error_of(run).message


def test_a_step_that_swallowed_an_error_of_the_database_fails(ledger: World) -> None:
    """P6: its transaction can only be rolled back."""

    def book(ctx: Any) -> str:
        write(ctx)
        try:
            ctx.session.execute(sa.text("SELECT 1 / 0"))
        except sa.exc.DBAPIError:
            return "never mind"
        return "fine"

    worker = ledger.worker(transactional(book))
    run = worker.start("w", {})

    ledger.drain(worker)

    assert booked(ledger) == []
    assert run.status().status == "failed"


def test_a_result_without_json_leaves_no_row(ledger: World) -> None:
    """P6, P12"""

    def book(ctx: Any) -> object:
        write(ctx)
        return object()

    worker = ledger.worker(transactional(book, retry=RetryPolicy(5)))
    run = worker.start("w", {})

    ledger.drain(worker)

    assert booked(ledger) == []
    assert ledger.units(run) == ["book failed"]


@pytest.fixture
def at_work(ledger: World) -> Iterator[tuple[World, Gate, Callable[[], Run]]]:
    """A worker in the middle of a transactional step that has written its row."""
    gate = Gate()

    def book(ctx: Any) -> None:
        write(ctx)
        gate()

    worker = ledger.worker(transactional(book))
    run = worker.start("w", {})
    (token_id,) = ledger.publish()
    done = gate.hold(worker.engine.advance, token_id)

    def finish() -> Run:
        gate.finish(done)
        return run

    yield ledger, gate, finish
    gate.open()


def test_a_cancel_during_the_step_leaves_no_row(
    at_work: tuple[World, Gate, Callable[[], Run]],
) -> None:
    """P6"""
    world, _, finish = at_work
    client = world.worker()
    client.cancel(world.one("SELECT id FROM durable_run"))

    run = finish()

    assert booked(world) == []
    assert world.units(run) == [], "as if it had never been executed"
    assert run.status().status == "cancelled"


def test_a_cancel_with_compensation_during_the_step_keeps_its_row(
    at_work: tuple[World, Gate, Callable[[], Run]],
) -> None:
    """P6: its result counts."""
    world, _, finish = at_work
    client = world.worker()
    client.cancel(world.one("SELECT id FROM durable_run"), compensate=True)

    run = finish()

    assert booked(world) == [1]
    assert world.units(run) == ["book completed"]
    assert run.status().status == "cancelled"


def test_a_worker_that_was_fenced_off_leaves_no_row(
    at_work: tuple[World, Gate, Callable[[], Run]],
) -> None:
    """P4, P6"""
    world, _, finish = at_work
    client = world.worker()
    world.rows("UPDATE durable_worker SET ended_at = now()")
    assert world.reap(client) == 1

    run = finish()

    assert booked(world) == []
    assert world.units(run) == []
    token = world.token(run)
    assert token["crashes"] == 1


def test_an_async_handler_may_be_transactional(ledger: World) -> None:
    """P6"""

    async def book(ctx: Any) -> None:
        write(ctx, ctx.attempt)
        if ctx.attempt == 1:
            raise ValueError("no")

    worker = ledger.worker(transactional(book, retry=RetryPolicy(2, initial=0)))
    run = worker.start("w", {})

    ledger.drain(worker)

    assert booked(ledger) == [2]
    assert run.status().status == "completed"


def test_a_step_that_is_not_transactional_has_no_session(ledger: World) -> None:
    """P6"""

    def define(durable: Durable) -> None:
        durable.workflow("w").step(write, retry=RetryPolicy(1))

    worker = ledger.worker(define)
    run = worker.start("w", {})

    ledger.drain(worker)

    assert "transactional=True" in error_of(run).message


def cut(ctx: Any) -> None:
    """The connection is not to be used any more."""
    ctx.session.connection().invalidate()


def cut_quietly(ctx: Any) -> None:
    """SQLAlchemy does not know of it."""
    ctx.session.connection().connection.dbapi_connection.close()


@pytest.mark.parametrize("ends", [cut, cut_quietly])
def test_a_step_whose_connection_is_cut_each_time_is_not_tried_for_ever(
    ledger: World, ends: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    """P5: it counts like a worker that dies."""
    calls = []

    def book(ctx: Any) -> None:
        calls.append(ctx.unit)
        write(ctx)
        if len(calls) < 5:
            ends(ctx)

    worker = ledger.worker(transactional(book), max_crashes=2)
    run = worker.start("w", {})

    ledger.drain(worker)

    error = error_of(run)
    assert error.type == "WorkerLost"
    assert "lost the connection of its transaction" in error.message
    assert booked(ledger) == []
    warned = [r for r in caplog.records if "was cut; it is executed again" in r.getMessage()]
    assert [record.levelname for record in warned] == ["WARNING"] * 2


def close(ctx: Any) -> None:
    ctx.session.connection().close()


def commit_past_the_session(ctx: Any) -> None:
    ctx.session.connection().connection.dbapi_connection.commit()


@pytest.mark.parametrize("ends", [close, commit_past_the_session])
@pytest.mark.parametrize("raises", [False, True])
def test_a_step_that_ends_the_transaction_past_its_session_has_failed(
    ledger: World, ends: Callable[[Any], None], raises: bool
) -> None:
    """And says with what, though nothing can be closed as it should."""

    def book(ctx: Any) -> None:
        write(ctx)
        ends(ctx)
        if raises:
            raise ValueError("no")

    worker = ledger.worker(transactional(book))
    run = worker.start("w", {})

    ledger.drain(worker)

    error = error_of(run)
    assert error.type != "WorkerLost"
    assert (error.type == "ValueError") is raises

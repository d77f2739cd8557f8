"""P6 under Django: the ORM's SQL, the step's entry and the next enqueue are one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from celery import Celery, signals
from celery.fixups.django import DjangoWorkerFixup
from django.db import connection, connections, transaction
from django.db.utils import DatabaseError

from celery_durable import Durable, RetryPolicy
from tests.contrib.projects import DjangoWorld
from tests.integration.driving import Gate, error_of, noting, warnings

ONCE = RetryPolicy(1)


def book(ctx: Any, item: str = "lamp") -> None:
    """Write a row with the ORM."""
    from orders.models import Order  # type: ignore[import-not-found]  # noqa: PLC0415

    Order.objects.create(item=item)


def booked() -> list[str]:
    from orders.models import Order  # noqa: PLC0415

    return sorted(Order.objects.values_list("item", flat=True))


def transactional(handler: Callable[[Any], Any], **options: Any) -> Callable[[Durable], None]:
    """A workflow of `handler`, transactional, and a step after it."""

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w").step(
            handler, name="book", transactional=True, **{"retry": ONCE, **options}
        )
        workflow.step(noting([], "after"))

    return define


def follow(worker: Durable, token_id: object) -> None:
    """Follow a hint in a thread of a pool; close what Django has opened there."""
    try:
        worker.engine.advance(token_id)  # type: ignore[arg-type]
    finally:
        connections.close_all()


def test_what_the_orm_wrote_is_committed_with_the_step(world: DjangoWorld) -> None:
    """P6"""
    worker = world.worker(transactional(book))
    run = worker.start("w", {})

    world.drain(worker)

    assert booked() == ["lamp"]
    assert world.units(run) == ["book completed", "after completed"]


@pytest.fixture
def care_of_celery() -> Iterator[None]:
    """What Celery does in a worker of a Django project: it closes connections around each task."""
    fixup = DjangoWorkerFixup(Celery("care", set_as_current=False))
    around = (
        (signals.task_prerun, fixup.on_task_prerun),
        (signals.task_postrun, fixup.on_task_postrun),
    )
    for signal, handler in around:
        signal.connect(handler)
    yield
    for signal, handler in around:
        signal.disconnect(handler)


@pytest.mark.usefixtures("care_of_celery")
def test_a_task_is_a_transactional_step_whose_connection_celery_leaves_open(
    world: DjangoWorld,
) -> None:
    """P6"""
    seen = []

    def define(durable: Durable) -> None:
        @durable.app.task(name="shop.book")
        def book_item(item: str) -> None:
            book(None, item)
            seen.append(connection.in_atomic_block)

        workflow = durable.workflow("w").step(
            book_item, args=lambda ctx: (ctx.input,), transactional=True
        )
        workflow.step(book_item, args=lambda _: ("chair",), name="again")

    worker = world.worker(define)
    run = worker.start("w", "lamp")

    world.drain(worker)

    assert world.units(run) == ["book completed", "again completed"]
    assert booked() == ["chair", "lamp"]
    assert seen == [True, False]


def test_a_step_that_raises_leaves_no_row_of_the_orm(world: DjangoWorld) -> None:
    """P6"""

    def fail(ctx: Any) -> None:
        book(ctx)
        raise ValueError("no")

    worker = world.worker(transactional(fail))
    run = worker.start("w", {})

    world.drain(worker)

    assert booked() == []
    assert world.units(run) == ["book failed"]
    assert not connection.in_atomic_block


def test_a_try_that_fails_leaves_no_row_and_the_next_one_leaves_one(world: DjangoWorld) -> None:
    """P6"""

    def third(ctx: Any) -> None:
        book(ctx, f"try {ctx.attempt}")
        if ctx.attempt < 3:
            raise ValueError("no")

    worker = world.worker(transactional(third, retry=RetryPolicy(3, initial=0)))
    worker.start("w", {})

    world.drain(worker)

    assert booked() == ["try 3"]


def test_a_handler_may_undo_a_part_of_its_work_with_a_savepoint(world: DjangoWorld) -> None:
    """P6: an atomic block inside of the step is Django's own."""

    def partly(ctx: Any) -> None:
        book(ctx, "kept")
        with transaction.atomic():
            book(ctx, "undone")
            transaction.set_rollback(True)

    worker = world.worker(transactional(partly))
    worker.start("w", {})

    world.drain(worker)

    assert booked() == ["kept"]


@pytest.mark.parametrize("ends", [transaction.commit, transaction.rollback])
def test_a_handler_cannot_end_the_transaction(world: DjangoWorld, ends: Callable[[], None]) -> None:
    """P6: Django refuses it inside of an atomic block."""

    def split(ctx: Any) -> None:
        book(ctx)
        ends()

    worker = world.worker(transactional(split))
    run = worker.start("w", {})

    world.drain(worker)

    assert booked() == []
    assert error_of(run).type.endswith("TransactionManagementError")


def swallow(ctx: Any) -> None:
    book(ctx)
    with suppress(DatabaseError):
        connection.cursor().execute("SELECT 1 / 0")


def mark(ctx: Any) -> None:
    book(ctx)
    transaction.set_rollback(True)


def close(ctx: Any) -> None:
    book(ctx)
    connection.close()


def leave_open(ctx: Any) -> None:
    transaction.atomic().__enter__()
    book(ctx)


def commit_past_django(ctx: Any) -> None:
    connection.ensure_connection()
    connection.connection.commit()


@pytest.mark.parametrize("wrong", [swallow, mark, close, leave_open, commit_past_django])
def test_a_step_whose_transaction_cannot_be_committed_has_failed(
    world: DjangoWorld, wrong: Callable[[Any], None]
) -> None:
    """P6: Django would roll back and say nothing."""
    worker = world.worker(transactional(wrong))
    run = worker.start("w", {})

    world.drain(worker)

    assert booked() == []
    assert world.units(run) == ["book failed"]
    assert error_of(run).type != "WorkerLost"
    with transaction.atomic(durable=True):
        book(None)
    assert booked() == ["lamp"], "Django's connection is as good as new"


def test_on_commit_is_called_once_the_step_is_recorded(world: DjangoWorld) -> None:
    """P6: as ever in Django, and never for a try that fails."""
    seen: list[tuple[int, list[str]]] = []

    def second(ctx: Any) -> None:
        attempt = ctx.attempt
        transaction.on_commit(lambda: seen.append((attempt, world.units(run))))
        if attempt == 1:
            raise ValueError("no")

    worker = world.worker(transactional(second, retry=RetryPolicy(2, initial=0)))
    run = worker.start("w", {})

    world.drain(worker)

    assert seen == [(2, ["book completed"])]


def test_an_on_commit_that_raises_is_logged_and_the_step_stands(
    world: DjangoWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """P3: it comes too late to fail the step."""

    def hooked(ctx: Any) -> None:
        book(ctx)
        transaction.on_commit(lambda: 1 / 0)

    worker = world.worker(transactional(hooked))
    run = worker.start("w", {})

    world.drain(worker)

    assert booked() == ["lamp"]
    assert world.units(run) == ["book completed", "after completed"]
    assert "A function of on_commit failed" in caplog.text


def test_a_run_that_a_transactional_step_starts_is_committed_with_it(world: DjangoWorld) -> None:
    """P6, P7"""

    def define(durable: Durable) -> None:
        def start(ctx: Any) -> None:
            durable.start("other", {}, key=f"try {ctx.attempt}")
            if ctx.attempt == 1:
                raise ValueError("no")

        transactional(start, retry=RetryPolicy(2, initial=0))(durable)
        durable.workflow("other").step(noting([], "only"))

    worker = world.worker(define)
    worker.start("w", {})

    world.drain(worker)

    assert [run.key for run in worker.list(workflow="other")] == ["try 2"]


def test_a_session_is_refused_with_what_to_use_in_its_place(world: DjangoWorld) -> None:
    """P12"""
    worker = world.worker(transactional(lambda ctx: ctx.session))
    run = worker.start("w", {})

    world.drain(worker)

    assert "use the ORM" in error_of(run).message


def test_an_async_handler_is_refused(world: DjangoWorld) -> None:
    """P12: Django's async ORM works in another thread, and so in another transaction."""

    async def later(ctx: Any) -> None:
        raise AssertionError("it is not called")

    worker = world.worker(transactional(later, retry=RetryPolicy(5)))
    run = worker.start("w", {})

    world.drain(worker)

    assert world.units(run) == ["book failed"]
    assert "async" in error_of(run).message


def test_a_worker_that_was_fenced_off_leaves_no_row(world: DjangoWorld) -> None:
    """P4, P6"""
    gate = Gate()

    def held(ctx: Any) -> None:
        book(ctx)
        gate()

    worker, other = world.worker(transactional(held)), world.worker()
    run = worker.start("w", {})
    (token_id,) = world.publish()
    at_work = gate.hold(partial(follow, worker), token_id)
    world.rows("UPDATE durable_worker SET ended_at = now()")
    assert world.reap(other) == 1

    gate.finish(at_work)

    assert booked() == []
    assert world.units(run) == []
    assert world.token(run)["crashes"] == 1


def test_a_cancel_during_the_step_leaves_no_row(world: DjangoWorld) -> None:
    """P6"""
    gate = Gate()

    def held(ctx: Any) -> None:
        book(ctx)
        gate()

    worker = world.worker(transactional(held))
    run = worker.start("w", {})
    (token_id,) = world.publish()
    at_work = gate.hold(partial(follow, worker), token_id)
    run.cancel()

    gate.finish(at_work)

    assert booked() == []
    assert world.units(run) == []
    assert run.status().status == "cancelled"


BACKEND = "SELECT pg_terminate_backend(%s)"


def test_a_step_whose_connection_is_cut_each_time_is_not_tried_for_ever(
    world: DjangoWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """P5: it counts like a worker that dies."""

    def cut(ctx: Any) -> None:
        book(ctx)
        world.rows(BACKEND, connection.connection.info.backend_pid)

    worker = world.worker(transactional(cut), max_crashes=2)
    run = worker.start("w", {})

    world.drain(worker)

    assert error_of(run).type == "WorkerLost"
    assert booked() == []
    assert caplog.text.count("was cut; it is executed again") == 2


@pytest.mark.parametrize("was_done", [True, False])
def test_a_commit_whose_answer_was_lost_is_resolved_by_the_fence(
    world: DjangoWorld, monkeypatch: pytest.MonkeyPatch, was_done: bool
) -> None:
    """P3, P6: one row, whether the COMMIT was done or not."""
    from django.db.backends.base.base import BaseDatabaseWrapper  # noqa: PLC0415

    calls: list[str] = []
    commit = BaseDatabaseWrapper._commit

    def lose(self: Any) -> None:
        if not calls.count("lost"):
            calls.append("lost")
            pid = self.connection.info.backend_pid
            if was_done:
                commit(self)
            world.rows(BACKEND, pid)
            with self.wrap_database_errors:
                self.connection.execute("SELECT 1")
        commit(self)

    def counted(ctx: Any) -> None:
        calls.append("called")
        book(ctx)

    worker = world.worker(transactional(counted))
    run = worker.start("w", {})
    monkeypatch.setattr(BaseDatabaseWrapper, "_commit", lose)

    world.drain(worker)
    worker.recover()
    world.drain(worker)

    assert calls == ["called", "lost"] if was_done else ["called", "lost", "called"]
    assert booked() == ["lamp"]
    assert world.units(run) == ["book completed", "after completed"]


def test_an_idle_connection_that_the_server_has_ended_is_replaced(
    world: DjangoWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """P2: with CONN_MAX_AGE Django would meet it in the step. It is no outage of Postgres."""
    worker = world.worker(transactional(book))
    connection.ensure_connection()
    world.rows(BACKEND, connection.connection.info.backend_pid)
    run = worker.start("w", {})

    world.drain(worker)

    assert booked() == ["lamp"]
    assert world.units(run) == ["book completed", "after completed"]
    assert warnings(caplog) == []


def test_the_transaction_is_read_committed_and_lasting_whatever_django_says(
    world: DjangoWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P3"""
    found: list[Any] = []
    options = {"isolation_level": 4, "options": "-c synchronous_commit=off"}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    connection.close()

    def look(ctx: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('transaction_isolation')")
            found.append(cursor.fetchone()[0])
        transaction.on_commit(lambda: None)

    world.trigger(
        "AFTER INSERT ON durable_journal",
        "INSERT INTO orders_order (item, status, placed_at)"
        " VALUES (current_setting('synchronous_commit'), '', now());",
    )
    worker = world.worker(lambda d: d.workflow("w").step(look, transactional=True, retry=ONCE))
    worker.start("w", {})

    world.drain(worker)
    world.drop_trigger("durable_journal")
    world.rows("DROP FUNCTION of_the_test")
    connection.close()

    assert found == ["read committed"]
    assert booked() == ["on"]


def test_a_database_without_autocommit_is_refused(
    world: DjangoWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P12: Django would commit nothing."""
    monkeypatch.setitem(connection.settings_dict, "AUTOCOMMIT", False)
    worker = world.worker(transactional(book))
    with connection.cursor():  # opened without autocommit, so the start joins what is open
        pass
    transaction.rollback()
    run = worker.start("w", {})
    transaction.commit()

    world.drain(worker)

    assert world.units(run) == ["book failed"]
    assert "AUTOCOMMIT" in error_of(run).message
    connection.close()

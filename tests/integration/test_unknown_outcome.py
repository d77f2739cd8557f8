"""A connection is lost at the worst moment: whether the commit had happened is found by reading."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.errors import DatabaseUnavailable
from celery_durable.store.connection import (
    OwnTransaction,
)
from tests.integration.driving import World, defining, noting
from tests.integration.watching import Executed, lose_the_answer

Losing = Callable[[str], list[Executed]]


def cut_within(world: World, table: str, event: str = "INSERT", times: int = 1) -> None:
    """Postgres drops the connection in the middle of the statement: nothing is written."""
    world.rows("CREATE SEQUENCE cuts")
    cut = "PERFORM pg_terminate_backend(pg_backend_pid());"
    world.trigger(
        f"AFTER {event} ON durable_{table}", f"IF nextval('cuts') <= {times} THEN {cut} END IF;"
    )


@pytest.fixture
def lose_the_answer_of(monkeypatch: pytest.MonkeyPatch) -> Losing:
    """The next statement with these words in it is executed, and its answer never arrives."""

    def lose(words: str) -> list[Executed]:
        return lose_the_answer(monkeypatch, lambda executed: words in executed.text)

    return lose


@pytest.mark.parametrize("inline_steps", [1, 100])
def test_a_commit_whose_answer_was_lost_is_not_made_twice(
    world: World, lose_the_answer_of: Losing, inline_steps: int
) -> None:
    """P3: nor is its unit executed again."""
    log: list[str] = []
    worker = world.worker(defining(log, "a", "b"), inline_steps=inline_steps)
    run = worker.start("w", {})
    lost = lose_the_answer_of("INSERT INTO public.durable_journal")

    world.drain(worker)

    assert lost
    assert log == ["a", "b"]
    assert world.units(run) == ["a completed", "b completed"]
    assert run.status().status == "completed"


def test_the_last_commit_of_a_run_whose_answer_was_lost_stands(
    world: World, lose_the_answer_of: Losing
) -> None:
    """P3"""
    log: list[str] = []
    worker = world.worker(defining(log, "a"))
    run = worker.start("w", {})
    lost = lose_the_answer_of("DELETE FROM public.durable_token")

    world.drain(worker)
    worker.recover()
    world.drain(worker)

    assert lost
    assert log == ["a"]
    assert run.status().status == "completed"


@pytest.mark.parametrize("where", ["run", "branch"])
def test_a_final_failure_whose_answer_was_lost_is_logged(
    world: World,
    lose_the_answer_of: Losing,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    """The commit that ends a run, or a branch, leaves no token that would know of it."""

    def fail(_: Any) -> None:
        raise ValueError("no such file")

    def define(durable: Durable) -> None:
        step = durable.step(name="a", retry=RetryPolicy(1))(fail)
        workflow = durable.workflow("w")
        if where == "run":
            workflow.step(step)
        else:
            workflow.parallel("p", {"a": step})

    worker = world.worker(define)
    run = worker.start("w", {})
    lost = lose_the_answer_of("DELETE FROM public.durable_token")

    world.drain(worker)

    assert lost
    assert run.status().status == "failed"
    unit = "a" if where == "run" else "p#a"
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    (logged,) = [record for record in errors if f"w.{unit} of run" in record.getMessage()]
    assert "failed for good at attempt 1: ValueError: no such file" in logged.getMessage()
    assert logged.exc_info is not None


def test_a_retry_whose_answer_was_lost_counts_once(
    world: World, lose_the_answer_of: Losing
) -> None:
    """P3"""
    attempts: list[int] = []

    def fail(ctx: Any) -> None:
        attempts.append(ctx.attempt)
        raise ValueError

    def define(durable: Durable) -> None:
        durable.workflow("w").step(fail, retry=RetryPolicy(3, initial=60))

    worker = world.worker(define)
    run = worker.start("w", {})
    lost = lose_the_answer_of("INSERT INTO public.durable_outbox")
    for _ in range(6):
        world.drain(worker)
        world.let_time_pass(61)

    assert lost
    assert attempts == [1, 2, 3]
    assert run.status().status == "failed"


def test_a_claim_whose_answer_was_lost_is_sent_again_and_finds_itself(
    world: World, lose_the_answer_of: Losing
) -> None:
    """P2, P5: nothing waits for the worker's audit."""
    log: list[str] = []
    worker = world.worker(defining(log, "a"))
    run = worker.start("w", {})
    lost = lose_the_answer_of("WITH quiet")
    (token_id,) = world.publish()

    worker.engine.advance(token_id)

    assert lost
    assert log == ["a"]
    assert run.status().status == "completed"


@pytest.mark.parametrize("table", ["journal", "outbox"])
def test_a_connection_lost_before_the_commit_repeats_the_commit_not_the_unit(
    world: World, table: str
) -> None:
    """P3"""
    log: list[str] = []
    worker = world.worker(defining(log, "a", "b"), inline_steps=1)
    run = worker.start("w", {})
    cut_within(world, table, times=2)

    world.drain(worker)

    assert log == ["a", "b"]
    assert world.units(run) == ["a completed", "b completed"]
    assert world.one("SELECT last_value FROM cuts") >= 3, "it was cut"


def booking(log: list[str]) -> Callable[[Durable], None]:
    def book(ctx: Any) -> None:
        log.append("book")
        ctx.session.connection().exec_driver_sql("INSERT INTO ledger VALUES (1)")

    def define(durable: Durable) -> None:
        durable.workflow("w").step(book, transactional=True, retry=RetryPolicy(1)).step(
            noting(log, "after")
        )

    return define


def test_a_transactional_commit_whose_answer_was_lost_stands(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P6: its row is there once, and the run goes on."""
    world.rows("CREATE TABLE ledger (amount integer)")
    log: list[str] = []
    worker = world.worker(booking(log))
    run = worker.start("w", {})
    commit = OwnTransaction.commit
    cuts: list[str] = []

    def cut_after(self: OwnTransaction) -> None:
        commit(self)
        if not cuts:
            cuts.append("cut")
            raise DatabaseUnavailable("cut after COMMIT")

    monkeypatch.setattr(OwnTransaction, "commit", cut_after)
    world.drain(worker)

    assert cuts
    assert log == ["book", "after"]
    assert world.one("SELECT count(*) FROM ledger") == 1
    assert run.status().status == "completed"


def test_a_transactional_step_cut_before_its_commit_is_executed_again(world: World) -> None:
    """P6: nothing of it was written; it is no failed try."""
    world.rows("CREATE TABLE ledger (amount integer)")
    log: list[str] = []
    worker = world.worker(booking(log))
    run = worker.start("w", {})
    cut_within(world, "journal")

    world.drain(worker)

    assert log == ["book", "book", "after"]
    assert world.one("SELECT count(*) FROM ledger") == 1
    assert run.status().status == "completed"
    assert run.history()[0].attempt == 1


def test_a_worker_without_a_database_leaves_the_hint_to_recovery(world: World) -> None:
    """P2: the message is taken in the end, and nothing is raised."""
    worker = world.worker(defining([], "a"))
    run = worker.start("w", {})
    nowhere = "postgresql://127.0.0.1:1/none"
    elsewhere = world.worker(defining([], "a"), database_url=nowhere, worker_ttl=0.3)
    elsewhere.engine.advance(world.token_id(run))
    assert run.status().status == "running"

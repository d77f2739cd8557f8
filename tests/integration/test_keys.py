"""A start whose key another run has: that is returned, refused, cancelled, or gives the key up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from celery_durable import Durable, GiveUp, Run, RunExists
from celery_durable.errors import ConfigurationError
from celery_durable.store import runs
from tests.addresses import conninfo
from tests.integration.driving import Gate, World, all_at_once, defining, noting, spawn, warnings
from tests.waiting import wait_until


@pytest.fixture
def durable(world: World, log: list[str]) -> Durable:
    return world.worker(defining(log, "a"))


def key_of(world: World, run: Run) -> str | None:
    found: str | None = world.one("SELECT key FROM durable_run WHERE id = %s", run.id)
    return found


def test_a_start_that_raises_names_the_run_its_key_and_its_status(
    world: World, durable: Durable
) -> None:
    first = durable.start("w", {}, key="k", on_conflict="raise")
    assert first.created
    with pytest.raises(RunExists, match="is running") as refused:
        durable.start("w", {}, key="k", on_conflict="raise")
    error = refused.value
    found = (error.run_id, error.workflow, error.key, error.status)
    assert found == (first.id, "w", "k", "running")
    assert world.counts()["run"] == 1


def test_a_run_that_has_ended_and_keeps_its_key_is_there_too(
    world: World, durable: Durable
) -> None:
    """For a run that has ended there is nothing to cancel: it is returned."""
    first = durable.start("w", {}, key="k")
    world.drain(durable)
    with pytest.raises(RunExists, match="is completed"):
        durable.start("w", {}, key="k", on_conflict="raise")
    second = durable.start("w", {}, key="k", on_conflict="cancel", reuse_key="after_failure")
    assert (second, second.created) == (first, False)
    assert first.status().status == "completed"


@pytest.mark.parametrize("ending", ["completed", "failed", "cancelled"])
@pytest.mark.parametrize("reuse_key", ["never", "after_failure", "always"])
def test_the_key_of_a_run_that_has_ended_moves_as_reuse_key_says(
    world: World, ending: str, reuse_key: Any
) -> None:
    def define(durable: Durable) -> None:
        def end(ctx: Any) -> None:
            if ctx.input == "failed":
                raise GiveUp("no")

        durable.workflow("w").step(end)

    durable = world.worker(define)
    first = durable.start("w", ending, key="k")
    if ending == "cancelled":
        first.cancel()
    world.drain(durable)
    assert first.status().status == ending

    second = durable.start("w", ending, key="k", reuse_key=reuse_key)
    moves = reuse_key == "always" or (reuse_key == "after_failure" and ending != "completed")
    assert (second.created, second != first) == (moves, moves)
    assert key_of(world, second) == "k"
    assert (key_of(world, first) is None) is moves
    assert durable.run(workflow="w", key="k") == second


def test_always_makes_a_singleton_while_it_is_active(world: World, durable: Durable) -> None:
    first = durable.start("w", {}, key="k", reuse_key="always")
    assert durable.start("w", {}, key="k", reuse_key="always") == first
    world.drain(durable)
    second = durable.start("w", {}, key="k", reuse_key="always")
    assert second.created
    assert second != first


def test_an_active_run_is_cancelled_and_another_has_its_key(
    world: World, durable: Durable, log: list[str]
) -> None:
    first = durable.start("w", {}, key="k")
    second = durable.start("w", {}, key="k", on_conflict="cancel")

    assert second.created
    assert (key_of(world, first), key_of(world, second)) == (None, "k")
    snapshot = first.status()
    assert snapshot.status == "cancelled", "nobody was executing it"
    assert (
        snapshot.cancel_reason
        == f"replaced by run {second.id}, which was started with the same key"
    )
    world.drain(durable)
    assert second.status().status == "completed"
    assert log == ["a"]


def test_what_the_cancelled_run_executes_is_dropped(world: World, log: list[str]) -> None:
    gate = Gate()
    worker = world.worker(defining(log, "a", "b", gate=gate))
    first = worker.start("w", {}, key="k")
    at_work = gate.hold(worker.engine.advance, world.token_id(first))
    second = worker.start("w", {}, key="k", on_conflict="cancel")
    gate.finish(at_work)
    world.drain(worker)

    assert [run.status().status for run in (first, second)] == ["cancelled", "completed"]
    assert log == ["a", "a", "b"]
    assert world.units(first) == ["a cancelled"]


@pytest.mark.parametrize("options", [{"reuse_key": "always"}, {"on_conflict": "cancel"}])
def test_a_start_that_is_rolled_back_leaves_the_key_where_it_was(
    world: World, durable: Durable, options: dict[str, Any]
) -> None:
    """P7"""
    first = durable.start("w", {}, key="k")
    if "reuse_key" in options:
        world.drain(durable)
    with psycopg.connect(conninfo(world.url)) as caller:
        second = durable.start("w", {}, key="k", session=caller, **options)
        assert second.created
        caller.rollback()
    world.drain(durable)

    assert first.status().status == "completed"
    assert key_of(world, first) == "k"
    assert world.counts()["run"] == 1


def test_a_cancel_and_a_start_join_the_callers_transaction_together(
    world: World, durable: Durable, log: list[str]
) -> None:
    """P7"""
    first = durable.start("w", {}, key="k")
    with psycopg.connect(conninfo(world.url)) as caller:
        second = durable.start("w", {}, key="k", session=caller, on_conflict="cancel")
        assert first.status().status == "running"
        assert durable.run(workflow="w", key="k") == first
        caller.commit()
    world.drain(durable)

    assert [run.status().status for run in (first, second)] == ["cancelled", "completed"]
    assert log == ["a"]


@pytest.mark.parametrize("ending", ["commit", "rollback"])
@pytest.mark.parametrize("options", [{"reuse_key": "always"}, {"on_conflict": "cancel"}])
def test_a_start_waits_for_the_transaction_that_moves_its_key(
    world: World, durable: Durable, ending: str, options: dict[str, Any]
) -> None:
    """P7: what it finds then is what counts."""
    first = durable.start("w", {}, key="k")
    if "reuse_key" in options:
        world.drain(durable)
    with psycopg.connect(conninfo(world.url)) as caller:
        second = durable.start("w", {}, key="k", session=caller, **options)
        late = spawn(lambda: durable.start("w", {}, key="k", **options))
        wait_until(world.waiting_for_locks, message="the late start to wait")
        assert not late.done()
        getattr(caller, ending)()

    third = late.result(20)
    is_second = ending == "commit" and "reuse_key" in options
    assert third.created is not is_second
    assert (third == second) is is_second
    held = world.rows("SELECT id FROM durable_run WHERE key = 'k'")
    assert held == [{"id": third.id}]
    assert world.counts()["run"] == (3 if ending == "commit" and not is_second else 2)
    world.drain(durable)
    assert third.status().status == "completed"
    assert first.status().status == ("completed" if "reuse_key" in options else "cancelled")


def test_a_key_that_was_moved_after_it_was_looked_up_is_looked_up_again(
    world: World, durable: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two starts have both seen the run that has ended: one takes its key, the other finds that."""
    first = durable.start("w", {}, key="k")
    world.drain(durable)
    quicker: list[Run] = []
    after_a_look(
        monkeypatch,
        lambda: quicker.append(durable.start("w", {}, key="k", reuse_key="always")),
    )
    second = durable.start("w", {}, key="k", reuse_key="always")

    assert [run.created for run in quicker] == [True]
    assert (second, second.created) == (quicker[0], False)
    assert second != first
    assert world.counts()["run"] == 2


def test_a_run_that_ends_after_it_was_looked_up_is_not_cancelled(
    world: World, durable: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = durable.start("w", {}, key="k")
    after_a_look(monkeypatch, lambda: world.drain(durable))
    second = durable.start("w", {}, key="k", on_conflict="cancel")

    assert (second, second.created) == (first, False)
    assert first.status().status == "completed"
    assert world.counts()["inbox"] == 0


def test_a_run_that_lost_its_key_after_it_was_looked_up_is_not_cancelled(
    world: World, durable: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = durable.start("w", {}, key="k")
    give_up = "UPDATE durable_run SET key = NULL"
    after_a_look(monkeypatch, lambda: world.rows(give_up))
    second = durable.start("w", {}, key="k", on_conflict="cancel")

    assert second.created
    assert first.status().status == "running"
    assert world.counts()["inbox"] == 0


def test_a_joined_cancel_reaches_a_run_that_waits(world: World) -> None:
    durable = world.worker(lambda made: made.workflow("w").wait_for_signal("go"))
    first = durable.start("w", {}, key="k")
    world.drain(durable)
    with psycopg.connect(conninfo(world.url)) as caller:
        durable.start("w", {}, key="k", session=caller, on_conflict="cancel")
        caller.commit()
    world.drain(durable)
    assert first.status().status == "cancelled"


def after_a_look(monkeypatch: pytest.MonkeyPatch, call: Callable[[], object]) -> None:
    """Call it once, between a start's look for the run that has its key and what it does then."""
    look, calls = runs.holder_of, [call]

    def look_and_call(*arguments: Any) -> Any:
        found = look(*arguments)
        if calls:
            calls.pop()()
        return found

    monkeypatch.setattr(runs, "holder_of", look_and_call)


@pytest.mark.parametrize("options", [{"reuse_key": "always"}, {"on_conflict": "cancel"}])
def test_of_eight_starts_at_once_one_run_has_the_key(
    world: World, durable: Durable, options: dict[str, Any]
) -> None:
    first = durable.start("w", {}, key="k")
    if "reuse_key" in options:
        world.drain(durable)
    started = all_at_once([lambda: durable.start("w", {}, key="k", **options)] * 8)

    created = {run for run in started if run.created}
    assert len(created) == (1 if "reuse_key" in options else 8)
    (holder,) = (run for run in created if key_of(world, run) == "k")
    world.drain(durable)
    assert holder.status().status == "completed"
    if "on_conflict" in options:
        others = {first, *created} - {holder}
        assert {run.status().status for run in others} == {"cancelled"}


def test_a_key_that_moved_unseen_fails_a_repeatable_read(world: World, durable: Durable) -> None:
    """P7: the error is the caller's, who repeats the transaction."""
    durable.start("w", {}, key="k")
    world.drain(durable)
    with psycopg.connect(conninfo(world.url)) as caller:
        caller.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        caller.execute("SELECT 1 FROM durable_run")
        durable.start("w", {}, key="k", reuse_key="always")
        with pytest.raises((ConfigurationError, psycopg.errors.SerializationFailure)):
            durable.start("w", {}, key="k", reuse_key="always", session=caller)
    assert world.counts()["run"] == 2


def test_a_start_whose_input_is_not_that_of_the_run_it_returns_is_warned_of(
    world: World, durable: Durable, caplog: pytest.LogCaptureFixture
) -> None:
    first = durable.start("w", {"n": 1, "m": "ä"}, key="k")
    assert not durable.start("w", {"m": "ä", "n": 1}, key="k").created
    assert warnings(caplog) == []
    assert not durable.start("w", {"n": 2}, key="k").created
    (said,) = warnings(caplog)
    for word in (str(first.id), "'k'", "another input"):
        assert word in said


def test_a_workflow_and_the_async_twin_take_both_options(world: World, log: list[str]) -> None:
    durable = world.worker(lambda made: made.workflow("w").step(noting(log, "a")))
    workflow = durable.registry.find("w")
    assert workflow is not None
    first = workflow.start({}, key="k")
    with pytest.raises(RunExists):
        workflow.start({}, key="k", on_conflict="raise")
    second = asyncio.run(durable.astart(workflow, {}, key="k", on_conflict="cancel"))
    world.drain(durable)
    assert asyncio.run(durable.astart("w", {}, key="k", reuse_key="always")).created
    assert [run.status().status for run in (first, second)] == ["cancelled", "completed"]


def test_a_delayed_run_does_not_begin_after_its_cancel_has_committed(world: World) -> None:
    """P3: the transaction that replaces it holds its row while a worker marks it as begun."""
    log: list[str] = []
    worker, client = (world.worker(defining(log, "a")) for _ in range(2))
    run = worker.start("w", {}, key="k", delay=60)
    world.let_time_pass(61)
    (hint,) = world.publish()
    engine = sa.create_engine(world.url)
    with Session(engine) as session:
        client.start("w", {}, key="k", on_conflict="cancel", session=session)
        at_work = spawn(worker.engine.advance, hint)
        wait_until(lambda: world.waiting_for_locks() > 0, message="the worker to wait for the row")
        session.commit()
    at_work.result(timeout=30)
    engine.dispose()
    assert log == []
    assert run.status().status == "cancelled"

"""What others do to a run while it is pruned, and just after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from celery_durable import Durable, RunNotFound
from celery_durable.store import runs
from celery_durable.store.pruning import finding, locking
from celery_durable.store.pruning.locking import Member
from celery_durable.store.read import outcome, results
from tests.integration.driving import PATIENCE, World, defining, spawn
from tests.integration.pruned import NOTHING, Past
from tests.waiting import wait_until

AT = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def past(world: World) -> Past:
    return Past(world)


def test_a_fork_that_came_after_the_tree_was_walked_keeps_the_run(
    world: World, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = past.run()
    lock_trees = locking.lock_trees

    def walk_and_lock(*arguments: Any) -> Sequence[Member]:
        walked = lock_trees(*arguments)
        past.run(forked_from=run, days=1)
        return walked

    monkeypatch.setattr(locking, "lock_trees", walk_and_lock)
    assert world.worker().prune() == 0
    assert run in past.left()


def test_a_run_whose_fork_is_not_committed_yet_stays(world: World, past: Past) -> None:
    """Whoever makes a fork locks the run that it reads from."""
    run = past.run()
    with world.connect() as other, other.transaction():
        other.execute("SELECT FROM durable_run WHERE id = %s FOR KEY SHARE", [run])
        assert world.worker().prune() == 0
    assert past.left() == {run}
    assert world.worker().prune() == 1


def test_a_tree_stays_while_one_of_its_runs_is_locked(world: World, past: Past) -> None:
    chain = past.chain(3)
    others = past.runs(3)
    with world.connect() as other, other.transaction():
        other.execute("SELECT FROM durable_run WHERE id = %s FOR KEY SHARE", [chain[-1]])
        assert world.worker().prune() == len(others)
    assert past.left() == {*chain}


@pytest.mark.parametrize("which", ["top", "child"])
def test_a_run_that_goes_on_after_all_stays(world: World, past: Past, which: str) -> None:
    """Its compensation is tried again, after it was found."""
    top = past.run(status="failed")
    child = past.run(parent=top, status="failed")
    run = {"top": top, "child": child}[which]

    reopened: list[UUID] = []
    seen = finding.tops

    def found_and_reopened(*arguments: Any) -> Any:
        found = seen(*arguments)
        if found and not reopened:
            reopened.append(run)
            world.rows(
                "UPDATE durable_run SET status = 'compensating', finished_at = NULL WHERE id = %s",
                run,
            )
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(finding, "tops", found_and_reopened)
        assert world.worker().prune() == 0
    assert past.left() == {top, child}


def test_a_run_that_ended_anew_since_it_was_found_stays_for_its_time(
    world: World, past: Past
) -> None:
    run = past.run(status="failed")
    seen = finding.tops

    def found_and_ended_anew(*arguments: Any) -> Any:
        found = seen(*arguments)
        if found:
            past.age(run, days=0)
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(finding, "tops", found_and_ended_anew)
        assert world.worker().prune() == 0
    assert past.left() == {run}


def test_a_run_that_changed_between_the_walk_and_its_lock_stays(
    world: World, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was below it when the tree was walked may not be all that is below it."""
    past.run(parent=past.run())
    lock_trees = locking.lock_trees

    def changed(*arguments: Any) -> Sequence[Member]:
        walked = lock_trees(*arguments)
        return [replace(one, finished_at=AT) if one.top != one.id else one for one in walked]

    monkeypatch.setattr(locking, "lock_trees", changed)
    assert world.worker().prune() == 0


def test_a_locked_row_that_nobody_may_skip_holds_nothing_up(world: World, past: Past) -> None:
    """The run stays until the next pass."""
    run, _ = past.run(), past.run()
    with world.connect() as holder, holder.transaction():
        holder.execute("SELECT FROM durable_inbox WHERE run_id = %s FOR UPDATE", [run])
        assert world.worker().prune() in (0, 1)
    assert run in past.left()
    world.worker().prune()
    assert past.rows() == NOTHING


def test_the_key_of_a_pruned_run_is_free(world: World, past: Past) -> None:
    worker = world.worker(defining([], "a"))
    run = past.run(key="k")
    assert worker.start("w", {}, key="k").id == run
    assert worker.prune() == 1
    again = worker.start("w", {}, key="k")
    assert again.created
    world.drain(worker)
    assert again.result(PATIENCE) == {"a": None}


def test_a_start_with_the_key_of_a_run_that_is_just_being_deleted_waits_and_starts(
    world: World, past: Past
) -> None:
    worker = world.worker(defining([], "a"))
    run = past.run(key="k")
    with world.connect() as other, other.transaction():
        other.execute("DELETE FROM durable_run WHERE id = %s", [run])
        started = spawn(lambda: worker.start("w", {}, key="k"))
        wait_until(world.waiting_for_locks, message="the start to wait")
    assert started.result(PATIENCE).created


def test_a_start_whose_key_was_taken_when_it_came_and_is_free_now_starts(
    world: World, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = world.worker(defining([], "a"))
    past.run(key="k")
    holder_of = runs.holder_of

    def pruned_before(*arguments: Any) -> Any:
        worker.prune()
        return holder_of(*arguments)

    monkeypatch.setattr(runs, "holder_of", pruned_before)
    assert worker.start("w", {}, key="k").created


def test_whoever_asks_for_a_pruned_run_is_told_that_there_is_none(world: World, past: Past) -> None:
    worker = world.worker()
    run = worker.run(past.run())
    assert not run.resume("go").accepted
    worker.prune()
    for ask in (run.status, run.history, run.why, run.cancel, run.result):
        with pytest.raises(RunNotFound):
            ask()
    with pytest.raises(RunNotFound):
        run.resume("go")
    assert past.rows() == NOTHING


def test_a_result_that_is_read_while_its_children_go_is_of_no_run(
    world: World, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result of a child is read by a second statement."""

    def define(durable: Durable) -> None:
        child = durable.workflow("child").step(lambda _: 1, name="one")
        durable.workflow("w").child_workflow("c", child)

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)
    assert run.result(PATIENCE) == {"c": {"one": 1}}
    past.age(run.id)

    class PrunedMeanwhile(results.Tree):
        def load(self, run_ids: Any) -> None:
            worker.prune()
            super().load(run_ids)

    monkeypatch.setattr(outcome, "Tree", PrunedMeanwhile)
    with pytest.raises(RunNotFound):
        run.result(PATIENCE)


def test_a_signal_that_is_committed_after_its_run_was_pruned_is_forgotten(
    world: World, past: Past
) -> None:
    worker = world.worker(defining([], "a"))
    run = worker.start("w", {})
    with world.connect() as other, other.transaction():
        assert run.resume("go", session=other).accepted
        world.drain(worker)
        assert worker.prune(older_than=0) == 1
    assert past.rows() == {**NOTHING, "inbox": 1}
    worker.recover()
    assert past.rows() == NOTHING


def test_a_cancel_that_is_committed_after_its_run_was_pruned_is_forgotten(
    world: World, past: Past
) -> None:
    worker = world.worker(defining([], "a"))
    run = worker.start("w", {})
    with world.connect() as other, other.transaction():
        run.cancel(session=other)
        world.drain(worker)
        assert worker.prune(older_than=0) == 1
    worker.recover()
    assert past.rows() == NOTHING


def test_signals_of_unfinished_runs_are_not_forgotten(world: World, past: Past) -> None:
    """P9"""
    worker = world.worker(defining([], "a"))
    run = worker.start("w", {})
    assert run.resume("go").accepted
    worker.prune(older_than=0)
    worker.recover()
    assert past.rows()["inbox"] == 1

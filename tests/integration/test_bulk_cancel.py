"""A cancel of many runs at once: trees that overlap, tokens that are locked, other commands."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from celery_durable import BulkResult, Durable, Run
from celery_durable.background import cancelling
from celery_durable.bulk import actions
from celery_durable.store import inbox
from celery_durable.store.connection import Statement
from tests.integration.driving import Gate, World, all_at_once, noting
from tests.integration.hearing import hearing


def done(n: int) -> BulkResult:
    return BulkResult(matched=n, done=n)


class Trees:
    """Runs of `top`, each with a `middle`, which has a `low` in a branch; that waits for `go`."""

    def __init__(self, world: World, n: int = 3, *, at_gate: bool = False) -> None:
        self.world = world
        self.log: list[str] = []
        self.gate = Gate()
        self._is_at_gate = at_gate
        self.worker = world.worker(self.define)
        self.tops = [self.worker.start("top", {"n": number}) for number in range(n)]
        if not at_gate:
            world.drain(self.worker)
            assert self.statuses() == ["running"] * 3 * n

    def define(self, durable: Durable) -> None:
        low = durable.workflow("low")
        if self._is_at_gate:
            low.step(noting(self.log, "low", gate=self.gate))
        else:
            low.wait_for_signal("go")
        other = durable.step(noting(self.log, "other"), name="other")
        middle = durable.workflow("middle").parallel("p", {"low": low, "other": other})
        durable.workflow("top").child_workflow("c", middle).step(noting(self.log, "after"))

    def of(self, workflow: str) -> list[Run]:
        found = [self.worker.run(one.run_id) for one in self.worker.list(workflow=workflow)]
        return found[::-1]

    def statuses(self) -> list[str]:
        return [row["status"] for row in self.world.rows("SELECT status FROM durable_run")]


def test_trees_that_overlap_end_at_once(world: World) -> None:
    """Tops, children and theirs match all, and each ends once."""
    trees = Trees(world)
    with hearing("run_cancelled") as heard:
        assert trees.worker.bulk("cancel", everything=True, reason="closed") == done(9)
    assert trees.statuses() == ["cancelled"] * 9
    assert len({one["run_id"] for one in heard.of("run_cancelled")}) == len(heard) == 9
    counts = world.counts()
    assert (counts["token"], counts["inbox"], counts["outbox"]) == (0, 0, 0)


def test_in_trees_that_overlap_what_is_executed_ends_its_run(world: World) -> None:
    trees = Trees(world, 1, at_gate=True)
    at_work = trees.gate.hold(lambda: world.drain(trees.worker))
    assert trees.worker.bulk("cancel", everything=True) == done(3)
    assert trees.statuses() == ["running"] * 3
    trees.gate.finish(at_work)
    world.drain(trees.worker)
    assert trees.statuses() == ["cancelled"] * 3
    assert trees.log.count("low") == 1
    assert "after" not in trees.log


def test_of_children_alone_each_parent_is_told(world: World) -> None:
    trees = Trees(world)
    assert trees.worker.bulk("cancel", workflow="middle") == done(3)
    assert [world.status(run) for run in trees.of("low")] == ["cancelled"] * 3
    assert [world.status(run) for run in trees.tops] == ["running"] * 3
    assert world.hints() == 3
    world.drain(trees.worker)
    assert [world.status(run) for run in trees.tops] == ["failed"] * 3


def test_grandchildren_that_match_with_their_grandparents_tell_the_run_between(
    world: World,
) -> None:
    """`middle` matches nothing, and is between two that do."""
    trees = Trees(world)
    (top, *others), lows = trees.tops, trees.of("low")
    world.rows("UPDATE durable_run SET tags = '{\"a\": \"b\"}' WHERE workflow <> 'middle'")
    world.rows("UPDATE durable_run SET tags = '{}' WHERE id = ANY(%s)", [one.id for one in others])
    assert trees.worker.bulk("cancel", tags={"a": "b"}) == done(4)
    assert world.status(top) == "cancelled"
    assert [world.status(run) for run in lows] == ["cancelled"] * 3
    world.drain(trees.worker)
    assert [world.status(run) for run in others] == ["failed"] * 2
    assert world.counts()["token"] == 0


def test_what_another_has_asked_for_counts_too(world: World) -> None:
    """Somebody has asked one of the runs to compensate, and that is not applied yet."""

    def define(durable: Durable) -> None:
        step = durable.step(noting(log, "a"), name="a", compensate=noting(log, "undo"))
        durable.workflow("w").step(step).wait_for_signal("go")

    log: list[str] = []
    worker = world.worker(define)
    runs = [worker.start("w") for _ in range(3)]
    world.drain(worker)
    command = inbox.Cancel(compensate=True, reason="theirs")
    with worker.database.autocommit() as connection:
        inbox.send(connection, runs[1].id, command)
    assert worker.bulk("cancel", workflow="w", reason="ours") == done(3)
    world.drain(worker)
    assert log.count("undo") == 1
    reasons = [run.status().error for run in runs]
    assert [one.message for one in reasons if one] == ["ours", "theirs", "ours"]
    assert world.counts()["inbox"] == 0


def test_a_locked_token_keeps_no_other_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its run is asked, and recovery does the rest."""
    monkeypatch.setattr(actions, "PATIENCE", 0.05)
    worker = world.worker(lambda durable: durable.workflow("w").wait_for_signal("go"))
    runs = [worker.start("w") for _ in range(5)]
    world.drain(worker)
    with world.connect() as blocker, blocker.transaction():
        query = b"SELECT 1 FROM durable_token WHERE run_id = %s FOR UPDATE"
        blocker.execute(query, [runs[2].id])
        assert worker.bulk("cancel", workflow="w") == done(5)
        assert [world.status(run) for run in runs].count("cancelled") == 4
    worker.recover()
    assert world.status(runs[2]) == "cancelled"


def test_a_process_that_dies_after_it_has_asked_leaves_the_rest_to_recovery(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2"""
    worker = world.worker(lambda durable: durable.workflow("w").wait_for_signal("go"))
    runs = [worker.start("w") for _ in range(5)]
    world.drain(worker)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(actions, "apply_commands_of", die)
        with pytest.raises(KeyboardInterrupt):
            worker.bulk("cancel", workflow="w")
    assert {world.status(run) for run in runs} == {"running"}
    worker.recover()
    assert {world.status(run) for run in runs} == {"cancelled"}


def test_a_bulk_and_single_cancels_at_once_end_each_run_once(world: World) -> None:
    trees = Trees(world, 4)
    other = world.worker(trees.define)
    calls: list[Callable[[], object]] = [
        partial(trees.worker.bulk, "cancel", everything=True),
        partial(other.bulk, "cancel", workflow="middle"),
        *(partial(other.cancel, run.id) for run in trees.of("low")),
    ]
    with hearing("run_cancelled") as heard:
        all_at_once(calls)
    trees.worker.recover()
    world.drain(trees.worker, other)
    ended = [one["run_id"] for one in heard.of("run_cancelled")]
    assert len(ended) == len(set(ended))
    counts = world.counts()
    assert (counts["token"], counts["inbox"]) == (0, 0)
    assert set(trees.statuses()) <= {"cancelled", "failed"}


def test_runs_that_time_out_together_fail_and_their_children_are_cancelled(world: World) -> None:
    """`apply_commands_of` of commands with flags for the tops alone."""
    trees = Trees(world, 2)
    with trees.worker.database.autocommit() as connection:
        for run in trees.tops:
            command = inbox.Cancel(compensate=True, reason="too long", timed_out=True)
            inbox.send(connection, run.id, command)
    assert cancelling.apply_commands_of(trees.worker.database, [r.id for r in trees.tops]) == 2
    world.drain(trees.worker)
    assert [world.status(run) for run in trees.tops] == ["failed"] * 2
    assert {world.status(run) for run in (*trees.of("middle"), *trees.of("low"))} == {"cancelled"}


def test_a_tree_of_many_takes_as_many_statements_as_one(
    world: World, statements: list[Statement]
) -> None:
    trees = Trees(world, 12)
    statements.clear()
    trees.worker.cancel(trees.tops[0].id)
    alone = len(statements)
    statements.clear()
    assert trees.worker.bulk("cancel", workflow="top") == done(11)
    assert len(statements) <= alone + 5

"""P10: definitions may change while runs are in flight."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable.errors import DuplicateWorkflow, UnknownWorkflow
from celery_durable.run import Run
from tests.integration.driving import Define, World, defining, noting
from tests.integration.workflows import fail


def at(world: World, define: Define, steps_done: int) -> Run:
    """A run that an older release has brought past so many steps."""
    old = world.worker(define, inline_steps=1)
    run = old.start("w", {})
    for _ in range(steps_done):
        (token_id,) = world.publish()
        old.engine.advance(token_id)
    return run


def test_nodes_added_after_where_a_run_stands_are_executed(world: World) -> None:
    """P10"""
    log: list[str] = []
    run = at(world, defining(log, "a", "b"), 1)

    world.drain(world.worker(defining(log, "a", "b", "c")))

    assert log == ["a", "b", "c"]
    snapshot = run.status()
    assert snapshot.status == "completed"
    assert snapshot.steps == ("a", "b", "c")


def test_nodes_removed_after_where_a_run_stands_are_not_missed(world: World) -> None:
    """P10"""
    log: list[str] = []
    run = at(world, defining(log, "a", "b", "c"), 1)

    world.drain(world.worker(defining(log, "a", "b")))

    assert log == ["a", "b"]
    assert run.status().status == "completed"


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (("a", "c"), "its node is gone"),
        (("b", "c"), "a node before it is gone"),
        (("a", "other", "c"), "its node has another name"),
        (("a", "new", "b", "c"), "a node was put in before it"),
        (("b", "a", "c"), "the order is another"),
    ],
)
def test_a_run_that_cannot_find_its_way_is_left_alone_with_one_warning(
    world: World, caplog: pytest.LogCaptureFixture, names: tuple[str, ...], what: str
) -> None:
    """P10: it is neither failed nor completed; a worker that has the old definition ends it."""
    log: list[str] = []
    old = defining(log, "a", "b", "c")
    run = at(world, old, 1)
    changed = world.worker(defining(log, *names))

    for _ in range(3):
        world.drain(changed)
        world.let_time_pass(100)

    assert log == ["a"], what
    token = world.token(run)
    assert (token["node"], token["claimed_by"], token["attempt"], token["crashes"]) == (
        "b",
        None,
        1,
        0,
    )
    assert run.status().status == "running"
    warnings = [r for r in caplog.records if "is left to other workers" in r.getMessage()]
    assert len(warnings) == 1
    assert "'b', where the run stands" in warnings[0].getMessage()

    world.drain(world.worker(old))
    assert log == ["a", "b", "c"]
    assert run.status().status == "completed"


def test_a_new_run_of_a_changed_definition_is_not_held_up_by_an_old_one(world: World) -> None:
    """P10"""
    log: list[str] = []
    old_run = at(world, defining(log, "a", "b", "c"), 1)
    changed = world.worker(defining(log, "a", "x"))

    new_run = changed.start("w", {})
    world.drain(changed)

    assert log == ["a", "a", "x"]
    assert new_run.status().status == "completed"
    assert old_run.status().status == "running"


def test_a_rollback_needs_the_compensator_it_stands_at(world: World) -> None:
    """P10"""
    log: list[str] = []

    def with_undo(durable: Any) -> None:
        a = durable.step(noting(log, "a"))
        a.compensate(noting(log, "undo a"))
        durable.workflow("w").step(a).step(fail)

    def without(durable: Any) -> None:
        durable.workflow("w").step(noting(log, "a")).step(fail)

    old = world.worker(with_undo, inline_steps=1, default_retry={"max_attempts": 1})
    run = old.start("w", {})
    for _ in range(2):
        (token_id,) = world.publish()
        old.engine.advance(token_id)
    assert run.status().status == "compensating"

    world.drain(world.worker(without))
    assert run.status().status == "compensating"
    world.let_time_pass(100)
    world.drain(old)
    assert log == ["a", "undo a"]
    assert run.status().status == "failed"


@pytest.mark.parametrize("knows", ["nothing", "another version"])
def test_a_worker_that_does_not_know_the_workflow_leaves_its_runs_alone(
    world: World, caplog: pytest.LogCaptureFixture, knows: str
) -> None:
    """P10: and says so; the run is offered again, later each time."""
    log: list[str] = []
    knowing = world.worker(defining(log, "a"))
    run = knowing.start("w", {})

    def another(durable: Any) -> None:
        durable.workflow("w", version=2).step(noting(log, "a of 2"))

    stranger = world.worker(another if knows == "another version" else None)
    world.drain(stranger)
    (row,) = world.rows(
        "SELECT available_at - clock_timestamp() > interval '0.4 seconds' AS later"
        " FROM durable_outbox"
    )
    assert row["later"]
    assert log == []
    assert "version 1 is not known to this worker" in caplog.text
    expected = "versions known: 2" if knows == "another version" else "versions known: none"
    assert expected in caplog.text
    snapshot = run.status()
    assert (snapshot.status, snapshot.attempt) == ("running", 1)

    world.let_time_pass(10)
    world.drain(knowing)
    assert log == ["a"]
    assert run.status().status == "completed"


def test_a_cancel_that_compensates_waits_for_a_worker_that_knows_the_run(world: World) -> None:
    """P10"""
    log: list[str] = []

    def define(durable: Any) -> None:
        step = durable.step(name="a", compensate=noting(log, "undo"))(noting(log, "a"))
        durable.workflow("w").step(step).step(noting(log, "b"))

    knowing = world.worker(define, inline_steps=1)
    run = knowing.start("w", {})
    knowing.engine.advance(world.token_id(run))
    stranger = world.worker()
    stranger.cancel(run.id, compensate=True)
    world.drain(stranger)
    assert run.status().status == "running"

    world.let_time_pass(100)
    world.drain(knowing)
    assert run.status().status == "cancelled"
    assert log == ["a", "undo"]


def test_a_run_keeps_the_version_it_was_started_with(world: World) -> None:
    """P10: position is a name; several versions live side by side."""
    log: list[str] = []

    def define(durable: Any) -> None:
        durable.workflow("w", version=1).step(noting(log, "one"))
        durable.workflow("w", version=3).step(noting(log, "three"))
        durable.workflow("w", version=2).step(noting(log, "two"))

    worker = world.worker(define)
    newest = worker.start("w", {})
    first = worker.start("w", {}, version=1)
    second = worker.start(worker.registry.find("w", 2) or "none", {})
    world.drain(worker)

    assert log == ["three", "one", "two"]
    assert [run.status().version for run in (newest, first, second)] == [3, 1, 2]


def test_a_process_that_does_not_import_the_workflow_starts_it_by_name(world: World) -> None:
    """P10: as it was stored by one that does, the highest version by default."""
    log: list[str] = []

    def define(durable: Any) -> None:
        for version in (1, 2):
            durable.workflow("w", version=version).step(
                noting(log, f"v{version}"), queue="special", priority=4
            )

    worker = world.worker(define)
    for version in (1, 2):
        worker.start("w", {}, version=version)
    world.drain(worker)
    log.clear()
    client = world.worker()

    run = client.start("w", {"n": 1}, key="k")
    client.start("w", {"n": 1}, version=1)
    (hint, _) = world.rows("SELECT options FROM durable_outbox ORDER BY id")
    assert hint["options"] == {"queue": "special", "priority": 4, "shadow": "w.v2"}
    world.drain(worker)

    assert log == ["v2", "v1"]
    snapshot = client.status(run.id)
    assert (snapshot.version, snapshot.status, snapshot.steps) == (2, "completed", ("v2",))
    assert [entry.unit for entry in client.history(run.id)] == ["v2"]


def test_an_unknown_workflow_is_refused_with_the_nearest_name(world: World) -> None:
    """P12"""
    define = defining([], "a")
    world.worker(define).start("w", {})
    client = world.worker()
    with pytest.raises(UnknownWorkflow, match="known here: w") as caught:
        client.start("www", {})
    assert "Did you mean 'w'" in str(caught.value) or caught.value.workflow == "www"
    with pytest.raises(UnknownWorkflow, match="'w' version 9"):
        client.start("w", {}, version=9)
    assert world.counts()["run"] == 1


def test_two_different_workflows_of_one_name_and_version_are_refused(world: World) -> None:
    """P12"""

    def define(durable: Any) -> None:
        durable.workflow("w").step(noting([], "a"))
        durable.workflow("w").step(noting([], "b"))

    durable = world.worker(define)
    with pytest.raises(DuplicateWorkflow, match=": a and b"):
        durable.start("w", {})
    assert set(world.counts().values()) == {0}

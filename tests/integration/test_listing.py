"""`list`: pages and filters, in one query."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.store.connection import Statement
from tests.integration.driving import World, noting


def define(durable: Durable) -> None:
    for name in ("v", "w"):
        durable.workflow(name).step(noting([], "a"))


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(define)


def test_the_newest_runs_come_first_page_by_page(durable: Durable) -> None:
    runs = [durable.start("w", {}) for _ in range(7)]
    expected = sorted((run.id for run in runs), reverse=True)

    pages: list[Any] = []
    before = None
    while page := durable.list(limit=3, before=before):
        pages.append([one.run_id for one in page])
        before = page[-1].run_id

    assert pages == [expected[:3], expected[3:6], expected[6:]]


def test_a_list_is_filtered(world: World, durable: Durable) -> None:
    done = durable.start("w", {}, tags={"shop": "north", "lane": "1"})
    world.drain(durable)
    running = durable.start("w", {}, tags={"shop": "north", "lane": "2"})
    other = durable.start("v", {}, tags={"shop": "south"})
    later = durable.start("v", {}, delay=60)

    def found(**filters: Any) -> set[Any]:
        return {one.run_id for one in durable.list(**filters)}

    assert found() == {done.id, running.id, other.id, later.id}
    assert found(status="completed") == {done.id}
    assert found(status="pending") == {later.id}
    assert found(workflow="w") == {done.id, running.id}
    assert found(workflow="w", status="running") == {running.id}
    assert found(tags={"shop": "north"}) == {done.id, running.id}
    assert found(tags={"shop": "north", "lane": "2"}) == {running.id}
    assert found(tags={"shop": "west"}) == set()
    assert found(tags={}) == found()
    assert found(parent=done.id) == set()
    assert found(workflow="nobody") == set()


def test_a_summary_has_the_facts_of_its_run(world: World, durable: Durable) -> None:
    run = durable.start("w", {}, key="k", tags={"a": "b"})
    world.drain(durable)
    (summary,) = durable.list()
    snapshot = run.status()
    for fact in (
        *("run_id", "workflow", "version", "status", "key", "tags", "parent_run_id"),
        *("created_at", "started_at", "updated_at", "finished_at"),
    ):
        assert getattr(summary, fact) == getattr(snapshot, fact), fact


def test_a_list_is_one_query_however_long(
    world: World, durable: Durable, statements: list[Statement]
) -> None:
    durable.start_many("w", [{}] * 50)
    statements.clear()
    assert len(durable.list(limit=50)) == 50
    assert len(statements) == 1


def test_a_list_has_a_hundred_runs_by_default(durable: Durable) -> None:
    durable.start_many("w", [{}] * 120)
    assert len(durable.list()) == 100
    assert len(durable.list(limit=1000)) == 120


def test_a_process_that_imports_no_workflow_can_list_runs(world: World, durable: Durable) -> None:
    run = durable.start("w", {})
    (found,) = world.worker().list(workflow="w", status="running", before=None)
    assert found.run_id == run.id


def define_waits(durable: Durable) -> None:
    child = durable.workflow("child").wait_for_signal("go")
    durable.workflow("asks").wait_for_signal("go")
    durable.workflow("sleeps").sleep("nap", 3600)
    durable.workflow("both").parallel(
        "p", {"asks": durable.workflow("ask").wait_for_signal("go"), "works": noting([], "a")}
    )
    durable.workflow("starts").map("m", over=lambda _: [1, 2, 3], handler=child)


def test_runs_are_found_by_what_they_wait_for(world: World) -> None:
    durable = world.worker(define_waits)
    asks, sleeps, starts = (durable.start(name) for name in ("asks", "sleeps", "starts"))
    world.drain(durable)
    works = durable.start("asks")

    def found(status: str) -> list[Any]:
        return [one.run_id for one in durable.list(status=status) if one.parent_run_id is None]

    assert found("suspended") == [starts.id, asks.id]
    assert found("sleeping") == [sleeps.id]
    assert found("running") == [works.id]
    assert {one.status for one in durable.list(workflow="sleeps")} == {"sleeping"}
    assert {world.status(run) for run in (asks, sleeps, starts, works)} == {"running"}

    children = durable.list(parent=starts.id)
    assert [one.run_id for one in children] == [one.run_id for one in starts.status().children]
    assert {(one.workflow, one.status) for one in children} == {("child", "suspended")}
    for one in children:
        durable.resume(one.run_id, "go")
    world.drain(durable)
    assert starts.status().status == "completed"
    assert found("suspended") == [works.id, asks.id]


def test_a_run_of_which_one_branch_moves_is_running(world: World) -> None:
    durable = world.worker(define_waits)
    run = durable.start("both")
    (fork,) = world.publish()
    durable.engine.advance(fork)
    (summary,) = durable.list(workflow="both")
    assert summary.status == "running"
    world.drain(durable)
    (summary,) = durable.list(workflow="both")
    assert summary.status == run.status().status == "suspended"

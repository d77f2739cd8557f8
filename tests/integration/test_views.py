"""The views show runs and units as `status()` and `history()` do, in every state."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from celery_durable import Durable, JournalEntry, RetryPolicy, RunSnapshot
from celery_durable.core.status import READ_FROM_TOKENS
from celery_durable.database import schema
from celery_durable.errors import ErrorRecord
from celery_durable.store import codec
from celery_durable.store.read.exposed import RUN_VIEW, RUNS, UNIT_VIEW, UNITS
from celery_durable.store.rows import failures_of
from tests.integration.driving import World, defining
from tests.integration.golden import views
from tests.integration.stories import A_MINUTE, INPUT, LEDGER, ROUNDS, STORIES, Scene, Story, answer


def test_the_views_are_what_the_newest_migration_of_them_creates() -> None:
    created = views.CREATED_BY.read_text(encoding="utf-8")
    assert created == views.declared(), (
        "a new migration has to replace the views: python -m tests.integration.golden.views"
    )


def loads(value: Any) -> Any:
    """A JSON column, which psycopg has decoded, as the library reads it."""
    return codec.loads(json.dumps(value))


def same_runs(world: World, client: Durable) -> list[str]:
    """Hold the view to the snapshots of all runs; their statuses."""
    statuses = []
    for row in world.rows(f"SELECT * FROM {RUN_VIEW}"):
        snapshot = client.status(row["id"])
        expected: dict[str, Any] = {
            name: getattr(snapshot, name)
            for name in {field.name for field in fields(RunSnapshot)} & row.keys()
        }
        expected |= {
            "id": snapshot.run_id,
            "current": list(snapshot.current),
            "awaiting": list(snapshot.awaiting),
            "since": snapshot.units[0].since if snapshot.units else None,
        }
        shown = {**row, "input": loads(row["input"]), "result": loads(row["result"])}
        shown["error"] = None if row["error"] is None else ErrorRecord(**row["error"])
        stored = "running" if row["status"] in READ_FROM_TOKENS else row["status"]
        assert shown == {**expected, "stored_status": stored}
        statuses.append(row["status"])
    return statuses


def same_units(world: World, client: Durable) -> int:
    """Hold the view to the histories of all runs; how many units there are."""
    shown: dict[Any, list[Any]] = {}
    for row in world.rows(f"SELECT * FROM {UNIT_VIEW} ORDER BY seq"):
        made: Mapping[str, Any] = {
            **row,
            "result": loads(row["result"]),
            "error": None if row["error"] is None else ErrorRecord(**row["error"]),
            "failures": failures_of(json.dumps(row["failures"])),
        }
        names = {field.name for field in fields(JournalEntry)} - {"size"}
        shown.setdefault(row["run_id"], []).append({name: made[name] for name in names})
    for run_id, units in shown.items():
        history = client.history(run_id)
        assert units == [{name: getattr(one, name) for name in units[0]} for one in history]
    return sum(map(len, shown.values()))


def states(scene: Scene, worker: Durable, story: Story) -> Iterator[str]:
    """Go through a story message by message; what it shows in between."""
    world = scene.world
    run = scene.client.start("w", INPUT, **story.start)
    if story.then is answer:
        scene.client.resume(run.id, "early", {"to": "early"}, key="early")
    for _ in range(ROUNDS):
        while hints := world.publish():
            for token_id in hints:
                yield from same_runs(world, scene.client)
                worker.engine.advance(token_id)
        yield from same_runs(world, scene.client)
        if scene.client.status(run.id).finished_at is not None:
            return
        if story.then is not None:
            story.then(scene, run)
            yield from same_runs(world, scene.client)
            world.drain(worker)
        world.let_time_pass(A_MINUTE)
    raise AssertionError(f"stands still: {world.token(run)}")


SHOWN = {
    "steps": {"pending", "running", "completed"},
    "branches": {"running", "completed"},
    "choices": {"running", "sleeping", "completed"},
    "waits": {"running", "suspended", "completed"},
    "children": {"running", "suspended", "completed"},
    "undone": {*("running", "suspended", "compensating"), *("completed", "failed", "cancelled")},
    "transactional": {"running", "completed"},
    "cancelled": {"running", "suspended", "compensating", "cancelled"},
    "cancelled within": {"running", "compensating", "cancelled"},
}


@pytest.mark.parametrize("name", STORIES)
def test_a_run_and_its_units_are_shown_as_python_shows_them(world: World, name: str) -> None:
    world.rows(LEDGER)
    story = STORIES[name]
    scene = Scene(world, world.worker())
    during: list[str] = []

    def define(durable: Durable) -> None:
        work = scene.work

        def looked_at(ctx: Any) -> str:
            during.extend(same_runs(world, scene.client))
            return work(ctx)

        scene.work = looked_at  # type: ignore[method-assign]
        story.define(durable, scene)

    worker = world.worker(define, inline_steps=1)
    worker.run_factory.outline("w", None)
    seen = {*states(scene, worker, story), *during}
    assert seen == SHOWN[name]
    assert same_units(world, scene.client) > 0


def test_a_map_s_results_and_kept_errors_are_put_together(world: World) -> None:
    def define(durable: Durable) -> None:
        def odd(ctx: Any) -> int:
            if ctx.item % 2 == 0:
                raise ValueError("even")
            return int(ctx.item)

        one = durable.step(odd, name="odd", retry=RetryPolicy(1))
        workflow = durable.workflow("w").map(
            "each", over=lambda _: range(3), handler=one, on_error="keep"
        )
        workflow.map("none", over=lambda _: [], handler=one)

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    assert same_runs(world, worker) == ["completed"]
    (row,) = world.rows(f"SELECT result FROM {RUN_VIEW} WHERE id = %s", run.id)
    assert [row["result"]["each"][1], row["result"]["none"]] == [1, []]
    assert row["result"]["each"][0]["error"]["type"] == "ValueError"


def test_what_a_retry_inherits_is_shown_as_its_own(world: World) -> None:
    def define(durable: Durable) -> None:
        def fail(ctx: Any) -> None:
            if ctx.input is None:
                raise ValueError("no")

        durable.workflow("w").step(lambda _: {"a": 1}, name="a").step(
            durable.step(fail, name="b", retry=RetryPolicy(1))
        )

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    again = worker.retry(run.id, input=1)
    world.drain(worker)
    assert sorted(same_runs(world, worker)) == ["completed", "failed"]
    assert same_units(world, worker) == 4
    query = f"SELECT result FROM {UNIT_VIEW} WHERE run_id = %s AND unit = 'a'"
    assert world.one(query, again.id) == {"a": 1}


def test_what_is_paused_and_what_waits_for_an_operator_is_paused(world: World) -> None:
    def define(durable: Durable) -> None:
        def fail(_: Any) -> None:
            raise ValueError("no")

        pausing = RetryPolicy(1, on_exhausted="pause")
        durable.workflow("w").step(durable.step(fail, name="a", retry=pausing))
        durable.workflow("waits").wait_for_signal("go")

    worker = world.worker(define)
    worker.start("w", key="k", tags={"a": "b"}, timeout=60, expires=50)
    worker.pause(worker.start("waits").id)
    worker.pause(workflow="w")
    assert same_runs(world, worker) == ["paused", "paused"]
    worker.unpause(workflow="w")
    assert sorted(same_runs(world, worker)) == ["paused", "running"]
    world.drain(worker)
    assert same_runs(world, worker) == ["paused", "paused"]


def test_a_cancel_that_is_not_applied_yet_is_shown(world: World) -> None:
    worker = world.worker(defining([], "a"))
    run = worker.start("w")
    with world.connect() as connection, connection.transaction():
        run.cancel(reason="no", session=connection)
    assert same_runs(world, worker) == ["running"]
    assert world.one(f"SELECT cancel_reason FROM {RUN_VIEW}") == "no"


WRITES = [
    f"INSERT INTO {RUN_VIEW} (id) VALUES (gen_random_uuid())",
    f"UPDATE {RUN_VIEW} SET workflow = 'v'",
    f"UPDATE {RUN_VIEW} SET workflow = 'v' WHERE workflow = 'nobody'",
    f"DELETE FROM {RUN_VIEW}",
    f"DELETE FROM {UNIT_VIEW} WHERE unit = 'nobody'",
    f"UPDATE {UNIT_VIEW} SET outcome = 'failed'",
]


@pytest.mark.parametrize("statement", WRITES)
def test_a_view_refuses_to_be_written_to_and_says_what_to_call(
    world: World, statement: str
) -> None:
    """P12"""
    worker = world.worker(defining([], "a"))
    worker.start("w")
    with pytest.raises(psycopg.Error, match="is a view to read") as caught:
        world.rows(statement)
    assert "durable_cancel in SQL" in (caught.value.diag.message_hint or "")
    assert world.one("SELECT workflow FROM durable_run") == "w"


def test_the_views_of_another_schema_show_its_runs(engine: sa.Engine) -> None:
    """Their functions find its tables, whatever the path is."""
    schema.migrate(engine, "Else Where")
    with engine.connect() as connection:
        for name, view in ((RUN_VIEW, RUNS), (UNIT_VIEW, UNITS)):
            found = connection.execute(sa.text(f'SELECT * FROM "Else Where".{name}'))
            assert list(found.keys()) == list(view.selected_columns.keys())
            assert found.all() == []

"""Runs that between them make every kind of commit, and what is left when one has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from celery_durable import Durable, GiveUp, RetryPolicy, Suspend
from celery_durable.run import Run
from tests.addresses import conninfo
from tests.integration.driving import World

ROUNDS = 60
A_MINUTE = 61.0

LEDGER = "CREATE TABLE ledger (run_id uuid, unit text)"
BOOK = "INSERT INTO ledger VALUES (%s, %s)"

JOURNAL = """
    SELECT r.workflow, unit, outcome, attempt, j.result::text, j.error->>'type' AS error,
        json_array_length(coalesce(failures, '[]')) AS failures
    FROM durable_journal j JOIN durable_run r ON r.id = j.run_id ORDER BY 1, 2, 5
"""
ENDS = """
    SELECT workflow, status, result::text, error->>'type' AS error FROM durable_run ORDER BY 1, 2, 3
"""

Step = Callable[[Any], Any]


@dataclass
class Scene:
    """One run, and the handlers it has called."""

    world: World
    client: Durable
    called: Counter[str] = field(default_factory=Counter)

    def work(self, ctx: Any) -> str:
        """What most handlers do."""
        self.called[ctx.unit] += 1
        return f"{ctx.unit} done"

    def book(self, ctx: Any) -> None:
        """What a transactional one does."""
        self.called[ctx.unit] += 1
        ctx.session.connection().exec_driver_sql(BOOK, (ctx.run_id, ctx.unit))

    def fail_once(self, ctx: Any) -> str:
        """Goes well at the second attempt."""
        if ctx.attempt == 1:
            self.called["first attempt"] += 1
            raise ValueError("not yet")
        return self.work(ctx)

    def give_up(self, ctx: Any) -> None:
        """Fails for good."""
        self.work(ctx)
        raise GiveUp("no")

    def ask(self, ctx: Any) -> Any:
        """Suspends, then goes on with the answer."""
        self.work(ctx)
        return ctx.resume_data if ctx.is_resumed else Suspend({"asked": ctx.unit})

    def read(self, ctx: Any) -> Any:
        """Reads what there is of the past."""
        self.work(ctx)
        return [dict(ctx.results), ctx.signal("go")]

    def cancel(self, ctx: Any) -> str:
        """Its run is cancelled while it works."""
        if not self.called[ctx.unit]:
            self.client.cancel(ctx.run_id, compensate=True)
        return self.work(ctx)


Define = Callable[[Durable, Scene], Any]


@dataclass(frozen=True)
class Story:
    """A workflow `w`, and what happens to a run of it. `then` is done once it stands still."""

    define: Define
    then: Callable[[Scene, Run], object] | None = None
    start: Mapping[str, Any] = field(default_factory=dict)


def steps(durable: Durable, scene: Scene) -> None:
    (
        durable.workflow("w")
        .step(scene.work, name="a")
        .step(scene.fail_once, name="b", retry=RetryPolicy(2, initial=5))
        .step(scene.work, name="elsewhere", queue="other")
        .step(scene.read, name="c")
        .returns(lambda ctx: ctx.results["c"])
    )


def branches(durable: Durable, scene: Scene) -> None:
    (
        durable.workflow("w")
        .parallel("both", {"x": durable.step(scene.work), "y": durable.step(scene.fail_once)})
        .map("each", over=lambda _: [1, 2, 3], handler=scene.work, max_concurrency=2)
        .step(scene.read, name="after")
    )


def choices(durable: Durable, scene: Scene) -> None:
    (
        durable.workflow("w")
        .route("way", lambda ctx: ctx.input["way"], {"left": durable.step(scene.work)})
        .loop(
            "again",
            scene.work,
            map_input=lambda ctx: {"from": ctx.results["way"]},
            until=lambda _, done: done == 3,
            every=5,
            max_iterations=5,
        )
        .sleep("rest", 60)
    )


def waits(durable: Durable, scene: Scene) -> None:
    (
        durable.workflow("w")
        .wait_for_signal("early")
        .wait_for_signal("go", timeout=3600)
        .step(scene.ask, name="ask")
        .wait_for_signal("never", timeout=30, on_timeout="continue")
        .step(scene.read, name="after")
    )


def answer(scene: Scene, run: Run) -> None:
    for signal in scene.client.status(run.id).awaiting:
        if signal != "never":
            scene.client.resume(run.id, signal, {"to": signal}, key=signal)


def children(durable: Durable, scene: Scene) -> None:
    child = durable.workflow("child").step(scene.work, name="in child")
    (
        durable.workflow("w")
        .child_workflow("kid", child, map_input=lambda _: {"a": 1})
        .child_workflow("other", child)
        .step(scene.work, name="after")
    )


def undone(durable: Durable, scene: Scene) -> None:
    child = durable.workflow("child")
    child.step(durable.step(name="packed", compensate=scene.work)(scene.work))
    booked = durable.step(name="booked", transactional=True)(scene.book)
    booked.compensate(transactional=True)(scene.book)
    (
        durable.workflow("w")
        .step(durable.step(name="a", compensate=scene.work)(scene.work))
        .step(booked)
        .child_workflow("kid", child, compensate="cascade")
        .map("each", over=lambda _: [1, 2], handler=durable.step(compensate=scene.read)(scene.work))
        .step(scene.give_up, name="last")
    )


def transactional(durable: Durable, scene: Scene) -> None:
    (
        durable.workflow("w")
        .step(scene.book, name="booked", transactional=True, retry=RetryPolicy(1))
        .step(scene.book, name="booked too", transactional=True, retry=RetryPolicy(1))
        .step(scene.work, name="after")
    )


def cancelled(durable: Durable, scene: Scene) -> None:
    child = durable.workflow("child").wait_for_signal("never")
    (
        durable.workflow("w")
        .step(durable.step(name="a", compensate=scene.work)(scene.work))
        .child_workflow("kid", child)
    )


def cancel(scene: Scene, run: Run) -> None:
    """In a transaction of the caller's: it is a worker who applies it."""
    if scene.client.status(run.id).status not in ("compensating", "cancelled"):
        with psycopg.connect(conninfo(scene.world.url)) as connection:
            scene.client.cancel(run.id, compensate=True, session=connection)


def cancelled_within(durable: Durable, scene: Scene) -> None:
    (
        durable.workflow("w")
        .step(durable.step(name="a", compensate=scene.work)(scene.work))
        .step(scene.cancel, name="b")
        .step(scene.work, name="never")
    )


STORIES: Mapping[str, Story] = {
    "steps": Story(steps, start={"delay": 30}),
    "branches": Story(branches),
    "choices": Story(choices),
    "waits": Story(waits, answer),
    "children": Story(children),
    "undone": Story(undone),
    "transactional": Story(transactional),
    "cancelled": Story(cancelled, cancel),
    "cancelled within": Story(cancelled_within),
}

INPUT = {"way": "left"}


def see_through(scene: Scene, worker: Durable, story: Story) -> None:
    """From the start of the run to its end, by one worker, with nothing left to recovery."""
    run = scene.client.start("w", INPUT, **story.start)
    if story.then is answer:
        scene.client.resume(run.id, "early", {"to": "early"}, key="early")
    for _ in range(ROUNDS):
        scene.world.drain(worker)
        if scene.client.status(run.id).finished_at is not None:
            return
        if story.then is not None:
            story.then(scene, run)
            scene.world.drain(worker)
        scene.world.let_time_pass(A_MINUTE)
    raise AssertionError(f"stands still: {scene.world.token(run)}")


def account(world: World) -> tuple[Any, ...]:
    """What two runs of one story have in common, in a database that has seen no other."""
    return (
        [tuple(row.values()) for row in world.rows(JOURNAL)],
        [tuple(row.values()) for row in world.rows(ENDS)],
        sorted(row["unit"] for row in world.rows("SELECT unit FROM ledger")),
        {table: world.counts()[table] for table in ("token", "item", "outbox", "inbox")},
    )


def forget(world: World) -> None:
    """Empty the tables for the next run."""
    world.rows(
        "TRUNCATE ledger, durable_run, durable_token, durable_item, durable_journal,"
        " durable_outbox, durable_inbox"
    )

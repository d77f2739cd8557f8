"""What a cancel ends by itself, whoever consumes whatever; and trees: all below at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.engine.ids import uuid7
from celery_durable.errors import ConfigurationError, RunFailed
from celery_durable.run import Run
from celery_durable.store.connection import Statement
from tests.integration.driving import Gate, World, error_of, make_durable, noting, spawn
from tests.integration.workflows import fail
from tests.waiting import wait_until

TRIED_AGAIN = RetryPolicy(initial=3600)


def define(durable: Durable) -> None:
    plain = noting([], "a")
    durable.workflow("plain").step(plain, queue="nobody's")
    durable.workflow("tried").step(fail, retry=TRIED_AGAIN)
    durable.workflow("asks").wait_for_signal("s", timeout=3600)
    durable.workflow("sleeps").sleep("nap", 3600)
    durable.workflow("fork").parallel("p", {"x": plain, "y": plain})
    durable.workflow("window").map(
        "m", over=lambda _: list(range(9)), handler=plain, max_concurrency=2
    )
    low = durable.workflow("low").sleep("nap", 3600).step(plain)
    middle = durable.workflow("middle").map("m", over=lambda _: [1, 2, 3], handler=low)
    durable.workflow("tree").step(plain).parallel("p", {"k": middle, "l": low}).step(
        plain, name="b"
    )
    durable.workflow("looped").loop("l", low, max_iterations=3)


LOOKS = {
    "plain": 0,
    "tried": 1,
    "asks": 1,
    "sleeps": 1,
    "fork": 1,
    "window": 1,
    "tree": 11,
    "looped": 2,
}
"""How many hints are followed, before nobody consumes anything any more."""


def left(world: World) -> int:
    counts = world.counts()
    return sum(counts[table] for table in ("token", "item", "inbox"))


def timers(world: World) -> int:
    return int(world.one("SELECT count(*) FROM durable_outbox WHERE available_at > now()"))


def follow(world: World, worker: Durable, looks: int) -> None:
    hints = world.publish()
    for _ in range(looks):
        worker.engine.advance(hints.pop(0))
        hints += world.publish()


@pytest.mark.parametrize("compensate", [False, True])
@pytest.mark.parametrize("workflow", LOOKS)
def test_what_nobody_executes_ends_at_once_though_nobody_consumes_its_queue(
    world: World, workflow: str, compensate: bool
) -> None:
    worker = world.worker(define, inline_steps=1)
    run = worker.start(workflow)
    follow(world, worker, LOOKS[workflow])
    assert world.counts()["token"] > 0

    client = world.worker()
    client.cancel(run.id, compensate=compensate, reason="too late")

    assert left(world) == timers(world) == 0
    assert {row["status"] for row in world.rows("SELECT status FROM durable_run")} == {"cancelled"}
    snapshot = run.status()
    assert snapshot.cancel_requested_at is not None
    assert snapshot.finished_at is not None
    assert snapshot.cancel_requested_at <= snapshot.finished_at
    assert snapshot.cancel_reason == "too late"


def test_a_child_that_has_failed_already_is_in_the_journal_of_its_cancelled_parent(
    world: World,
) -> None:
    def define(durable: Durable) -> None:
        child = durable.workflow("child").step(fail, retry=RetryPolicy(1))
        durable.workflow("w").child_workflow("c", child)

    worker = world.worker(define)
    run = worker.start("w")
    follow(world, worker, 2)
    (child,) = run.status().children
    assert child.status == "failed"

    world.worker().cancel(run.id)

    (entry,) = run.history()
    assert (entry.unit, entry.outcome, entry.child_run_id) == ("c", "failed", child.run_id)
    assert entry.error is not None
    assert (entry.error.type, entry.worker) == ("ChildFailed", None)
    assert "ValueError: no" in entry.error.message
    assert run.status().status == "cancelled"


def test_what_has_to_be_undone_is_for_a_worker_and_the_status_says_what_was_asked(
    world: World,
) -> None:
    log: list[str] = []

    def define(durable: Durable) -> None:
        a = durable.step(noting(log, "a"), compensate=noting(log, "undo"))
        durable.workflow("w").step(a).wait_for_signal("s")

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    assert run.status().cancel_requested_at is None
    world.worker().cancel(run.id, compensate=True, reason="why not")

    snapshot = run.status()
    assert snapshot.status != "cancelled"
    assert snapshot.cancel_requested_at is not None
    assert snapshot.cancel_reason == "why not"
    assert world.hints() > 0
    world.drain(worker)
    assert log == ["a", "undo"]
    assert run.status().status == "cancelled"


def test_a_cancel_that_nobody_has_applied_is_in_the_status(world: World) -> None:
    worker = world.worker(define)
    run = worker.start("plain")
    with world.connect() as connection, connection.transaction():
        run.cancel(session=connection, reason="joined")
    snapshot = run.status()
    assert (snapshot.status, snapshot.cancel_reason) == ("running", "joined")
    assert snapshot.cancel_requested_at is not None


TREE = """
WITH level AS (
    SELECT n, gen_random_uuid() AS id, gen_random_uuid() AS first,
        CASE WHEN n > 0 THEN (n - 1) / 100 END AS above
    FROM generate_series(0, 5049) AS n
), linked AS (
    SELECT level.*, up.id AS parent, up.first AS parent_first FROM level
    LEFT JOIN level up ON up.n = level.above
), runs AS (
    INSERT INTO durable_run (
        id, workflow, version, status, input, parent_run_id, parent_token, root_run_id, depth
    )
    SELECT CASE n WHEN 0 THEN %(root)s ELSE id END, 'low', 1, 'running', 'null',
        CASE above WHEN 0 THEN %(root)s ELSE parent END, gen_random_uuid(),
        CASE WHEN n > 0 THEN %(root)s::uuid END, 0
    FROM linked
), firsts AS (
    INSERT INTO durable_token (
        id, run_id, node, unit, queue, fence, wait, waiting_since, remaining, failed, total, opened
    )
    SELECT first, CASE linked.n WHEN 0 THEN %(root)s ELSE id END, 'm', 'm', 'q', id,
        CASE WHEN below.n > 0 THEN 'branches' END,
        CASE WHEN below.n > 0 THEN clock_timestamp() END,
        nullif(below.n, 0), CASE WHEN below.n > 0 THEN 0 END, nullif(below.n, 0), nullif(below.n, 0)
    FROM linked CROSS JOIN LATERAL (SELECT CASE WHEN n < 50 THEN 100 WHEN n = 50 THEN 49 ELSE 0 END)
        AS below (n)
)
INSERT INTO durable_token (
    id, run_id, parent_id, node, unit, position, queue, fence, wait, waiting_since, child_run_id
)
SELECT gen_random_uuid(), CASE above WHEN 0 THEN %(root)s ELSE parent END, parent_first, 'm',
    'm#' || n, n, 'q', id, 'child', clock_timestamp(), id
FROM linked WHERE n > 0
"""
"""5,050 runs: each of the first fifty-one has a hundred children, in branches that wait."""


def test_a_tree_of_five_thousand_runs_ends_in_a_few_statements_and_without_messages(
    world: World, statements: list[Statement]
) -> None:
    root = uuid7()
    with world.connect() as connection:
        connection.execute(TREE.encode(), {"root": root})
    world.rows("UPDATE durable_token SET wake_at = clock_timestamp() WHERE wait IS NULL")
    world.rows("ANALYZE durable_run, durable_token")
    client = world.worker()
    statements.clear()
    client.cancel(root)
    assert client.status(root).status == "cancelled"
    statuses = "SELECT count(*) FROM durable_run WHERE status = 'cancelled'"
    assert world.one(statuses) == 5050
    assert left(world) == 0
    assert world.hints() <= 1, "for the root, by who has asked"
    assert len(statements) < 150


def agents(gate: Gate | None = None, at: int = 3) -> Callable[[Durable], None]:
    """An agent that thinks, then delegates to one like itself; one of them thinks at the gate."""

    def think(ctx: Any) -> int:
        if gate is not None and ctx.input == at:
            gate()
        return 0

    def define(durable: Durable) -> None:
        durable.workflow("agent").step(think).child_workflow(
            "delegate", "agent", map_input=lambda ctx: ctx.input + 1
        )

    return define


def test_no_child_is_started_in_a_tree_that_is_cancelled(world: World) -> None:
    """Also by one that the cancel has not reached yet."""
    worker = world.worker(agents(), inline_steps=1)
    run = worker.start("agent", 0)
    follow(world, worker, 7)
    runs = world.counts()["run"]
    world.rows("UPDATE durable_run SET cancel_requested_at = now() WHERE id = %s", run.id)

    for _ in range(3):
        world.let_time_pass(10)
        for token in world.rows("SELECT id FROM durable_token"):
            worker.engine.advance(token["id"])
    assert world.counts()["run"] == runs

    run.cancel()
    assert {row["status"] for row in world.rows("SELECT status FROM durable_run")} == {"cancelled"}
    assert left(world) == 0


def test_a_tree_that_grows_is_caught(world: World) -> None:
    """Workers delegate as fast as they can while it is cancelled."""
    workers = [world.worker(agents(), max_depth=10_000) for _ in range(2)]
    run = workers[0].start("agent", 0)
    is_over = threading.Event()

    def work(worker: Durable) -> None:
        while not is_over.is_set():
            for hint in world_hints(worker):
                worker.engine.advance(hint)

    threads = [spawn(work, worker) for worker in workers]
    wait_until(lambda: world.counts()["run"] > 20, message="the tree to grow")
    run.cancel()
    wait_until(lambda: left(world) == 0, message="the tree to end")
    is_over.set()
    for thread in threads:
        thread.result(20)
    assert {row["status"] for row in world.rows("SELECT status FROM durable_run")} == {"cancelled"}


def world_hints(worker: Durable) -> list[Any]:
    with worker.database.autocommit() as connection:
        rows = connection.raw.execute(
            "DELETE FROM durable_outbox WHERE id IN (SELECT id FROM durable_outbox"
            " WHERE coalesce(available_at, now()) <= now() LIMIT 1 FOR UPDATE SKIP LOCKED)"
            " RETURNING token_id"
        )
        return [row[0] for row in rows]


def test_a_cancel_reaches_the_unit_in_hand_of_a_run_far_below(world: World) -> None:
    gate = Gate()
    worker = world.worker(agents(gate))
    run = worker.start("agent", 0)
    at_work = gate.hold(world.drain, worker)
    world.worker().cancel(run.id)
    assert world.one("SELECT count(*) FROM durable_run WHERE cancel_requested_at IS NOT NULL") == 4
    assert run.status().status != "cancelled", "it waits for what is executed"
    gate.finish(at_work)
    world.drain(worker)
    assert [row["status"] for row in world.rows("SELECT status FROM durable_run")] == (
        ["cancelled"] * 4
    )


def test_a_child_that_would_be_too_deep_fails_its_unit(world: World) -> None:
    worker = world.worker(agents(), max_depth=3)
    run = worker.start("agent", 0)
    world.drain(worker)
    assert world.counts()["run"] == 4
    depths = world.rows("SELECT depth FROM durable_run ORDER BY id")
    assert [row["depth"] for row in depths] == [0, 1, 2, 3]
    lowest: Run = worker.run(world.one("SELECT id FROM durable_run WHERE depth = 3"))
    error = error_of(lowest)
    assert (error.type, error.unit) == ("TooDeep", "delegate")
    assert "durable_max_depth" in error.message
    with pytest.raises(RunFailed, match="TooDeep"):
        run.result(timeout=0)


def test_a_depth_of_nothing_is_refused(world: World) -> None:
    with pytest.raises(ConfigurationError, match="durable_max_depth"):
        make_durable(world.url, max_depth=0).start("w")

"""P10: workers of several releases together; each does what it knows, and passes on the rest."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import psycopg

from celery_durable import Durable, GiveUp
from celery_durable.core.admit import (
    PASS_ON_MAXIMUM,
    RELEASE_FIRST,
    RELEASE_MAXIMUM,
)
from celery_durable.store import tables as t
from celery_durable.store.tokens import IS_CLAIMABLE
from tests.integration.driving import Define, Row, World, claimed, defining, noting, worker_id
from tests.integration.test_definitions import at

MOVES = ("fence", "since", "hinted_at", "hints", "look_at", "wake_at", "first_claim")
"""What a put-back may write into a token's row."""

SOON = PASS_ON_MAXIMUM + 0.01
LATER = RELEASE_FIRST / 2


def of_versions(log: list[str], *versions: int) -> Define:
    def define(durable: Durable) -> None:
        for version in versions:
            durable.workflow("w", version=version).step(noting(log, f"v{version}"))

    return define


def ready(world: World, define: Define | None = None, **settings: Any) -> Durable:
    """A worker that has registered and takes the messages of `durable`."""
    durable = world.worker(define, **settings)
    row = "UPDATE durable_worker SET queues = '[\"durable\"]' WHERE id = %s"
    world.rows(row, worker_id(durable))
    return durable


def offer(world: World, durable: Durable, token_id: UUID) -> float:
    """Have the worker put back the token; in how many seconds it is offered again."""
    before = lasting_columns(world, token_id)
    durable.engine.advance(token_id)
    assert lasting_columns(world, token_id) == before
    return float(
        world.one(
            "SELECT extract(epoch FROM o.available_at - t.hinted_at) FROM durable_token t"
            " JOIN durable_outbox o ON o.token_id = t.id AND o.fence = t.fence WHERE t.id = %s",
            token_id,
        )
    )


def lasting_columns(world: World, token_id: UUID) -> Row:
    (row,) = world.rows("SELECT * FROM durable_token WHERE id = %s", token_id)
    return {column: value for column, value in row.items() if column not in MOVES}


ELSEWHERE = {
    "lives": "SELECT",
    "has ended": "UPDATE durable_worker SET ended_at = now() WHERE id = %(other)s",
    "stops": "UPDATE durable_worker SET draining = true WHERE id = %(other)s",
    "consumes another queue": "UPDATE durable_worker SET queues = '[\"other\"]'"
    " WHERE id = %(other)s",
    "is of the same node": "UPDATE durable_worker SET node_id ="
    " (SELECT node_id FROM durable_worker WHERE id = %(me)s) WHERE id = %(other)s",
}


@pytest.mark.parametrize("other", ELSEWHERE)
def test_what_somebody_else_knows_is_offered_again_soon(world: World, other: str) -> None:
    """P10: and what nobody knows who could take it, later each time."""
    knowing = ready(world, of_versions([], 1, 2))
    stranger = ready(world, of_versions([], 1))
    statement = ELSEWHERE[other].replace("%(other)s", f"'{worker_id(knowing)}'")
    world.rows(statement.replace("%(me)s", f"'{worker_id(stranger)}'"))
    run = knowing.start("w", {}, version=2)
    (token_id,) = world.publish()
    delays = []
    for _ in range(30):
        delays.append(offer(world, stranger, token_id))
        world.let_time_pass(delays[-1])
    grown = delays[15:]
    assert max(grown) - min(grown) > 0.05, "not always after the same time"
    if other == "lives":
        assert delays[0] < LATER
        assert max(delays) <= SOON
    else:
        assert delays[0] >= LATER
        assert RELEASE_MAXIMUM + 0.1 > delays[-1] > RELEASE_MAXIMUM / 2 - 0.1
    assert run.status().status == "running"


def test_a_worker_of_another_version_is_of_no_use(world: World) -> None:
    """P10"""
    knowing = world.worker(of_versions([], 2))
    ready(world, of_versions([], 1, 3))
    stranger = ready(world, of_versions([], 1))
    knowing.start("w", {})
    (token_id,) = world.publish()
    assert offer(world, stranger, token_id) >= LATER


def every_node(durable: Durable) -> None:
    """A way through all that a token may stand at, there and back."""

    def echo(ctx: Any) -> Any:
        return ctx.item

    def refuse(ctx: Any) -> None:
        raise GiveUp("no")

    undoable = durable.step(echo, name="undoable", compensate=echo)
    child = durable.workflow("child").step(undoable, name="of the child")
    (
        durable.workflow("w")
        .step(undoable, name="step")
        .parallel("parallel", {"x": undoable, "y": echo, "z": child})
        .map("map", over=lambda _: [1, 2], handler=undoable)
        .route("route", lambda _: "a", {"a": undoable, "b": echo})
        .loop("loop", undoable, max_iterations=2)
        .sleep("sleep", 0.001)
        .child_workflow("cascade", "child", compensate="cascade")
        .wait_for_signal("signal")
        .step(refuse, name="last")
    )


def result(durable: Durable) -> None:
    durable.workflow("w").step(noting([], "a")).returns(lambda _: "made")


@pytest.mark.parametrize(
    ("define", "ends_as"), [(every_node, "failed"), (result, "completed")], ids=["nodes", "returns"]
)
def test_wherever_a_run_stands_it_is_passed_on_untouched(
    world: World, define: Define, ends_as: str
) -> None:
    """P10: branches, items, iterations, children, waits, and the way back."""
    knowing = ready(world, define, inline_steps=1)
    stranger = ready(world)
    run = knowing.start("w", {})
    run.resume("signal", 1)
    seen = set()
    while hints := world.publish():
        for token_id in hints:
            if (unit := claimable(world, token_id)) is not None:
                assert offer(world, stranger, token_id) <= SOON, unit
                seen.add(unit)
            world.let_time_pass(100)
            knowing.engine.advance(token_id)
    assert run.status().status == ends_as
    assert seen >= UNITS[ends_as]
    failures = "SELECT count(*) FROM durable_journal WHERE attempt > 1 OR worker = %s"
    assert world.one(failures, worker_id(stranger)) == 0


def claimable(world: World, token_id: UUID) -> str | None:
    """The unit that the token is at, if a worker that is offered it can claim it."""
    query = sa.select(t.token.c.unit).where(t.token.c.id == token_id, IS_CLAIMABLE)
    text = str(query.compile(dialect=psycopg.dialect(), compile_kwargs={"literal_binds": True}))
    found = world.rows(text.replace("durable.durable_", "durable_"))
    return found[0]["unit"] if found else None


UNITS = {
    "failed": {
        "step",
        "parallel",
        "parallel#x",
        "parallel#z",
        "map#1",
        "route#route",
        "route",
        "loop#1",
        "sleep",
        "cascade",
        "of the child",
        "signal",
        "last",
        "step#compensate",
        "parallel#x#compensate",
        "map#1#compensate",
        "route#compensate",
        "loop#1#compensate",
        "cascade#compensate",
        "#rollback",
        "of the child#compensate",
    },
    "completed": {"a", "#returns"},
}


def test_a_definition_edited_in_place_is_passed_on_where_it_differs(world: World) -> None:
    """P10: a run is soon with those that have the definition as it was where it stands."""
    log: list[str] = []
    old = defining(log, "a", "b", "c")
    run = at(world, old, 1)
    (token_id,) = world.publish()
    changed = ready(world, defining(log, "a", "x", "b"))
    assert offer(world, changed, token_id) >= LATER
    world.let_time_pass(100)

    # It knows a node of that name, and yet is nobody to count on.
    again = ready(world, defining(log, "a", "x", "b"))
    assert offer(world, again, token_id) > SOON
    world.let_time_pass(100)

    unchanged = ready(world, old)
    assert offer(world, changed, token_id) <= SOON
    unchanged.engine.advance(token_id)
    assert log == ["a"], "the delay is not over"
    world.let_time_pass(100)
    unchanged.engine.advance(token_id)
    assert log == ["a", "b", "c"]
    assert run.status().status == "completed"


def test_a_node_that_only_new_workers_have_is_passed_on_to_them(world: World) -> None:
    """P10: an addition under the same version."""
    log: list[str] = []
    old = ready(world, defining(log, "a", "b"))
    run = at(world, defining(log, "a", "b", "c"), 2)
    (token_id,) = world.publish()
    assert offer(world, old, token_id) >= LATER
    new = ready(world, defining(log, "a", "b", "c"))
    world.let_time_pass(100)
    assert offer(world, old, token_id) <= SOON
    world.let_time_pass(100)
    new.engine.advance(token_id)
    assert log == ["a", "b", "c"]
    assert run.status().status == "completed"


def test_start_takes_the_highest_version_that_this_process_knows(world: World) -> None:
    """P10: an old process starts what it knows, whatever newer ones have stored."""
    log: list[str] = []
    new = world.worker(of_versions(log, 1, 2, 3))
    started = [new.start("w", {}).status().version]
    old = world.worker(of_versions(log, 1, 2))
    started.append(old.start("w", {}).status().version)
    started.append(world.worker().start("w", {}).status().version)
    assert started == [3, 2, 3]


def forked(durable: Durable) -> None:
    child = durable.workflow("child").wait_for_signal("never")
    branches: Any = {"x": noting([], "x"), "z": child}
    durable.workflow("w").step(noting([], "a")).parallel("fork", branches)


def waiting(durable: Durable) -> None:
    durable.workflow("w").step(noting([], "a")).wait_for_signal("go")


@pytest.mark.parametrize("define", [waiting, forked, defining([], "a", "b")])
@pytest.mark.parametrize("moves", range(7))
def test_a_cancel_ends_a_run_that_nobody_knows_any_more(
    world: World, define: Define, moves: int
) -> None:
    """P10: nothing of it is executed, and nothing has to be undone."""
    knowing = world.worker(define, inline_steps=1)
    run = knowing.start("w", {})
    for token_id in [token_id for _ in range(moves) for token_id in world.publish()][:moves]:
        knowing.engine.advance(token_id)
    before = world.units(run)
    stranger = world.worker()
    stranger.cancel(run.id, reason="retired")
    is_over = run.status().status == "completed"
    for _ in range(4):
        world.drain(stranger)
        world.let_time_pass(100)
    snapshot = stranger.status(run.id)
    assert snapshot.status == ("completed" if is_over else "cancelled")
    assert world.units(run) == before or define is forked
    assert world.counts()["token"] == 0
    assert world.one("SELECT count(*) FROM durable_run WHERE finished_at IS NULL") == 0


def test_a_cancel_ends_a_run_whose_last_worker_died_executing_it(
    world: World,
) -> None:
    """P10: whoever cancels could not end what was being executed."""
    knowing, stranger = world.worker(defining([], "a")), world.worker()
    run = knowing.start("w", {})
    assert claimed(knowing, world.token_id(run))
    stranger.cancel(run.id)
    assert not world.has_ended(run)
    world.kill(knowing)
    world.reap(stranger)
    world.drain(stranger)
    assert (world.status(run), world.units(run)) == ("cancelled", [])

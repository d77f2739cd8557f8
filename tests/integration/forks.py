"""Looking at runs that stand at many places at once, and moving one of them."""

from __future__ import annotations

from celery_durable import Durable
from celery_durable.run import Run
from tests.integration.driving import Row, World

UNFINISHED = ("token", "item", "outbox", "inbox")


def standing(world: World, run: Run) -> dict[str, Row]:
    """The tokens of the run by their units, in the order of the branches."""
    query = "SELECT * FROM durable_token WHERE run_id = %s ORDER BY position NULLS FIRST"
    return {row["unit"]: row for row in world.rows(query, run.id)}


def advance(world: World, worker: Durable, run: Run, *units: str) -> None:
    """The worker is told to look at the tokens that stand at these units, in this order."""
    for unit in units:
        worker.engine.advance(standing(world, run)[unit]["id"])


def forked(world: World, worker: Durable) -> Run:
    """A run that stands at its branches, none of which has begun; no message is left."""
    run = worker.start("w", {})
    (token_id,) = world.publish()
    worker.engine.advance(token_id)
    world.lose_hints()
    return run


def messages(world: World) -> list[Row]:
    """What the outbox holds, in the order it was put there."""
    return world.rows("SELECT * FROM durable_outbox ORDER BY id")


def ended(world: World, run: Run) -> str:
    """The status of a run that has left nothing unfinished behind."""
    counts = world.counts()
    assert {table: counts[table] for table in UNFINISHED} == dict.fromkeys(UNFINISHED, 0)
    return world.status(run)


def recovered(world: World, worker: Durable) -> int:
    """The broker has lost everything an hour ago; what recovery brings back. No timer is due."""
    world.lose_hints()
    world.rows(
        "UPDATE durable_token SET hinted_at = hinted_at - interval '1 hour',"
        " wake_at = wake_at - interval '1 hour' * (wake_at <= clock_timestamp())::integer"
    )
    return worker.recover()

"""P1: a journal entry, the run's move and the enqueue of what comes next commit together."""

from __future__ import annotations

import pytest

from celery_durable.run import Run
from tests.integration.driving import World, defining


def broken(world: World, table: str, event: str = "INSERT", when: str = "true") -> None:
    """From now on Postgres refuses this write."""
    world.trigger(f"BEFORE {event} ON durable_{table}", "RAISE 'the disk is full';", when)


def test_a_step_leaves_its_entry_its_move_and_the_next_hint(world: World) -> None:
    """P1"""
    worker = world.worker(defining([], "a", "b"), inline_steps=1)
    run = worker.start("w", {})
    (token_id,) = world.publish()

    worker.engine.advance(token_id)

    token = world.token(run)
    assert (token["unit"], token["claimed_by"]) == ("b", None)
    assert world.units(run) == ["a completed"]
    (hint,) = world.rows("SELECT token_id, fence, task, args, options FROM durable_outbox")
    assert hint["token_id"] == token["id"]
    assert hint["fence"] == token["fence"]
    assert hint["task"] == "durable.advance"
    assert hint["args"] == [str(token["id"])]
    assert hint["options"] == {"queue": "durable", "shadow": "w.b"}


@pytest.mark.parametrize(
    ("table", "event", "when"),
    [
        ("outbox", "INSERT", "NEW.options->>'shadow' = 'w.b'"),
        ("journal", "INSERT", "true"),
        ("token", "UPDATE", "NEW.unit = 'b'"),
    ],
)
def test_a_commit_that_fails_in_the_middle_leaves_nothing(
    world: World, table: str, event: str, when: str
) -> None:
    """P1; and the claim is given back, so that the unit is tried again."""
    log: list[str] = []
    worker = world.worker(defining(log, "a", "b"), inline_steps=1)
    run = worker.start("w", {})
    broken(world, table, event, when)
    (token_id,) = world.publish()

    with pytest.raises(Exception, match="the disk is full"):
        worker.engine.advance(token_id)

    token = world.token(run)
    assert (token["unit"], token["claimed_by"], token["crashes"]) == ("a", None, 1)
    assert world.units(run) == []
    assert world.hints(run) == 1, "the claim was given back with a hint"

    world.drop_trigger(f"durable_{table}")
    world.let_time_pass(10)
    world.drain(worker)
    assert log == ["a", "a", "b"]
    assert run.status().status == "completed"


def test_a_run_its_token_and_its_hint_are_written_together(world: World) -> None:
    """P1"""
    client = world.worker(defining([], "a"))
    broken(world, "outbox")

    with pytest.raises(Exception, match="the disk is full"):
        client.start("w", {})

    assert set(world.counts("definition").values()) == {0}


def test_the_last_step_and_the_end_of_the_run_are_written_together(world: World) -> None:
    """P1"""
    worker = world.worker(defining([], "a"))
    run = worker.start("w", {})
    broken(world, "run", "UPDATE", "NEW.status = 'completed'")
    (token_id,) = world.publish()

    with pytest.raises(Exception, match="the disk is full"):
        worker.engine.advance(token_id)

    assert world.units(run) == []
    assert not world.has_ended(run)
    assert world.status(run) == "running"


def test_a_finished_run_leaves_nothing_but_itself_and_its_journal(world: World) -> None:
    """P1"""
    worker = world.worker(defining([], "a", "b"), inline_steps=1)
    run: Run = worker.start("w", {})

    world.drain(worker)

    assert run.status().status == "completed"
    assert world.counts("worker", "definition") == {
        "run": 1,
        "token": 0,
        "item": 0,
        "journal": 2,
        "outbox": 0,
        "inbox": 0,
    }

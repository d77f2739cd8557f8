"""`durable prune` on the command line, the Celery task `durable.prune`, and `aprune`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.background import pruning
from celery_durable.errors import ConfigurationError, DatabaseUnavailable
from celery_durable.store import workers
from celery_durable.worker import process, tasks
from tests.integration.commanding import Cli, Terminal, assert_refused, is_plain
from tests.integration.driving import World
from tests.integration.pruned import NOTHING, Past


@pytest.fixture
def past(world: World) -> Past:
    return Past(world)


def test_prune_deletes_and_says_how_many(world: World, past: Past, call: Cli) -> None:
    app = world.worker().app
    past.runs(2, parent=past.run())
    young = past.run(days=10)
    said = call(app, "prune")
    assert (said.code, said.out, said.err) == (0, "3\n", "")
    assert call(app, "prune", "--json").document == {"pruned": 0}
    assert past.left() == {young}
    assert call(app, "prune", "--older-than", "9d", "--status", "failed").out == "0\n"
    assert call(app, "prune", "--older-than", "9d").out == "1\n"


def test_a_dry_run_says_how_many_by_workflow_and_status(
    world: World, past: Past, call: Cli
) -> None:
    app = world.worker().app
    past.runs(3, parent=past.run(workflow="order"), workflow="parcel")
    past.run(workflow="order", status="failed")
    before = past.rows()
    said = call(app, "prune", "--dry-run")
    assert said.fields == [
        ["WORKFLOW", "STATUS", "RUNS"],
        ["order", "completed", "1"],
        ["order", "failed", "1"],
        ["parcel", "completed", "3"],
    ]
    assert is_plain(said.out)
    assert call(app, "prune", "--dry-run", "--status", "failed", "--json").document == {
        "would_prune": 1,
        "runs": [{"workflow": "order", "status": "failed", "runs": 1}],
    }
    assert past.rows() == before


def test_on_a_terminal_a_bar_shows_how_far_it_has_come(
    world: World, past: Past, call: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    past.runs(10, parent=past.run())
    app, screen = world.worker().app, Terminal()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", screen)
        assert call(app, "prune", "--dry-run").code == 0
        assert call(app, "prune").code == 0
        assert call(app, "prune", "--dry-run").code == 0
    shown = screen.getvalue()
    assert "11 runs would be deleted." in shown
    assert "Deleting runs" in shown
    assert "11/11" in shown
    assert "11 runs deleted." in shown
    assert "No run would be deleted." in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--older-than", "30 days"), ("'30 days' is no duration", "30d")),
        (("--older-than", "-1"), ("is no duration",)),
        (("--status", "running"), ("running", "completed")),
    ],
)
def test_wrong_usage_is_refused_and_nothing_goes(
    world: World, past: Past, call: Cli, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    run = past.run()
    assert_refused(call(world.worker().app, "prune", *arguments), 2, *words)
    assert past.left() == {run}


def prune_by_task(durable: Durable, *arguments: Any) -> None:
    """A worker takes the message."""
    durable.app.tasks[tasks.PRUNE].apply(args=arguments, throw=True)


def test_a_message_prunes(world: World, past: Past) -> None:
    durable = world.worker()
    young, failed = past.run(days=10), past.run(days=10, status="failed")
    past.run()
    prune_by_task(durable)
    assert past.left() == {young, failed}
    prune_by_task(durable, 9 * 86_400, "failed")
    assert past.left() == {young}
    prune_by_task(durable, 0)
    assert past.rows() == NOTHING


def test_a_message_with_a_wrong_status_fails(world: World, past: Past) -> None:
    run = past.run()
    with pytest.raises(ConfigurationError, match="status= takes"):
        prune_by_task(world.worker(), 0, "running")
    assert past.left() == {run}


def test_a_worker_that_shuts_down_does_not_wait_for_the_end(
    world: World, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    past.runs(2000)
    durable = world.worker()
    durable.liveness.worker_id()
    monkeypatch.setattr(process, "is_worker_of", lambda _app: True)
    with durable.database.autocommit() as connection:
        workers.drain(connection, world.one("SELECT node_id FROM durable_worker"))
    prune_by_task(durable)
    assert 0 < len(past.left()) < 2000


def test_in_an_outage_the_message_ends_quietly(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable = world.worker()

    def away(_pruner: object) -> Any:
        raise DatabaseUnavailable("no route to host")

    monkeypatch.setattr(pruning.Pruner, "prune", away)
    prune_by_task(durable)
    assert "Postgres does not answer" in caplog.text


def test_aprune_is_prune(world: World, past: Past) -> None:
    past.run()
    assert asyncio.run(world.worker().aprune(dry_run=True)) == 1
    assert asyncio.run(world.worker().aprune(older_than=0)) == 1
    assert past.rows() == NOTHING

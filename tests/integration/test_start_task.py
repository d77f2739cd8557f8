"""The Celery task `durable.start`: how beat and ordinary canvases start runs."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

import pytest

from celery_durable import Durable
from celery_durable.errors import ConfigurationError, UnknownWorkflow
from celery_durable.worker import tasks
from tests.faults.proxy import Proxy
from tests.integration.driving import World, all_at_once, defining, make_durable, spawn
from tests.waiting import wait_until


def start_by(durable: Durable, *, message: str = "", **options: Any) -> Any:
    """A worker takes the message; what the task returned."""
    task = durable.app.tasks["durable.start"]
    result = task.apply(kwargs=options, task_id=message or None, throw=True)
    return result.get()


def test_a_message_starts_a_run(world: World) -> None:
    log: list[str] = []
    durable = world.worker(defining(log, "a"))
    run_id = start_by(durable, input={"n": 1}, workflow="w")
    world.drain(durable)
    assert durable.status(run_id).status == "completed"
    assert world.one("SELECT input FROM durable_run") == {"n": 1}


def test_a_message_that_is_delivered_twice_starts_one_run(world: World) -> None:
    durable = world.worker(defining([], "a"))
    first = start_by(durable, message="m1", workflow="w")
    again = start_by(durable, message="m1", workflow="w")
    other = start_by(durable, message="m2", workflow="w")
    assert first == again != other
    assert world.counts()["run"] == 2


def test_a_key_of_ones_own_counts(world: World) -> None:
    durable = world.worker(defining([], "a"))
    first = start_by(durable, workflow="w", key="k")
    assert first == start_by(durable, workflow="w", key="k")
    assert str(durable.run(workflow="w", key="k").id) == first


def test_a_schedule_may_skip_while_its_last_run_is_unfinished(world: World) -> None:
    durable = world.worker(defining([], "a"))
    nightly = {"workflow": "w", "schedule": "nightly", "overlap": "skip"}
    first = start_by(durable, **nightly)
    assert first is not None
    assert start_by(durable, **nightly) is None
    assert start_by(durable, **{**nightly, "schedule": "hourly"}) is not None
    assert start_by(durable, **{**nightly, "overlap": "allow"}) is not None

    world.drain(durable)
    assert start_by(durable, **nightly) is not None
    assert durable.status(first).tags == {"schedule": "nightly"}


def test_eight_messages_at_once_start_one_run_of_a_schedule(world: World) -> None:
    workers = [world.worker(defining([], "a")) for _ in range(8)]
    nightly = {"workflow": "w", "schedule": "nightly", "overlap": "skip"}
    for night in range(1, 6):
        started = all_at_once([partial(start_by, worker, **nightly) for worker in workers])
        assert sum(run_id is not None for run_id in started) == 1
        assert world.counts()["run"] == night
        world.drain(workers[0])


def test_a_message_of_a_schedule_that_is_delivered_again_has_started_its_run(world: World) -> None:
    """It is not skipped for the sake of the run that it has started itself."""
    durable = world.worker(defining([], "a"))
    nightly = {"workflow": "w", "schedule": "nightly", "overlap": "skip"}
    first = start_by(durable, message="m1", **nightly)
    assert start_by(durable, message="m1", **nightly) == first
    assert start_by(durable, message="m2", **nightly) is None
    world.drain(durable)
    assert start_by(durable, message="m1", **nightly) == first
    assert world.counts()["run"] == 1


@pytest.mark.parametrize("overlap", ["skip", "allow"])
def test_a_start_waits_for_a_postgres_that_is_away(
    world: World, proxy: Proxy, caplog: pytest.LogCaptureFixture, overlap: str
) -> None:
    durable = make_durable(proxy.url, defining([], "a"))
    proxy.refuse()
    waiting = spawn(partial(start_by, durable, workflow="w", schedule="nightly", overlap=overlap))
    wait_until(lambda: "does not answer" in caplog.text or waiting.done(), message="the outage")
    proxy.accept()
    started = waiting.result(20)
    durable.database.close()
    assert world.one("SELECT id FROM durable_run") == UUID(started)


def test_a_start_whose_time_is_up_goes_back_into_its_queue(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is put back, and no new message is sent, which the broker might lose."""
    monkeypatch.setattr(tasks, "STARTS_WITHIN", 0.0)
    durable = make_durable(proxy.url, defining([], "a"))
    proxy.refuse()
    task = durable.app.tasks["durable.start"]
    ended = task.apply(kwargs={"workflow": "w", "schedule": "nightly", "overlap": "skip"})
    assert ended.state == "REJECTED"
    assert ended.result.requeue
    assert task.acks_late


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"overlap": "never"}, ConfigurationError),
        ({"overlap": "skip"}, ConfigurationError),
        ({"workflow": "v"}, UnknownWorkflow),
    ],
)
def test_a_message_that_makes_no_sense_starts_nothing(
    world: World, options: dict[str, Any], error: type[Exception]
) -> None:
    """P12"""
    durable = world.worker(defining([], "a"))
    with pytest.raises(error):
        start_by(durable, **{"workflow": "w", **options})
    assert world.counts()["run"] == 0


def test_the_other_tasks_do_what_they_are_called(world: World) -> None:
    log: list[str] = []
    durable = world.worker(defining(log, "a"))
    runs = durable.start_many("w", [{}, {}])
    ids = [str(world.token_id(run)) for run in runs]
    world.lose_hints()
    world.let_time_pass(60)

    durable.app.tasks["durable.recover"].apply(throw=True)
    assert world.hints() == 2
    durable.app.tasks["durable.advance"].apply(args=ids, throw=True)
    durable.app.tasks["durable.compensate"].apply(args=[ids[0]], throw=True)

    assert log == ["a", "a"]
    assert [run.status().status for run in runs] == ["completed", "completed"]

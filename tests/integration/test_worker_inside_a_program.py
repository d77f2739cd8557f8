"""A worker that runs inside of another program, as Celery's fixtures start it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import _state
from celery.contrib.testing.worker import start_worker
from kombu import Connection

from celery_durable import Durable
from celery_durable.database import ends
from tests.integration.driving import World, defining
from tests.waiting import wait_until

CONNECTIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'celery_durable'"
)


@pytest.fixture
def durable(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Durable]:
    durable = world.worker(defining([], "a"), poll_interval=0.05)
    durable.app.conf.broker_transport_options = {"polling_interval": 0.01}
    drain = Connection.drain_events

    def drain_briefly(connection: Connection, **_: Any) -> Any:
        """A worker that is told to end finds out between two of these; Celery waits for 2 s."""
        return drain(connection, timeout=0.05)

    monkeypatch.setattr(Connection, "drain_events", drain_briefly)
    monkeypatch.setattr(ends, "KEPT", 0.0)  # by the program, whose own wait it is
    before = _state.default_app, _state.get_current_app()  # `start_worker` sets both
    yield durable
    _state.set_default_app(before[0])
    _state._set_current_app(before[1])


def work(durable: Durable, pool: str) -> None:
    with start_worker(durable.app, pool=pool, perform_ping_check=False, queues=["durable"]):
        assert durable.start("w", {}).result(timeout=20) == {"a": None}


@pytest.mark.parametrize(("pool", "written"), [("solo", "solo"), ("threads", "thread")])
def test_it_leaves_nothing_behind(world: World, durable: Durable, pool: str, written: str) -> None:
    before = {*threading.enumerate()}

    def threads() -> list[str]:
        new = {*threading.enumerate()} - before
        return [one.name for one in new if one.name.startswith("durable-")]

    for lives in (1, 2):
        work(durable, pool)
        rows = world.rows("SELECT pool, queues, ended_at IS NULL AS live FROM durable_worker")
        assert rows == [{"pool": written, "queues": ["durable"], "live": False}] * lives
        wait_until(lambda: world.one(CONNECTIONS) == 0, message="its connections to be closed")
        wait_until(lambda: not threads(), message=lambda: f"the end of {threads()}")


def test_a_queue_that_is_added_and_cancelled_while_it_runs_is_in_its_row(
    world: World, durable: Durable
) -> None:
    with start_worker(
        durable.app, pool="threads", perform_ping_check=False, queues=["other"]
    ) as worker:
        worker.consumer.add_task_queue("durable")
        assert durable.start("w", {}).result(timeout=10) == {"a": None}
        said = "SELECT queues FROM durable_worker"
        wait_until(lambda: world.one(said) == ["durable", "other"], message="both queues")
        worker.consumer.cancel_task_queue("other")
        wait_until(lambda: world.one(said) == ["durable"], message="the one that is left")

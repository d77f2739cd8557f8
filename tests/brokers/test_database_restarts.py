"""Postgres is restarted under load, or away as workers start (P2, P3, P6)."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from celery import Celery

from celery_durable import Durable
from celery_durable.errors import ConfigurationError
from celery_durable.run import Run
from celery_durable.testing.embedded import EmbeddedPostgres
from tests import services
from tests.apps import witnessed
from tests.cluster import Cluster
from tests.forms import short_or_long
from tests.transports import RedisBroker
from tests.waiting import wait_until

APP = "tests.apps.witnessed:app"
RUNS = short_or_long(80, 200)
RESTARTS = 3
UNITS = ("a", "b", "book", "both#x", "both#y", "read", "last")
ENDS_WITHIN = 180.0

BOOKED = "CREATE TABLE booked (run_id uuid, unit text)"


class Field:
    """A server of the test's own, workers on it, and what their handlers have written."""

    def __init__(self, server: EmbeddedPostgres, cluster: Cluster, app: Celery) -> None:
        self.server = server
        self.cluster = cluster
        self.durable = Durable(app)
        witnessed.define(self.durable)
        self._file = Path(cluster.env[witnessed.WITNESS])

    def lines(self) -> list[list[str]]:
        """Run, unit and process of each time a handler was called."""
        text = self._file.read_text() if self._file.exists() else ""
        return [line.split() for line in text.splitlines()]

    def query(self, statement: str, *parameters: Any) -> Sequence[tuple[Any, ...]]:
        with psycopg.connect(self.server.conninfo("shop"), autocommit=True) as connection:
            return connection.execute(statement.encode(), parameters).fetchall()

    def unfinished(self) -> int:
        ((count,),) = self.query("SELECT count(*) FROM durable_run WHERE finished_at IS NULL")
        return int(count)


@pytest.fixture
def field(
    request: pytest.FixtureRequest, redis_broker: RedisBroker, tmp_path: Path
) -> Iterator[Field]:
    try:
        server = EmbeddedPostgres()
    except ConfigurationError as error:
        services.missing(request.config, "Postgres", str(error))
    with server:
        server.create_database("shop")
        url = server.url("shop")
        services.migrate(url)
        with psycopg.connect(server.conninfo("shop"), autocommit=True) as connection:
            connection.execute(BOOKED.encode())
        env = {
            **redis_broker.env(),
            "DURABLE_DATABASE_URL": url,
            witnessed.WITNESS: str(tmp_path / "witness"),
        }
        with Cluster(tmp_path, env, redis_broker.node) as cluster:
            app = redis_broker.configure(Celery("client"))
            app.conf.durable_database_url = url
            field = Field(server, cluster, app)
            with closing(field.durable.database):
                yield field


@pytest.mark.parametrize("immediate", [False, True], ids=["fast", "immediate"])
def test_every_run_ends_though_postgres_is_restarted_under_load(
    field: Field, immediate: bool
) -> None:
    workers = [
        field.cluster.worker(APP, concurrency=2, ready=False),
        field.cluster.worker(APP, pool="threads", concurrency=4, ready=False),
    ]
    field.cluster.wait_ready()
    runs = field.durable.start_many("steady", [{}] * RUNS)
    silences = []
    for number in range(1, RESTARTS + 1):
        so_many = number * RUNS * len(UNITS) // (RESTARTS + 1)
        wait_for_lines(field, so_many)
        field.server.restart(immediate=immediate)
        silences.append(until_work_goes_on(field))
    back = time.monotonic()
    wait_until(lambda: not field.unfinished(), timeout=ENDS_WITHIN, message=field.cluster.logs)
    took = time.monotonic() - back

    repeated = assert_recorded_once(field, runs)
    print(  # noqa: T201 - pytest -rP
        f"silent for {', '.join(f'{one:.1f}' for one in silences)} s; {took:.1f} s to the end;"
        f" repeated: {dict(repeated)}"
    )
    if not immediate:
        # A transaction that was cut is done again; all else is recorded, or waits to be.
        assert set(repeated) <= {"book"}
    assert_said_once_a_restart(field, processes=4)
    assert all(worker.is_running for worker in workers)


def wait_for_lines(field: Field, so_many: int) -> None:
    """Wait until handlers have been called so many times."""
    wait_until(
        lambda: len(field.lines()) >= so_many, timeout=ENDS_WITHIN, message=field.cluster.logs
    )


def until_work_goes_on(field: Field) -> float:
    """Seconds until a handler has been called."""
    began = time.monotonic()
    wait_for_lines(field, len(field.lines()) + 1)
    return time.monotonic() - began


def assert_recorded_once(field: Field, runs: Sequence[Run]) -> Counter[str]:
    """Every run has all its units, each completed at its first attempt; which handlers were called
    again.
    """
    assert {status for (status,) in field.query("SELECT status FROM durable_run")} == {"completed"}
    recorded = Counter(
        field.query("SELECT run_id::text, unit, outcome, attempt FROM durable_journal")
    )
    expected = {(str(run.id), unit, "completed", 1) for run in runs for unit in (*UNITS, "both")}
    assert recorded == Counter(expected)
    assert field.query("SELECT count(*), count(DISTINCT run_id) FROM booked") == [(RUNS, RUNS)]
    called = Counter((run_id, unit) for run_id, unit, _ in field.lines())
    assert set(called) == {(str(run.id), unit) for run in runs for unit in UNITS}
    again: Counter[str] = Counter()
    for (_, unit), times in called.items():
        again[unit] += times - 1
    return +again


def assert_said_once_a_restart(field: Field, processes: int) -> None:
    logs = field.cluster.logs()
    assert logs.count("Postgres does not answer") <= RESTARTS * processes, logs
    assert "Traceback" not in logs
    assert "raised unexpected" not in logs


def test_a_worker_that_starts_without_postgres_comes_to_work_when_it_is_there(
    field: Field,
) -> None:
    os.kill(field.server.pid, signal.SIGQUIT)
    wait_until(lambda: not answers(field), message="the server to be gone")
    worker = field.cluster.worker(APP, concurrency=2)
    field.server.restart()
    (run,) = field.durable.start_many("steady", [{}])
    assert run.result(timeout=60)
    assert worker.is_running


def answers(field: Field) -> bool:
    try:
        field.query("SELECT")
    except psycopg.OperationalError:
        return False
    return True

"""Starts runs of celery_durable and waits for their ends."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import sqlalchemy as sa

from benchmarks.programs.durable_app import BRANCHES, durable
from benchmarks.programs.wire import (
    BROKER,
    DATABASE,
    PATIENCE,
    STEPS,
    expect,
    has_ended,
    latencies,
    repeated,
    serve,
    until,
)
from celery_durable.testing.embedded import install_pgmq


class Client:
    """What the benchmark may ask for."""

    def __init__(self) -> None:
        self._database = psycopg.connect(DATABASE, autocommit=True)
        self._runs = self._units = 0  # that must be there at the end

    def prepare(self) -> None:
        durable.migrate()
        if BROKER.startswith("pgmq"):
            install_pgmq(DATABASE)

    def linear(self, runs: int) -> dict[str, float]:
        """Many runs at once, from the first start until the last has ended."""
        self._expect(runs, runs * STEPS)
        began = time.perf_counter()
        durable.start_many("linear", [{}] * runs)
        until(self._is_idle)
        return {"seconds": time.perf_counter() - began, "units": runs * STEPS}

    def latency(self, times: int) -> dict[str, list[float]]:
        def committed() -> None:
            run = durable.start("linear", {})
            query = "SELECT finished_at IS NOT NULL FROM durable_run WHERE id = %s"
            until(lambda: self._one(query, run.id), pause=0.0005)

        self._expect(2 * times + 2, (2 * times + 2) * STEPS)
        return latencies(
            times, committed, lambda: durable.start("linear", {}).result(timeout=PATIENCE)
        )

    def fan(self, kind: str, items: int, times: int) -> dict[str, Any]:
        """Runs that fork and join, one after the other."""
        if kind == "parallel":
            expect(items, BRANCHES, "items of a parallel")
        self._expect(times, times * (items + 1))
        durations = repeated(
            times, lambda: durable.start(kind, {"items": items}).result(timeout=PATIENCE)
        )
        return {"seconds": sum(durations), "units": items * times, "each": durations}

    def large(self, items: int, limit: float) -> dict[str, Any]:
        """One large map; past the limit it counts what it has done, and leaves the rest."""
        began = time.perf_counter()
        durable.start("map", {"items": items})
        done = has_ended(self._is_idle, limit)
        seconds = time.perf_counter() - began
        units = self._one("SELECT count(*) FROM durable_journal WHERE position IS NOT NULL")
        if done:
            self._expect(1, items + 1)
        return {"seconds": seconds, "units": units, "complete": done}

    def start(self, how: str, count: int) -> dict[str, float]:
        """Starts while no worker is there."""
        self._runs += count
        database = sa.create_engine(DATABASE.replace("postgresql:", "postgresql+psycopg:", 1))
        durable.start("linear", {})  # compiles the statements, and connects
        self._runs += 1
        with database.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
            connection.commit()
            began = time.perf_counter()
            match how:
                case "many":
                    durable.start_many("linear", [{}] * count)
                case "session":
                    for _ in range(count):
                        durable.start("linear", {}, session=connection)
                        connection.commit()
                case _:
                    for _ in range(count):
                        durable.start("linear", {})
            seconds = time.perf_counter() - began
        database.dispose()
        expect(self._one("SELECT count(*) FROM durable_outbox"), self._runs, "messages to send")
        return {"seconds": seconds, "units": count}

    def check(self) -> None:
        """Whether every run is there, and every row of its journal."""
        expect(self._one("SELECT count(*) FROM durable_journal"), self._units, "journal rows")
        completed = "SELECT count(*) FROM durable_run WHERE status = 'completed' OR %s = 0"
        expect(self._one(completed, self._units), self._runs, "runs")

    def _expect(self, runs: int, units: int) -> None:
        self._runs += runs
        self._units += units

    def _is_idle(self) -> bool:
        return not self._one("SELECT EXISTS (SELECT FROM durable_token)")

    def _one(self, query: str, *parameters: object) -> Any:
        row = self._database.execute(query.encode(), parameters).fetchone()
        assert row is not None
        return row[0]


serve(Client())

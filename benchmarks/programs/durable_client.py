"""Starts runs of celery_durable and waits for their ends."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa

from benchmarks.programs.durable_app import BRANCHES, SLOW_STEPS, durable
from benchmarks.programs.wire import (
    BROKER,
    DATABASE,
    PATIENCE,
    PAUSE,
    STEPS,
    expect,
    has_ended,
    latencies,
    repeated,
    serve,
    until,
)
from celery_durable import Run
from celery_durable.testing.embedded import install_pgmq

UNENDED = "SELECT EXISTS (SELECT FROM durable_run WHERE id = ANY(%s) AND finished_at IS NULL)"
AT_ONCE = 100
"""Runs that are asked for in one statement."""

SPAN = """
SELECT extract(epoch FROM max(finished_at) - min(created_at))::float FROM durable_run
WHERE id = ANY(%s)
"""
EACH = """
SELECT extract(epoch FROM finished_at - created_at)::float FROM durable_run WHERE id = ANY(%s)
"""

WAVES = 4
"""Parts in which slow and small runs are started in turn, so that none of them are all in front."""


class Client:
    """What the benchmark may ask for."""

    def __init__(self) -> None:
        self._database = psycopg.connect(DATABASE, autocommit=True)
        # Ids of runs begin with the time: others that the database has come before.
        self._first = UUID(int=(time.time_ns() // 1_000_000) << 80)
        self._runs = self._units = 0  # that must be there at the end

    def prepare(self) -> None:
        durable.migrate()
        if BROKER.startswith("pgmq"):
            install_pgmq(DATABASE)

    def linear(self, runs: int) -> dict[str, float]:
        """Many runs at once, from the first start until the last has ended."""
        self._expect(runs, runs * STEPS)
        began = time.perf_counter()
        self._wait(durable.start_many("linear", [{}] * runs))
        return {"seconds": time.perf_counter() - began, "units": runs * STEPS}

    def together(self, runs: int, times: int) -> dict[str, Any]:
        """Few runs at once, again and again on an idle system.

        The seconds are Postgres': from the first run's row until the last run's end.
        """
        self._expect(runs * times, runs * times * STEPS)
        each = []
        for _ in range(times):
            time.sleep(PAUSE)
            started = durable.start_many("linear", [{}] * runs)
            self._wait(started)
            each.append(self._one(SPAN, _ids(started)))
        return {"seconds": sum(each), "units": runs * times * STEPS, "each": each}

    def mixed(self, kind: str, seconds: float, slow: int, small: int) -> dict[str, Any]:
        """Runs whose steps take so long, and runs of small steps, in waves: the seconds until all
        slow ones have ended, and what each small one took.
        """
        units = slow * SLOW_STEPS + small * STEPS
        self._expect(slow + small, units)
        slow_runs: list[Run] = []
        small_runs: list[Run] = []
        for _ in range(WAVES):
            slow_runs += durable.start_many(kind, [{"seconds": seconds}] * (slow // WAVES))
            small_runs += durable.start_many("linear", [{}] * (small // WAVES))
        self._wait([*slow_runs, *small_runs])
        return {
            "seconds": self._one(SPAN, _ids([*slow_runs, *small_runs])),
            "units": units,
            "slow": self._one(SPAN, _ids(slow_runs)),
            "small": [row[0] for row in self._database.execute(EACH, (_ids(small_runs),))],
        }

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
        run = durable.start("map", {"items": items})
        done = has_ended(lambda: self._have_ended([run.id]), limit)
        seconds = time.perf_counter() - began
        items_of = "SELECT count(*) FROM durable_journal WHERE position IS NOT NULL AND run_id = %s"
        units = self._one(items_of, run.id)
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

    def received(self) -> int:
        """Messages that the worker has taken so far."""
        replies = durable.app.control.inspect(timeout=10, limit=1).stats()
        (totals,) = [reply["total"] for reply in replies.values()]
        return sum(totals.values())

    def check(self) -> None:
        """Whether every run is there, and every row of its journal."""
        written = "SELECT count(*) FROM durable_journal WHERE run_id >= %s"
        expect(self._one(written, self._first), self._units, "journal rows")
        ended = "SELECT count(*) FROM durable_run WHERE id >= %s AND (status = 'completed' OR %s)"
        expect(self._one(ended, self._first, not self._units), self._runs, "runs")

    def _expect(self, runs: int, units: int) -> None:
        self._runs += runs
        self._units += units

    def _wait(self, runs: Sequence[Run]) -> None:
        """Wait for their ends, in the order in which they were started."""
        ids = _ids(runs)
        for place in range(0, len(ids), AT_ONCE):
            batch = ids[place : place + AT_ONCE]
            until(lambda batch=batch: self._have_ended(batch))  # type: ignore[misc]

    def _have_ended(self, ids: list[UUID]) -> bool:
        return not self._one(UNENDED, ids)

    def _one(self, query: str, *parameters: object) -> Any:
        row = self._database.execute(query.encode(), parameters).fetchone()
        assert row is not None
        return row[0]


def _ids(runs: Sequence[Run]) -> list[UUID]:
    return [run.id for run in runs]


serve(Client())

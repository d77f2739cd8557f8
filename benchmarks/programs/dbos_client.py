"""Enqueues DBOS workflows and waits for their ends; `dbos_client direct` executes them itself."""

from __future__ import annotations

import sys
import time
from typing import Any

import psycopg
from dbos import DBOS, DBOSClient

from benchmarks.programs.dbos_app import POLL, QUEUE, configure, linear
from benchmarks.programs.wire import (
    DATABASE,
    STEPS,
    expect,
    has_ended,
    latencies,
    repeated,
    serve,
    until,
)

ENDED = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS' AND name = %s"
STARTED = "SELECT count(*) FROM dbos.workflow_status WHERE name = %s"
STEPS_WRITTEN = "SELECT count(*) FROM dbos.operation_outputs WHERE function_name = %s"


class Client:
    """What the benchmark may ask for."""

    def __init__(self) -> None:
        self._database = psycopg.connect(DATABASE, autocommit=True)
        self._known: DBOSClient | None = None
        self._runs = self._items = self._waiting = 0

    def prepare(self) -> None:
        DBOS.migrate(DATABASE.replace("postgresql:", "postgresql+psycopg:", 1))

    def linear(self, runs: int) -> dict[str, float]:
        """Many workflows at once, from the first until the last has ended."""
        began = time.perf_counter()
        self._runs += runs
        for _ in range(runs):
            self._enqueue("linear")
        until(lambda: self._count(ENDED, "linear") >= self._runs, pause=0.02)
        return {"seconds": time.perf_counter() - began, "units": runs * STEPS}

    def latency(self, times: int) -> dict[str, list[float]]:
        """Of workflows that this process executes itself: the queue is asked once in a poll."""
        configure("client")
        DBOS.launch()

        def committed() -> None:
            self._runs += 1
            DBOS.start_workflow(linear)
            until(lambda: self._count(ENDED, "linear") >= self._runs, pause=0.0005)

        def returned() -> None:
            self._runs += 1
            DBOS.start_workflow(linear).get_result()

        return latencies(times, committed, returned)

    def fan(self, kind: str, items: int, times: int) -> dict[str, Any]:
        """Workflows that fork and join, one after the other."""
        expect(kind, "workflows", "kind")
        self._items += items * times
        durations = repeated(
            times, lambda: self._enqueue("fan", items).get_result(polling_interval_sec=POLL)
        )
        return {"seconds": sum(durations), "units": items * times, "each": durations}

    def large(self, items: int, limit: float) -> dict[str, Any]:
        """One large fan; past the limit it counts what it has done, and leaves the rest."""
        before, began = self._count(ENDED, "item"), time.perf_counter()
        self._enqueue("fan", items)
        done = has_ended(lambda: self._count(ENDED, "item") - before >= items, limit)
        seconds = time.perf_counter() - began
        units = self._count(ENDED, "item") - before
        self._items += items if done else 0
        return {"seconds": seconds, "units": units, "complete": done}

    def start(self, how: str, count: int) -> dict[str, float]:
        """Enqueues while no worker is there."""
        expect(how, "one", "how")
        self._enqueue("linear")
        began = time.perf_counter()
        for _ in range(count):
            self._enqueue("linear")
        self._waiting += count + 1
        return {"seconds": time.perf_counter() - began, "units": count}

    def check(self) -> None:
        """Whether every workflow has ended, and every step was written."""
        if self._waiting:
            expect(self._count(STARTED, "linear"), self._waiting, "workflows enqueued")
            return
        written = self._count(STEPS_WRITTEN, "small")
        expect(written, self._runs * STEPS + self._items, "steps written")
        expect(self._count(ENDED, "linear"), self._runs, "workflows ended")

    def _enqueue(self, name: str, *arguments: object) -> Any:
        if self._known is None:
            self._known = DBOSClient(
                system_database_url=DATABASE.replace("postgresql:", "postgresql+psycopg:", 1)
            )
        return self._known.enqueue({"workflow_name": name, "queue_name": QUEUE}, *arguments)

    def _count(self, query: str, name: str) -> int:
        row = self._database.execute(query.encode(), (name,)).fetchone()
        assert row is not None
        return int(row[0])


if __name__ == "__main__":
    serve(Client())
    sys.stdout.flush()

"""Spawns tasks of absurd and waits for their ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psycopg
from absurd_sdk import Absurd

from benchmarks.programs.absurd_worker import QUEUE
from benchmarks.programs.wire import DATABASE, PATIENCE, STEPS, expect, latencies, serve, until

ENDED = f"SELECT count(*) FROM absurd.t_{QUEUE} WHERE state = 'completed'"
UNENDED = f"SELECT EXISTS (SELECT FROM absurd.t_{QUEUE} WHERE state <> 'completed')"
STARTED = f"SELECT count(*) FROM absurd.t_{QUEUE}"
WRITTEN = f"SELECT count(*) FROM absurd.c_{QUEUE}"
STATE = f"SELECT state = 'completed' FROM absurd.t_{QUEUE} WHERE task_id = %s"


class Client:
    """What the benchmark may ask for."""

    def __init__(self) -> None:
        self._database = psycopg.connect(DATABASE, autocommit=True)
        self._absurd = Absurd(self._database, queue_name=QUEUE)
        self._runs = self._waiting = 0

    def prepare(self) -> None:
        """Create the tables with absurd's own command."""
        command = str(Path(sys.executable).with_name("absurdctl"))
        subprocess.run([command, "init", "-d", DATABASE], check=True, capture_output=True)
        self._absurd.create_queue(QUEUE)

    def linear(self, runs: int) -> dict[str, float]:
        """Many tasks at once, from the first until the last has ended."""
        began = time.perf_counter()
        for _ in range(runs):
            self._spawn()
        until(lambda: not self._one(UNENDED), pause=0.01)
        return {"seconds": time.perf_counter() - began, "units": runs * STEPS}

    def latency(self, times: int) -> dict[str, list[float]]:
        def committed() -> None:
            task = self._spawn()
            until(lambda: self._one(STATE, task), pause=0.0005)

        def returned() -> None:
            self._absurd.await_task_result(self._spawn(), timeout=PATIENCE)

        return latencies(times, committed, returned)

    def start(self, how: str, count: int) -> dict[str, float]:
        """Spawns while no worker is there."""
        expect(how, "one", "how")
        self._spawn()
        began = time.perf_counter()
        for _ in range(count):
            self._spawn()
        self._waiting += count + 1
        return {"seconds": time.perf_counter() - began, "units": count}

    def check(self) -> None:
        """Whether every task has ended, and every checkpoint was written."""
        if self._waiting:
            expect(self._one(STARTED), self._waiting, "tasks spawned")
            return
        expect(self._one(WRITTEN), self._runs * STEPS, "checkpoints")
        expect(self._one(ENDED), self._runs, "tasks ended")

    def _spawn(self) -> str:
        self._runs += 1
        return str(self._absurd.spawn("linear", {}, queue=QUEUE)["task_id"])

    def _one(self, query: str, *parameters: object) -> object:
        row = self._database.execute(query.encode(), parameters).fetchone()
        assert row is not None
        return row[0]


serve(Client())

"""Sends chains and chords of plain Celery and waits for their ends."""

from __future__ import annotations

import time
from itertools import count as counter
from pathlib import Path
from typing import Any

from celery import chain, chord

from benchmarks.programs.celery_app import (
    app,
    first,
    item,
    join,
    last,
    last_kept,
    noted_item,
    small,
)
from benchmarks.programs.wire import (
    ENDED,
    PATIENCE,
    QUEUE,
    STEPS,
    expect,
    latencies,
    repeated,
    serve,
    until,
)


class Client:
    """What the benchmark may ask for."""

    def __init__(self) -> None:
        self._numbers = counter()
        self._expected: list[str] = []
        self._sent = 0
        self._file = Path(ENDED)
        self._file.touch()

    def prepare(self) -> None:
        """Nothing: the queue is made by whoever comes first."""

    def linear(self, runs: int) -> dict[str, float]:
        """Many chains at once, from the first until the last has ended."""
        began = time.perf_counter()
        for _ in range(runs):
            self._chain(last).apply_async()
        until(self._have_ended)
        return {"seconds": time.perf_counter() - began, "units": runs * STEPS}

    def latency(self, times: int) -> dict[str, list[float]]:
        def noted() -> None:
            self._chain(last).apply_async()
            until(self._have_ended, pause=0.0005)

        def got() -> None:
            result = self._chain(last_kept, is_noted=False).apply_async().get(timeout=PATIENCE)
            expect(result[1], STEPS, "steps of a chain")

        return latencies(times, noted, got)

    def fan(self, kind: str, items: int, times: int) -> dict[str, Any]:
        """Chords, one after the other."""
        expect(kind, "chord", "kind")

        def one() -> None:
            sent = chord((item.s(n) for n in range(items)), join.s()).apply_async()
            expect(sent.get(timeout=PATIENCE), items, "results that were joined")

        durations = repeated(times, one)
        return {"seconds": sum(durations), "units": items * times, "each": durations}

    def large(self, items: int, limit: float) -> dict[str, Any]:
        """One large chord; past the limit it counts what it has done, and leaves the rest."""
        began = time.perf_counter()
        sent = chord((noted_item.s(n) for n in range(items)), join.s()).apply_async()
        left = max(0.1, limit - (time.perf_counter() - began))
        try:
            expect(sent.get(timeout=left), items, "results that were joined")
            done, units = True, items
        except app.backend.TimeoutError:
            done, units = False, len(self._file.read_text().splitlines())
        return {"seconds": time.perf_counter() - began, "units": units, "complete": done}

    def start(self, how: str, count: int) -> dict[str, float]:
        """Sends single tasks while no worker is there."""
        app.conf.broker_transport_options = {
            **app.conf.broker_transport_options,
            "confirm_publish": how == "confirmed",
        }
        first.apply_async(["warm"])
        began = time.perf_counter()
        for _ in range(count):
            first.apply_async(["run"])
        self._sent += count + 1
        return {"seconds": time.perf_counter() - began, "units": count}

    def check(self) -> None:
        """Whether each chain has ended once, after all its steps, or all messages are there."""
        if self._sent:
            until(lambda: self._size() >= self._sent, patience=5)
            expect(self._size(), self._sent, "messages")
        if self._expected:
            expect(sorted(self._file.read_text().split("\n")[:-1]), sorted(self._expected), "ends")

    def _chain(self, end: Any, *, is_noted: bool = True) -> Any:
        run = f"{next(self._numbers):012}"
        if is_noted:
            self._expected.append(f"{run} {STEPS}")
        return chain(first.s(run), *(small.s() for _ in range(STEPS - 2)), end.s())

    def _have_ended(self) -> bool:
        line = 12 + len(f" {STEPS}\n")
        return self._file.stat().st_size >= line * len(self._expected)

    def _size(self) -> int:
        with app.connection_for_read() as connection:
            return int(connection.default_channel.queue_declare(QUEUE, passive=True).message_count)


serve(Client())

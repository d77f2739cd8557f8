"""How the benchmark speaks to its programs: a line of JSON there, a line of JSON back.

Standard library only: it is imported in the peers' environments, too.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

READY = "benchmark: ready"
"""A worker prints this when it takes work."""

STEPS = 10
"""Steps of a linear run."""

PATIENCE = 120.0
"""Seconds after which work that does not end is an error."""

PAUSE = 0.05
"""Seconds between two runs whose latency is measured: everything is idle again."""

DATABASE = os.environ.get("BENCH_DATABASE", "")
"""URL of the database, as libpq takes it."""

BROKER = os.environ.get("BENCH_BROKER", "")
"""URL of the broker."""

TRANSPORT: dict[str, Any] = json.loads(os.environ.get("BENCH_TRANSPORT", "{}"))
"""Celery's `broker_transport_options`."""

SETTINGS: dict[str, int] = json.loads(os.environ.get("BENCH_SETTINGS", "{}"))
"""Settings of the library that are not the defaults, without their prefix."""

QUEUE = os.environ.get("BENCH_QUEUE", "bench")
"""The queue of this round."""

ENDED = os.environ.get("BENCH_ENDED", "")
"""The file in which plain Celery tasks note that work has ended; nothing is cheaper."""


class WorkIsMissing(Exception):
    """Not all that was asked for has been done."""


class TookTooLong(WorkIsMissing):
    """Work had not ended when patience had."""


def serve(client: object) -> None:
    """Answer requests with what the method of that name returns, until standard input closes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library that prints does not disturb
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        answer: dict[str, object]
        try:
            answer = {"answer": getattr(client, request.pop("do"))(**request)}
        except Exception as error:  # noqa: BLE001 - any error of a contender is a row of the report
            answer = {
                "error": f"{type(error).__name__}: {error}",
                "is_missing": isinstance(error, WorkIsMissing),
            }
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def until(
    condition: Callable[[], object], pause: float = 0.005, patience: float = PATIENCE
) -> None:
    """Ask until the answer is true."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TookTooLong(f"not all had ended after {patience:g} s")
        time.sleep(pause)


def has_ended(condition: Callable[[], object], limit: float) -> bool:
    """Wait at most `limit` seconds until the answer is true, and say whether it is."""
    try:
        until(condition, patience=limit)
    except TookTooLong:
        return False
    return True


def expect(found: object, expected: object, what: str) -> None:
    """Raise unless what is found is what is expected."""
    if found != expected:
        raise WorkIsMissing(f"{what}: found {found}, expected {expected}")


def latencies(
    times: int, committed: Callable[[], object], returned: Callable[[], object]
) -> dict[str, list[float]]:
    """Seconds of single runs on an idle system: to the end's commit, and to the result, in turn.

    The first two runs warm up, and do not count.
    """
    measured: dict[str, list[float]] = {"committed": [], "returned": []}
    for number in range(times + 1):
        for name, run in (("committed", committed), ("returned", returned)):
            time.sleep(PAUSE)
            began = time.perf_counter()
            run()
            if number > 0:
                measured[name].append(time.perf_counter() - began)
    return measured


def repeated(times: int, work: Callable[[], object]) -> list[float]:
    """The seconds of each of so many."""
    durations = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        durations.append(time.perf_counter() - began)
    return durations

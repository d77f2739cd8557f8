"""The parts by name. Each is a module whose `measure(bench)` yields sections of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from benchmarks import (
    fanout,
    growth,
    idle,
    latency,
    linear,
    outbox,
    start,
    trees,
    waiting,
)
from benchmarks.bench import Bench
from benchmarks.section import Section

Measure: TypeAlias = Callable[[Bench], Iterator[Section]]

PARTS: Mapping[str, Measure] = {
    "linear": linear.measure,
    "latency": latency.measure,
    "fanout": fanout.measure,
    "start": start.measure,
    "idle": idle.measure,
    "growth": growth.measure,
    "waiting": waiting.measure,
    "outbox": outbox.measure,
    "trees": trees.measure,
}

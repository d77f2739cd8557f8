"""The parts by name. Each is a module whose `measure(bench)` yields sections of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks import (
    counts,
    fanout,
    few,
    growth,
    idle,
    latency,
    linear,
    outbox,
    page,
    prune,
    slow,
    start,
    trees,
    waiting,
)
from benchmarks.bench import Bench
from benchmarks.section import Section

Measure: TypeAlias = Callable[[Bench], Iterator[Section]]


@dataclass(frozen=True, slots=True)
class Part:
    """Something that can be asked for by name, and its share of the time."""

    measure: Measure
    minutes: float


PARTS: Mapping[str, Part] = {
    "linear": Part(linear.measure, 4.5),
    "latency": Part(latency.measure, 3),
    "fanout": Part(fanout.measure, 4),
    "start": Part(start.measure, 1.5),
    "few": Part(few.measure, 1),
    "slow": Part(slow.measure, 1),
    "idle": Part(idle.measure, 2),
    "counts": Part(counts.measure, 1.5),
    "growth": Part(growth.measure, 2),
    "waiting": Part(waiting.measure, 0.7),
    "outbox": Part(outbox.measure, 0.5),
    "prune": Part(prune.measure, 1.5),
    "trees": Part(trees.measure, 0.2),
    "page": Part(page.measure, 0.8),
}

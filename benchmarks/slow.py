"""Slow steps beside small ones: do runs of small steps wait behind handlers that take long?

Runs of two slow steps and runs of ten small ones start together, in waves, on two workers of two
processes. A slow step sleeps, or computes. The times are those of the tables.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks.bench import Bench
from benchmarks.compare import errors
from benchmarks.contenders import HAS_BUNDLES, ours, single, with_single
from benchmarks.latency import p99
from benchmarks.rounds import Row, Trial, interleave
from benchmarks.section import Section, median_ratio, number
from benchmarks.session import Reading, Session

TITLE = "slow"
SMALL = 80
"""Runs of small steps beside the slow ones."""

SLOW = {0.02: 40, 0.2: 12}
"""Slow runs, by the seconds of their steps."""

OURS = ours("RabbitMQ", workers=2)
COLUMNS = (
    "who",
    "small runs, ms p50",
    "p99",
    "slow ones, ms until all have ended",
    "us/step",
    "rounds",
)
RATIOS = ("what", "small runs, p50", "p99", "slow ones")


def measure(bench: Bench) -> Iterator[Section]:
    trials = [
        Trial(one, f"{_verb(kind)} {1000 * seconds:.0f} ms", mixed(kind, seconds))
        for one in with_single(OURS)
        for kind in ("sleep", "compute")
        for seconds in SLOW
    ]
    rows = interleave(bench, TITLE, trials)
    named = {row.trial.name: row for row in rows if row.is_measured}
    yield ratios(named)
    yield Section(
        title=f"{TITLE}: {SMALL} runs of 10 small steps beside runs of 2 slow ones",
        columns=COLUMNS,
        rows=[cells(row) for row in named.values()],
        errors=errors(rows),
        note="Two workers of two processes each."
        + ("" if HAS_BUNDLES else " This version knows no durable_bundle."),
        record=[row.record() for row in rows],
    )


def _verb(kind: str) -> str:
    return {"sleep": "steps that sleep", "compute": "steps that compute"}[kind]


def mixed(kind: str, seconds: float) -> Callable[[Session], Reading]:
    def take(session: Session) -> Reading:
        share = min(1.0, session.seconds)
        slow, small = (4 * max(1, round(share * number / 4)) for number in (SLOW[seconds], SMALL))
        session.ask("linear", runs=4)
        return session.measure("mixed", kind=kind, seconds=seconds, slow=slow, small=small)

    return take


def ratios(named: Mapping[str, Row]) -> Section:
    """How many times as long it takes as with one token a message."""
    rows = []
    for row in named.values():
        other = named.get(Trial(single(OURS), row.trial.what, row.trial.take).name)
        if row.trial.contender == OURS and other:
            figures = (median_ratio(one(row), one(other)) for one in (middles, longest, slow_ends))
            rows.append((row.trial.what, *(f"{figure:.2f}" for figure in figures)))
    return Section(
        title=f"{TITLE}: times, as multiples of those with bundle 1 (less is better)",
        columns=RATIOS,
        rows=rows,
    )


def middles(row: Row) -> list[float]:
    return [statistics.median(reading.answer["small"]) for reading in row.readings]


def longest(row: Row) -> list[float]:
    return [p99(reading.answer["small"]) for reading in row.readings]


def slow_ends(row: Row) -> list[float]:
    return [reading.answer["slow"] for reading in row.readings]


def cells(row: Row) -> tuple[str, ...]:
    figures: Sequence[list[float]] = (middles(row), longest(row), slow_ends(row))
    return (
        row.trial.name,
        *(f"{1000 * statistics.median(each):.1f}" for each in figures),
        number(row.microseconds()),
        str(len(row.readings)),
    )

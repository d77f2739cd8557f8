"""Few runs started together on an idle worker: how soon the last has ended, and what a step costs.

Bundles are for many; few runs must not wait for them. The times are those of the tables, from the
first run's row until the last run's end.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks.bench import Bench
from benchmarks.compare import errors
from benchmarks.contenders import HAS_BUNDLES, ours, single, with_single
from benchmarks.processor import ROLES
from benchmarks.rounds import Row, Trial, interleave
from benchmarks.section import Bar, Section, median_ratio, number
from benchmarks.session import Reading, Session

TITLE = "few"
TOGETHER = {1: 20, 4: 10, 16: 5, 64: 3, 128: 2}
"""Runs that start together, and how often in a round."""

OURS = ours("RabbitMQ")
COLUMNS = (
    "who",
    "ms until the last has ended",
    "x bundle 1",
    "us/step",
    "workers",
    "Postgres",
    "broker",
    "client",
    "rounds",
)


def measure(bench: Bench) -> Iterator[Section]:
    trials = [
        Trial(one, what(runs), together(runs)) for one in with_single(OURS) for runs in TOGETHER
    ]
    rows = interleave(bench, TITLE, trials)
    yield section(rows)


def what(runs: int) -> str:
    return f"{runs} together"


def together(runs: int) -> Callable[[Session], Reading]:
    def take(session: Session) -> Reading:
        times = max(1, round(TOGETHER[runs] * min(1.0, session.seconds)))
        session.ask("together", runs=runs, times=1)
        return session.measure("together", runs=runs, times=times)

    return take


def section(rows: Sequence[Row]) -> Section:
    """One table: those of one number below each other."""
    named = {row.trial.name: row for row in rows if row.is_measured}
    ordered = [row for runs in TOGETHER for row in named.values() if row.trial.what == what(runs)]
    return Section(
        title="few: runs of 10 small steps started together on an idle worker",
        columns=COLUMNS,
        rows=[cells(row, _single_of(row, named)) for row in ordered],
        errors=errors(rows),
        note="From the first run's row until the last run's end, as the tables have it."
        + ("" if HAS_BUNDLES else " This version knows no durable_bundle."),
        chart="few: ms until the last of those started together has ended",
        bars=[Bar(row.trial.name, 1000 * duration(row), is_ours=True) for row in ordered],
        record=[row.record() for row in rows],
        figures=figures(named),
    )


def cells(row: Row, other: Row | None) -> tuple[str, ...]:
    against = "" if other is None else f"{_ratio(row, other):.2f}"
    costs = (number(row.microseconds(role)) for role in ("all", *ROLES))
    rounds = str(len(row.readings))
    return (row.trial.name, f"{1000 * duration(row):.1f}", against, *costs, rounds)


def duration(row: Row) -> float:
    """The median of seconds until the last has ended."""
    return statistics.median(row.samples("each"))


def figures(named: Mapping[str, Row]) -> dict[str, float]:
    """How many times as long some take as with one token a message."""
    found = {}
    for row in named.values():
        if row.trial.contender == OURS and (other := _single_of(row, named)):
            found[f"few: {row.trial.what}"] = _ratio(row, other)
    return found


def _single_of(row: Row, named: Mapping[str, Row]) -> Row | None:
    return named.get(Trial(single(row.trial.contender), row.trial.what, row.trial.take).name)


def _ratio(row: Row, other: Row) -> float:
    return median_ratio(_durations(row), _durations(other))


def _durations(row: Row) -> list[float]:
    return [statistics.median(reading.answer["each"]) for reading in row.readings]

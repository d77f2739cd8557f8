"""Rows of a round as tables: ratios first, then rates with the processor time beside them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.processor import ROLES
from benchmarks.rounds import Row
from benchmarks.section import Bar, Section, number

HEADS = ("workers", "Postgres", "broker", "client")


def sections(
    title: str, units: str, rows: Sequence[Row], against: Mapping[str, str], note: str = ""
) -> Iterator[Section]:
    """Two tables of the rows. `against` has the names of rows that all are held against, by the
    head of their column.
    """
    yield ratios(title, rows, against)
    yield rates(title, units, rows, note)


def ratios(title: str, rows: Sequence[Row], against: Mapping[str, str]) -> Section:
    """How many times as fast ours are as the others, and how much more processor time they take."""
    named = {row.trial.name: row for row in rows if row.is_measured}
    others = {head: named[name] for head, name in against.items() if name in named}
    cells = [
        (row.trial.name, *(_against(row, other) for other in others.values()))
        for row in named.values()
        if row.trial.contender.system == "ours"
    ]
    return Section(
        title=f"{title}: rate / processor time per unit, as multiples of the others'",
        columns=("who", *others),
        rows=cells if others else [],
    )


def _against(row: Row, other: Row) -> str:
    """Medians of the ratios in each round, so that a busy round hurts both."""
    rounds = list(zip(row.readings, other.readings, strict=False))
    fast = statistics.median(ours.rate / theirs.rate for ours, theirs in rounds)
    cost = [ours.cost / theirs.cost for ours, theirs in rounds if theirs.cost]
    return f"{fast:.2f} / " + (f"{statistics.median(cost):.2f}" if cost else "-")


def rates(title: str, units: str, rows: Sequence[Row], note: str = "") -> Section:
    """Medians over the rounds."""
    measured = [row for row in rows if row.is_measured]
    unit = units.removesuffix("s")
    columns = ("who", f"{units}/s", "lowest-highest", f"us/{unit}", *HEADS, "rounds")
    return Section(
        title=f"{title}: {units}/s, and processor microseconds per {unit}",
        columns=columns,
        rows=[_cells(row) for row in measured],
        errors=errors(rows),
        note=note,
        chart=f"{title}: {units}/s",
        bars=[
            Bar(row.trial.name, row.rate, row.trial.contender.system == "ours") for row in measured
        ],
        record=[row.record() for row in rows],
    )


def errors(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Who could not be measured, and why."""
    unmeasured = (row for row in rows if not row.is_measured)
    return [(row.trial.name, row.error or "no time was left") for row in unmeasured]


def _cells(row: Row) -> tuple[str, ...]:
    each = sorted(reading.rate for reading in row.readings)
    return (
        row.trial.name + ("" if _is_complete(row) else " (stopped before its end)"),
        number(row.rate),
        f"{number(each[0])}-{number(each[-1])}",
        number(row.microseconds()),
        *(number(row.microseconds(role)) for role in ROLES),
        str(len(each)),
    )


def _is_complete(row: Row) -> bool:
    return all(reading.is_complete for reading in row.readings)

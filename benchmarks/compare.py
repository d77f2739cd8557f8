"""Rows of a round as tables: ratios first, then rates with the processor time beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from benchmarks.processor import ROLES
from benchmarks.rounds import Row
from benchmarks.section import Bar, Section, median_ratio, number

HEADS = ("workers", "Postgres", "broker", "client")


def sections(
    title: str,
    units: str,
    rows: Sequence[Row],
    against: Mapping[str, str],
    *,
    note: str = "",
    figures: Mapping[str, float | None] | None = None,
) -> Iterator[Section]:
    """Two tables of the rows. `against` has the names of rows that all are held against, by the
    head of their column.
    """
    yield ratios(title, rows, against)
    table = rates(title, units, rows, note)
    yield replace(table, figures=known(figures or {}))


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
    cost = times_the_cost(row, other)
    return f"{times_as_fast(row, other):.2f} / " + ("-" if cost is None else f"{cost:.2f}")


def times_as_fast(row: Row, other: Row) -> float:
    """How many times the other's rate it has."""
    return median_ratio(
        [each.rate for each in row.readings], [each.rate for each in other.readings]
    )


def times_the_cost(row: Row, other: Row) -> float | None:
    """How many times the other's processor time a unit takes; None if it is too little to see."""
    pairs = zip(row.readings, other.readings, strict=False)
    seen = [(ours.cost, theirs.cost) for ours, theirs in pairs if theirs.cost]
    return median_ratio(*zip(*seen, strict=True)) if seen else None


class Versus:
    """Looks rows up by their names; None where one of them was not measured."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = {row.trial.name: row for row in rows if row.is_measured}

    def row(self, name: str) -> Row | None:
        return self._rows.get(name)

    def fast(self, name: str, other: str) -> float | None:
        """How many times the other's rate it has."""
        return self._of(times_as_fast, name, other)

    def cost(self, name: str, other: str) -> float | None:
        """How many times the other's processor time a unit takes."""
        return self._of(times_the_cost, name, other)

    def best(self, other: str) -> float | None:
        """The same of the fastest of ours that have their default settings."""
        ours = [name for name, row in self._rows.items() if _has_defaults(row)]
        found = [fast for name in ours if (fast := self.fast(name, other)) is not None]
        return max(found, default=None)

    def _of(self, ratio: Callable[[Row, Row], float | None], name: str, other: str) -> float | None:
        one, two = self.row(name), self.row(other)
        return ratio(one, two) if one and two else None


def _has_defaults(row: Row) -> bool:
    return row.trial.contender.system == "ours" and not row.trial.contender.settings


def known(figures: Mapping[str, float | None]) -> dict[str, float]:
    """Those that were measured."""
    return {name: figure for name, figure in figures.items() if figure is not None}


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

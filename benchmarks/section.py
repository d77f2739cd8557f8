"""What a part hands back: a table, and what is needed to draw and to store it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart."""

    label: str
    value: float
    is_ours: bool


@dataclass(frozen=True, slots=True)
class Section:
    """A table with a title; cells are text already."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""
    errors: Sequence[tuple[str, str]] = ()
    """Who could not be measured, and why."""

    bars: Sequence[Bar] = ()
    chart: str = ""
    """The title of the bars, which says their unit."""

    record: Sequence[dict[str, object]] = field(default=())
    """All that was measured, for JSON."""

    figures: Mapping[str, float] = field(default_factory=dict)
    """What `targets` looks at, by name."""


def median_ratio(values: Sequence[float], against: Sequence[float]) -> float:
    """The median of the ratios in each round, so that a busy round hurts both."""
    pairs = zip(values, against, strict=False)
    return statistics.median(value / other for value, other in pairs)


def ratio(value: float | None, against: float | None) -> str:
    """How many times `against` the value is, or nothing where one of them is missing."""
    return f"{value / against:.2f}" if value is not None and against else ""


def number(value: float | None) -> str:
    """About three digits; a dash for what is not known."""
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"

"""The axis of a timeline: where a moment lies, and at which lengths of time its lines stand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from celery_durable.core.diagram import duration

MOST_TICKS = 8

STEPS: tuple[float, ...] = (
    *(digit * 10.0**power for power in range(-3, 1) for digit in (1, 2, 5)),
    *(10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(hours * 3600 for hours in (1, 2, 3, 6, 12, 24, 48, 7 * 24)),
)
"""Seconds from one line to the next, as people count time; above them weeks, doubled."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The time from `begin` to `end`, on `width` units of length from `left`."""

    begin: datetime
    end: datetime
    left: float
    width: float

    @property
    def seconds(self) -> float:
        """How long it is; never nothing."""
        return max((self.end - self.begin).total_seconds(), 0.001)

    def x(self, at: datetime) -> float:
        """Where a moment lies; what is outside lies at the border."""
        passed = min(max((at - self.begin).total_seconds() / self.seconds, 0.0), 1.0)
        return round(self.left + passed * self.width, 2)

    def ticks(self) -> list[tuple[float, str]]:
        """The lines, each with the time that has passed since the beginning."""
        step = self._step()
        count = int(self.seconds / step + 1e-9)
        return [
            (
                round(self.left + number * step / self.seconds * self.width, 2),
                duration(round(number * step, 3)),
            )
            for number in range(count + 1)
        ]

    def _step(self) -> float:
        least = self.seconds / MOST_TICKS
        for step in STEPS:
            if step >= least:
                return step
        step = STEPS[-1]
        while step < least:
            step *= 2
        return step

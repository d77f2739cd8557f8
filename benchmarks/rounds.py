"""Interleaved rounds: in each, every contender starts, works and ends, so that a busy machine
hurts all alike.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from benchmarks.bench import Bench
from benchmarks.contenders import Contender
from benchmarks.processes import ContenderFailed, WorkMissing
from benchmarks.processor import ROLES
from benchmarks.session import Reading, Session, Stage


@dataclass(frozen=True, slots=True)
class Trial:
    """Something that is measured on a contender."""

    contender: Contender
    what: str
    take: Callable[[Session], Reading]
    rounds: int | None = None
    """How many rounds at most; it may take long."""

    @property
    def name(self) -> str:
        return f"{self.contender.name}: {self.what}" if self.what else self.contender.name


@dataclass(slots=True)
class Row:
    """A trial, and what was read in its rounds; with an error it has no figures."""

    trial: Trial
    readings: list[Reading] = field(default_factory=list)
    error: str | None = None

    @property
    def is_measured(self) -> bool:
        return self.error is None and bool(self.readings)

    @property
    def rate(self) -> float:
        """The median of units per second."""
        return statistics.median(reading.rate for reading in self.readings)

    def microseconds(self, role: str = "all") -> float | None:
        """The median of processor time per unit; None where it cannot be known."""
        found = [reading.microseconds(role) for reading in self.readings]
        known = [each for each in found if each is not None]
        return statistics.median(known) if known else None

    def samples(self, name: str) -> list[float]:
        """Single durations of all rounds."""
        return [each for reading in self.readings for each in reading.answer[name]]

    def record(self) -> dict[str, object]:
        """All of it, for JSON."""
        readings = [
            {
                **reading.answer,
                "processor_seconds": {role: getattr(reading.processor, role) for role in ROLES},
            }
            for reading in self.readings
        ]
        contender = self.trial.contender
        return {
            "contender": contender.name,
            "system": contender.system,
            "what": self.trial.what,
            "error": self.error,
            "rounds": readings,
        }


def interleave(bench: Bench, title: str, trials: Sequence[Trial]) -> list[Row]:
    """Take every trial in every round; contenders begin in another order each time.

    A trial whose contender fails is not taken again, and its row has the error. Past the deadline
    no further round begins.
    """
    rows = [Row(trial) for trial in trials if bench.only.lower() in trial.name.lower()]
    by_contender: dict[Contender, list[Row]] = {}
    for row in rows:
        by_contender.setdefault(row.trial.contender, []).append(row)
    with ExitStack() as stack:
        stages = {
            contender: stack.enter_context(closing(Stage(contender, bench.services)))
            for contender in by_contender
        }
        taken, all_turns = 0, bench.rounds * max(1, len(stages))
        for number in range(bench.rounds):
            if number and bench.is_late:
                break
            order = [*stages]
            turn = number % max(1, len(order))
            for contender in order[turn:] + order[:turn]:
                left = [row for row in by_contender[contender] if _is_left(row, number)]
                bench.say(f"{title}: {contender.name}, round {number + 1}", taken / all_turns)
                taken += 1
                if left:
                    _take(stages[contender], left, bench)
    return rows


def _is_left(row: Row, number: int) -> bool:
    most = row.trial.rounds
    return row.error is None and (most is None or number < most)


def _take(stage: Stage, rows: Sequence[Row], bench: Bench) -> None:
    """Start a contender and take its trials, each followed by a check of what it left."""
    try:
        with stage.session(bench.seconds) as session:
            for row in rows:
                try:
                    reading = row.trial.take(session)
                    if reading.is_complete:
                        session.check()
                except ContenderFailed as error:
                    row.error = str(error)
                    if isinstance(error, WorkMissing):
                        bench.missing.append(row.trial.name)
                    return
                row.readings.append(reading)
    except ContenderFailed as error:
        for row in rows:
            row.error = row.error or str(error)

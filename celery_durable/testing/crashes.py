"""Repeats a run with a death at every commit, and compares.

A death is an exception that nothing catches: the claim stays, and the worker's row ends, as after
`kill -9`. Then the claim is reaped, and the run goes on. That the tables are whole after a death is
the engine's business; what a second call of a handler does is its author's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID, uuid5

from celery_durable.core.event import Event, Succeeded
from celery_durable.durable import Durable
from celery_durable.engine.attempt import Attempt
from celery_durable.errors import ConfigurationError, ErrorRecord
from celery_durable.run import Run
from celery_durable.store import codec
from celery_durable.testing.engine import Death, Watch
from celery_durable.testing.report import CrashFinding, Moment, Report

Check = Callable[[Run], object]

LIMIT = 2**30


class Doom(Watch):
    """Counts the commits of a run, and dies at one of them."""

    def __init__(self, commit: int = 0, moment: Moment = "before") -> None:
        self.units: list[str] = []
        self.results: dict[tuple[UUID, str], list[str]] = {}
        self.died_at: str | None = None
        self.taken: set[str] = set()
        self._commit = commit
        self._moment = moment

    def before(self, attempt: Attempt, event: Event) -> None:
        """Note the unit and its result."""
        token = attempt.claim.token
        self.units.append(token.unit)
        found = self.results.setdefault((token.run_id, token.unit), [])
        if isinstance(event, Succeeded) and event.result is not None:
            found.append(event.result)
        self._strike("before")

    def took(self, signal: str) -> None:
        """Note a signal that was taken."""
        self.taken.add(signal)

    def after(self, attempt: Attempt) -> None:  # noqa: ARG002 - `before` has noted it
        """Die after the commit, if that is the one."""
        self._strike("after")

    def _strike(self, moment: Moment) -> None:
        is_there = len(self.units) == self._commit and moment == self._moment
        if is_there and self.died_at is None:
            self.died_at = self.units[-1]
            raise Death

    def differing(self) -> Iterator[tuple[str, str, str]]:
        """Yield each unit of which a second call has returned something else, and both results."""
        for (_, unit), texts in self.results.items():
            for other in texts[1:]:
                if other != texts[0]:
                    yield unit, texts[0], other

    def without_ids(self, text: str) -> str:
        """Return `text` with names in place of what is another in each run: ids and keys."""
        runs = list(dict.fromkeys(run_id for run_id, _ in self.results))
        for run_id, unit in self.results:
            text = text.replace(str(uuid5(run_id, unit)), f"<the key of {unit}>")
        for number, run_id in enumerate(runs):
            text = text.replace(str(run_id), f"<run {number}>")
        return text


@dataclass(frozen=True, slots=True)
class Told:
    """What a run has done: texts of each unit and of the run, and what `check` returned."""

    units: Mapping[str, str]
    run: str
    effects: object
    doom: Doom

    @property
    def shown_effects(self) -> str:
        """The effects as a text in which ids of runs are not told apart."""
        return self.doom.without_ids(repr(self.effects))

    def has_effects_of(self, other: Told) -> bool:
        """Return True if `check` returned the same, but for ids."""
        return self.effects == other.effects or self.shown_effects == other.shown_effects


class Driver(Protocol):
    """The part of a harness that this needs."""

    @property
    def durable(self) -> Durable:
        """The `Durable` of the runs."""
        ...

    def execute(self, start: Callable[[], Run], watch: Watch, signals: Mapping[str, object]) -> Run:
        """Start a run, and execute it to its end; replace a worker that dies."""
        ...


@dataclass(frozen=True, slots=True)
class Crashes:
    """One workflow that is crashed everywhere."""

    driver: Driver
    workflow: str
    start: Callable[[], Run]
    signals: Mapping[str, object]
    check: Check | None

    def report(self) -> Report:
        """Execute the run undisturbed, and then once for each death."""
        expected = self._undisturbed()
        findings: list[CrashFinding] = []
        deaths = 0
        for commit in range(1, len(expected.doom.units) + 1):
            for moment in ("before", "after"):
                told = self._told(Doom(commit, moment))
                if (unit := told.doom.died_at) is not None:
                    deaths += 1
                    findings += _findings(expected, told, unit, moment, commit)
        return Report(self.workflow, deaths, tuple(findings))

    def _undisturbed(self) -> Told:
        """What the run does without a death. What differs from time to time is left out."""
        first = self._told(Doom())
        if untaken := self.signals.keys() - first.doom.taken:
            raise ConfigurationError(
                f"signals: the run has ended, and nothing in it has taken {min(untaken)!r}."
                " Leave it out, or correct its name."
            )
        second = self._told(Doom())
        if not first.has_effects_of(second):
            raise ConfigurationError(
                f"check() returned {first.shown_effects}, and after a second run, undisturbed as"
                f" the first, {second.shown_effects}. It must return what the run that it is called"
                " with has done, and nothing of other runs."
            )
        units = {unit: text for unit, text in first.units.items() if second.units.get(unit) == text}
        is_same = first.run == second.run
        return Told(units, first.run if is_same else "", first.effects, first.doom)

    def _told(self, doom: Doom) -> Told:
        run = self.driver.execute(self.start, doom, self.signals)
        history = self.driver.durable.history(run.id)
        units = {
            entry.unit: doom.without_ids(
                _outcome(entry.unit, entry.outcome, entry.error, entry.result)
            )
            for entry in history
        }
        end = self.driver.durable.status(run.id)
        outcome = _outcome("the run", end.status, end.error, end.result)
        effects = None if self.check is None else self.check(run)
        return Told(units, doom.without_ids(outcome), effects, doom)


def _outcome(name: str, outcome: str, error: ErrorRecord | None, result: object) -> str:
    """Say how a unit or a run has ended: `charge completed with 7`, `charge failed with ...`."""
    if error is not None:
        return f"{name} {outcome} with {error.type}: {error.message}"
    return f"{name} {outcome} with {codec.dumps(result, what='a result', limit=LIMIT)}"


def _findings(
    expected: Told, told: Told, unit: str, moment: Moment, commit: int
) -> Iterator[CrashFinding]:
    has_other_result = False
    for other, first, second in told.doom.differing():
        has_other_result = True
        yield CrashFinding(other, moment, commit, "result", first, second)
    if not told.has_effects_of(expected):
        shown = expected.shown_effects, told.shown_effects
        yield CrashFinding(unit, moment, commit, "effects", *shown)
    if has_other_result:
        return  # what comes of that is no finding of its own
    for name, text in expected.units.items():
        if (found := told.units.get(name, f"{name} was not recorded")) != text:
            yield CrashFinding(unit, moment, commit, "outcome", text, found)
            return
    if expected.run and told.run != expected.run:
        yield CrashFinding(unit, moment, commit, "outcome", expected.run, told.run)

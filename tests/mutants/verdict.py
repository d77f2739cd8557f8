"""What the outcomes of the named tests say: pure, no process is started here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

TESTS_FAILED = 1
"""pytest's exit code for "ran, some tests failed"; above it, pytest could not do its job."""

Outcome = Literal["passed", "failed", "skipped", "error"]
"""``error``: a fixture failed. That proves nothing about the test, so it kills no mutant."""


State = Literal["killed", "survived", "stale", "broken"]


@dataclass(frozen=True, slots=True)
class Run:
    """One pytest run: its exit code (None: killed at the time limit) and what each test came to."""

    exit_code: int | None
    outcomes: Mapping[str, Outcome]
    output: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Killed is good; survived, stale (does not apply) and broken (did not really run) are not."""

    state: State
    detail: str = ""
    killers: tuple[str, ...] = ()


def tests_of(named: str, outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """The outcomes a node id stands for: its own, its parameters', or those of a file or class."""
    starts = (f"{named}[", f"{named}::")
    return {
        test: outcome
        for test, outcome in outcomes.items()
        if test == named or test.startswith(starts)
    }


def complaints(named: Iterable[str], run: Run) -> list[str]:
    """Why the unmutated tests are no base to judge by; empty if all were found and all passed."""
    if run.exit_code is None:
        return ["the unmutated tests reached the time limit"]
    found = [(test, tests_of(test, run.outcomes)) for test in named]
    missing = [f"{test}: not found" for test, outcomes in found if not outcomes]
    bad = {
        f"{test}: {what}"
        for _, outcomes in found
        for test, what in outcomes.items()
        if what != "passed"
    }
    told = missing + sorted(bad)
    return told or ([f"pytest exited with {run.exit_code}"] if run.exit_code else [])


def judge(named: Iterable[str], run: Run) -> Verdict:
    """Killed if every named test failed by itself; a failing fixture or a hang is no proof."""
    if run.exit_code is None:
        return Verdict("broken", "the tests reached the time limit; give their waits a deadline")
    if run.exit_code not in (0, TESTS_FAILED):
        return Verdict("broken", f"pytest exited with {run.exit_code}: no test could be run")
    killers: list[str] = []
    for test in named:
        outcomes = tests_of(test, run.outcomes)
        failed = [each for each, what in outcomes.items() if what == "failed"]
        if not failed:
            found = sorted(set(outcomes.values()))
            state: State = "survived" if found == ["passed"] else "broken"
            return Verdict(state, f"{test}: {', '.join(found) or 'not run'}")
        killers += failed
    return Verdict("killed", killers=tuple(killers))

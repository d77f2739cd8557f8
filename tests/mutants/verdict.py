"""What the outcomes of the named tests say: pure, no process is started here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from tests.mutants.nursery import is_named

TESTS_FAILED = 1
"""pytest's exit code for "ran, some tests failed"; above it, pytest could not do its job."""

Outcome = Literal["passed", "failed", "skipped", "hung", "error"]
"""``error``: a fixture failed; ``hung``: the time limit of the test ended it. Neither proves
anything about the test, so it kills no mutant."""

State = Literal["killed", "survived", "hung", "stale", "broken"]

GIVE_A_DEADLINE = "give its waits a deadline"


@dataclass(frozen=True, slots=True)
class Run:
    """One pytest run: its exit code (None: killed at the time limit) and what each test came to."""

    exit_code: int | None
    outcomes: Mapping[str, Outcome]
    output: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Killed is good. Survived, hung, stale (does not apply), broken (did not run) are not."""

    state: State
    detail: str = ""
    killers: tuple[str, ...] = ()


def tests_of(named: str, outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """The outcomes a node id stands for: its own, its parameters', or those of a file or class."""
    return {test: outcome for test, outcome in outcomes.items() if is_named(test, [named])}


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
        return Verdict("hung", f"the run reached its time limit; {GIVE_A_DEADLINE}")
    if run.exit_code not in (0, TESTS_FAILED):
        return Verdict("broken", f"pytest exited with {run.exit_code}: no test could be run")
    killers: list[str] = []
    for test in named:
        outcomes = tests_of(test, run.outcomes)
        failed = [each for each, what in outcomes.items() if what == "failed"]
        if not failed:
            found = sorted(set(outcomes.values()))
            if "hung" in found:
                return Verdict("hung", f"{test}: {GIVE_A_DEADLINE}")
            state: State = "survived" if found == ["passed"] else "broken"
            return Verdict(state, f"{test}: {', '.join(found) or 'not run'}")
        killers += failed
    return Verdict("killed", killers=tuple(killers))

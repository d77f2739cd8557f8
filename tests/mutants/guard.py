"""A pytest plugin that is copied beside each mutant and runs inside its tests.

It refuses to run tests of a package that does not come from the copy (an installed one would pass
unmutated), and writes the outcome of every test to a file, since pytest's exit code does not tell a
failed test from a failed fixture or from one that was ended at its time limit.
It imports nothing of ours: the copy need not hold `tests.mutants`.
"""

import importlib
import json
import os
from pathlib import Path

import pytest

ROOT = "MUTANT_ROOT"
PACKAGES = "MUTANT_PACKAGES"
OUTCOMES = "MUTANT_OUTCOMES"

# A test has three reports (setup, call, teardown); the worst word is its outcome.
SEVERITY = ("passed", "skipped", "failed", "hung", "error")

OVERTIME = "from pytest-timeout."

_outcomes: dict[str, str] = {}


def pytest_configure() -> None:
    root = Path(os.environ[ROOT])
    for name in os.environ[PACKAGES].split(","):
        origin = importlib.import_module(name).__file__
        if origin is None or not Path(origin).resolve().is_relative_to(root):
            raise pytest.UsageError(
                f"{name} is imported from {origin}, not from the mutated copy in {root}"
            )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out the further parameters of a named test that has failed: one is enough."""
    test = item.nodeid.partition("[")[0]
    if test in item.config.args and any(
        outcome == "failed" and each.startswith(f"{test}[") for each, outcome in _outcomes.items()
    ):
        pytest.skip("another parameter has failed")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    outcome = _outcome(report)
    known = _outcomes.get(report.nodeid, outcome)
    # A test that failed and then could not be torn down has still failed by itself.
    _outcomes[report.nodeid] = (
        known if known == "failed" else max(known, outcome, key=SEVERITY.index)
    )


def _outcome(report: pytest.TestReport) -> str:
    if report.outcome != "failed":
        return "skipped" if hasattr(report, "wasxfail") else report.outcome
    if report.when != "call":
        return "error"
    return "hung" if OVERTIME in report.longreprtext else "failed"


def pytest_sessionfinish() -> None:
    if path := os.environ.get(OUTCOMES):  # not where tests were only collected
        Path(path).write_text(json.dumps(_outcomes), encoding="utf-8")

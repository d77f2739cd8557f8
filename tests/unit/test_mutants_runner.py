"""The mutants runner, on a toy package whose tests end in every way a test can."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutants.mutant import Mutant, StaleMutant, apply
from tests.mutants.runner import Project, check_unmutated, run_trials, try_mutant
from tests.mutants.verdict import Run, Verdict, judge

LOCK = """\
def is_free(held: int) -> bool:
    return held == 0


def limit() -> int:
    return 1
"""

TESTS = """\
import os

import pytest

from toy.lock import is_free, limit


@pytest.fixture
def fine():
    assert limit() == 1


@pytest.mark.parametrize("held", [0, 1, 2])
def test_one_holder(held):
    assert is_free(held) == (held == 0)


def test_limit_in_a_fixture(fine):
    pass


def test_needs_a_service():
    if limit() == 1:
        pytest.skip("no service")


def test_of_something_else():
    assert True
"""

ONE_HOLDER = "checks/test_lock.py::test_one_holder"
IN_A_FIXTURE = "checks/test_lock.py::test_limit_in_a_fixture"
SKIPPED = "checks/test_lock.py::test_needs_a_service"
ELSE = "checks/test_lock.py::test_of_something_else"


@pytest.fixture
def toy(tmp_path: Path) -> Project:
    """A package, its tests and a configuration whose options the runner must not take over."""
    for folder in ("toy", "checks"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "toy" / "lock.py").write_text(LOCK)
    (tmp_path / "checks" / "test_lock.py").write_text(TESTS)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\naddopts = "--no-such-option"\n'
    )
    quick = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return Project(
        tmp_path, parts=("toy", "checks", "pyproject.toml"), packages=("toy",), env=quick
    )


def mutant(*tests: str, old: str = "held == 0", new: str = "True") -> Mutant:
    return Mutant("no_check", "P4", "the check of the holder", "toy/lock.py", old, new, tests)


def test_a_mutant_is_killed_by_a_parameter_of_the_named_test(toy: Project) -> None:
    trial = try_mutant(toy, mutant(ONE_HOLDER))
    assert trial.verdict == Verdict("killed", killers=(f"{ONE_HOLDER}[1]", f"{ONE_HOLDER}[2]")), (
        trial.output
    )


def test_a_mutant_survives_if_one_of_the_named_tests_passes(toy: Project) -> None:
    trial = try_mutant(toy, mutant(ONE_HOLDER, ELSE))
    assert trial.verdict == Verdict("survived", f"{ELSE}: passed")


def test_a_failing_fixture_kills_no_mutant(toy: Project) -> None:
    trial = try_mutant(toy, mutant(IN_A_FIXTURE, old="return 1", new="return 2"))
    assert trial.verdict == Verdict("broken", f"{IN_A_FIXTURE}: error")


def test_a_mutant_that_cannot_be_imported_is_not_killed(toy: Project) -> None:
    trial = try_mutant(toy, mutant(ONE_HOLDER, new="("))
    assert trial.verdict.state == "broken", trial.output


def test_a_mutant_whose_snippet_is_gone_or_doubled_is_stale(toy: Project) -> None:
    for old, times in (("held == 3", 0), ("def ", 2)):
        assert (
            f"occurs {times} times" in try_mutant(toy, mutant(ONE_HOLDER, old=old)).verdict.detail
        )


def test_the_project_itself_is_never_touched(toy: Project) -> None:
    trials = run_trials(toy, [mutant(ONE_HOLDER), mutant(ELSE)], jobs=2)
    assert [trial.verdict.state for trial in trials] == ["killed", "survived"]
    assert (toy.root / "toy" / "lock.py").read_text() == LOCK


def test_a_package_imported_from_elsewhere_is_refused(toy: Project) -> None:
    trial = try_mutant(replace(toy, packages=("json",)), mutant(ONE_HOLDER))
    assert trial.verdict.state == "broken"
    assert "not from the mutated copy" in trial.output


def test_unmutated_tests_must_be_found_and_pass_and_none_be_skipped(toy: Project) -> None:
    assert check_unmutated(toy, [mutant(ONE_HOLDER), mutant(ELSE, IN_A_FIXTURE)])[0] == []
    assert check_unmutated(toy, [mutant(ONE_HOLDER, SKIPPED)])[0] == [f"{SKIPPED}: skipped"]
    assert check_unmutated(toy, [mutant("checks/test_lock.py::test_gone")])[0] == [
        "checks/test_lock.py::test_gone: not found"
    ]


def test_a_run_that_reached_the_time_limit_proves_nothing() -> None:
    assert judge([ELSE], Run(None, {ELSE: "failed"}, "", 1.0)).state == "broken"


def test_a_mutant_must_name_a_test_and_change_something(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names no test"):
        mutant()
    with pytest.raises(ValueError, match="changes nothing"):
        mutant(ELSE, new="held == 0")
    with pytest.raises(StaleMutant):
        apply(mutant(ELSE), tmp_path)

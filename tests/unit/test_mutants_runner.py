"""The mutants runner, on a toy package whose tests end in every way a test can."""

from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest

from tests.integration.driving import spawn
from tests.mutants.mutant import Mutant
from tests.mutants.runner import Project, Runner, running
from tests.mutants.verdict import Run, Verdict, judge
from tests.waiting import PATIENCE, wait_until

LOCK = """\
def is_free(held: int) -> bool:
    return held == 0


def limit() -> int:
    return 1


if __name__ == "__main__":
    print(limit(), end="")
"""

TESTS = """\
import os
import subprocess
import sys
import time

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


def test_in_another_process():
    assert subprocess.check_output([sys.executable, "-m", "toy.lock"]) == b"1"


def test_that_waits():
    while limit() != 1:
        time.sleep(0.01)


def test_that_cannot_be_interrupted():
    while limit() != 1:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""

ONE_HOLDER = "checks/test_lock.py::test_one_holder"
IN_A_FIXTURE = "checks/test_lock.py::test_limit_in_a_fixture"
SKIPPED = "checks/test_lock.py::test_needs_a_service"
ELSE = "checks/test_lock.py::test_of_something_else"
ELSEWHERE = "checks/test_lock.py::test_in_another_process"
WAITS = "checks/test_lock.py::test_that_waits"
UNINTERRUPTED = "checks/test_lock.py::test_that_cannot_be_interrupted"

ALL = (ONE_HOLDER, IN_A_FIXTURE, SKIPPED, ELSE, ELSEWHERE, WAITS, UNINTERRUPTED)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A package, its tests and a configuration whose options the runner must not take over."""
    root = tmp_path_factory.mktemp("toy")
    for folder in ("toy", "checks"):
        (root / folder).mkdir()
        (root / folder / "__init__.py").touch()
    (root / "toy" / "lock.py").write_text(LOCK)
    (root / "checks" / "test_lock.py").write_text(TESTS)
    (root / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\naddopts = "--no-such-option"\n'
    )
    parts = ("toy", "checks", "pyproject.toml")
    return Project(root, parts=parts, packages=("toy",), preloaded=("json",))


@pytest.fixture(scope="module", params=["in copies", "in forks"])
def runner(toy: Project, request: pytest.FixtureRequest) -> Iterator[Runner]:
    with running(toy, ALL if request.param == "in forks" else ()) as runner:
        yield runner


def mutant(*tests: str, old: str = "held == 0", new: str = "True") -> Mutant:
    return Mutant("no_check", "P4", "the check of the holder", "toy.lock:is_free", old, new, tests)


def limit(*tests: str) -> Mutant:
    return Mutant("no_limit", "P4", "the limit", "toy.lock:limit", "return 1", "return 2", tests)


def test_a_mutant_is_killed_by_a_parameter_of_the_named_test(runner: Runner) -> None:
    trial = runner.try_one(mutant(ONE_HOLDER))
    assert trial.verdict == Verdict("killed", killers=(f"{ONE_HOLDER}[1]",)), trial.output


def test_a_mutant_of_one_functions_body_needs_no_copy(toy: Project) -> None:
    with running(toy, ALL) as runner:
        assert runner.try_one(mutant(ONE_HOLDER)).verdict.state == "killed"
        assert not [*runner.home.glob("mutant-*")]
        assert runner.try_one(limit(ELSEWHERE)).verdict.state == "killed"
        assert len([*runner.home.glob("mutant-*")]) == 1


def test_tests_that_cannot_be_collected_are_named(toy: Project) -> None:
    gone = "checks/test_gone.py"
    with running(toy, [gone]) as runner, pytest.raises(RuntimeError, match=f"not found.*{gone}"):
        runner.check_unmutated([mutant(ELSE)])


def test_a_mutant_survives_if_one_of_the_named_tests_passes(runner: Runner) -> None:
    trial = runner.try_one(mutant(ONE_HOLDER, ELSE))
    assert trial.verdict == Verdict("survived", f"{ELSE}: passed")


def test_a_process_that_a_test_starts_is_mutated_too(runner: Runner) -> None:
    trial = runner.try_one(limit(ELSEWHERE))
    assert trial.verdict == Verdict("killed", killers=(ELSEWHERE,)), trial.output


def test_a_mutant_leaves_nothing_for_the_next(runner: Runner) -> None:
    trials = [runner.try_one(each) for each in (limit(ELSEWHERE), mutant(ELSEWHERE))]
    assert [trial.verdict.state for trial in trials] == ["killed", "survived"]


def test_a_failing_fixture_kills_no_mutant(runner: Runner) -> None:
    trial = runner.try_one(limit(IN_A_FIXTURE))
    assert trial.verdict == Verdict("broken", f"{IN_A_FIXTURE}: error")


def test_a_mutant_that_cannot_be_imported_is_not_killed(runner: Runner) -> None:
    trial = runner.try_one(mutant(ONE_HOLDER, new="("))
    assert trial.verdict.state == "broken", trial.output


def test_a_mutant_whose_snippet_is_gone_or_doubled_is_stale(runner: Runner) -> None:
    for old, times in (("held == 3", 0), ("held", 2)):
        trial = runner.try_one(mutant(ONE_HOLDER, old=old))
        assert f"occurs {times} times" in trial.verdict.detail


def test_the_project_itself_is_never_touched(toy: Project, runner: Runner) -> None:
    trials = runner.try_all([mutant(ONE_HOLDER), mutant(ELSE)], jobs=2)
    assert [trial.verdict.state for trial in trials] == ["killed", "survived"]
    assert (toy.root / "toy" / "lock.py").read_text() == LOCK


def test_a_package_imported_from_elsewhere_is_refused(toy: Project) -> None:
    with running(replace(toy, packages=("json",))) as runner:
        trial = runner.try_one(mutant(ONE_HOLDER))
    assert trial.verdict.state == "broken"
    assert "not from the mutated copy" in trial.output


def test_unmutated_tests_must_be_found_and_pass_and_none_be_skipped(runner: Runner) -> None:
    gone = "checks/test_lock.py::test_gone"
    assert runner.check_unmutated([mutant(ONE_HOLDER), mutant(ELSE, IN_A_FIXTURE)])[0] == []
    assert runner.check_unmutated([mutant(ONE_HOLDER, SKIPPED)])[0] == [f"{SKIPPED}: skipped"]
    assert runner.check_unmutated([mutant(gone)])[0] == [f"{gone}: not found"]


def test_a_mutant_that_makes_a_test_hang_is_not_killed(toy: Project) -> None:
    with running(replace(toy, seconds_per_test=0.5)) as runner:
        trial = runner.try_one(limit(WAITS))
    assert trial.verdict == Verdict("hung", f"{WAITS}: give its waits a deadline"), trial.output


def test_a_test_that_cannot_be_interrupted_ends_with_the_run(toy: Project) -> None:
    with running(replace(toy, timeout_seconds=0.5, teardown_seconds=0.1)) as runner:
        trial = runner.try_one(limit(UNINTERRUPTED))
        assert processes_of(runner) == 1  # the nursery
    assert trial.verdict.state == "hung", trial.output


def test_whoever_hangs_up_ends_the_trials_that_go_on(toy: Project) -> None:
    with running(toy) as runner:
        trial = spawn(runner.try_one, limit(WAITS))
        wait_until(lambda: processes_of(runner) == 3, message="keeper and trial to run")
        runner.hang_up()
        assert trial.result(PATIENCE).verdict.state == "hung"
    assert processes_of(runner) == 0


def processes_of(runner: Runner) -> int:
    """How many have the nursery's command line: the forks have it too."""
    home = str(runner.home)
    lines = [process.info["cmdline"] or () for process in psutil.process_iter(["cmdline"])]
    return sum(any(home in word for word in line) for line in lines)


def test_a_run_that_reached_the_time_limit_proves_nothing() -> None:
    assert judge([ELSE], Run(None, {ELSE: "failed"}, "", 1.0)).state == "hung"


def test_a_mutant_must_name_a_test_and_change_something() -> None:
    with pytest.raises(ValueError, match="names no test"):
        mutant()
    with pytest.raises(ValueError, match="changes nothing"):
        mutant(ELSE, new="held == 0")

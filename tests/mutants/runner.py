"""Copies of the project, with and without a mutant, and the tests run in them.

A copy comes first on PYTHONPATH, is the working directory and pytest's root, so its package is
imported even where the package is installed too; `guard` checks that.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.mutants import guard
from tests.mutants.mutant import Mutant, StaleMutant, apply
from tests.mutants.verdict import Run, Verdict, complaints, judge

PLUGIN = "mutant_guard"
TEARDOWN_SECONDS = 30.0
PYTEST = (
    sys.executable,
    "-m",
    "pytest",
    "-p",
    PLUGIN,
    "-p",
    "no:cacheprovider",
    "-o",
    "addopts=",
    "--tb=short",
    "-q",
)


@dataclass(frozen=True, slots=True)
class Project:
    """``parts`` of ``root`` (files, folders) are copied; ``packages`` must come from the copy."""

    root: Path
    parts: tuple[str, ...] = ("celery_durable", "tests", "pyproject.toml")
    packages: tuple[str, ...] = ("celery_durable", "tests")
    env: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One mutant, judged."""

    mutant: Mutant
    verdict: Verdict
    output: str
    seconds: float


def check_unmutated(project: Project, mutants: Sequence[Mutant]) -> tuple[list[str], str]:
    """Run all named tests on the code as it is. Returns complaints (none is good) and output."""
    named = sorted({test for mutant in mutants for test in mutant.tests})
    with _copy(project) as root:
        run = _run_tests(project, root, named)
    return complaints(named, run), run.output


def run_trials(
    project: Project,
    mutants: Sequence[Mutant],
    jobs: int,
    report: Callable[[Trial], None] | None = None,
) -> list[Trial]:
    """Try all mutants, ``jobs`` at a time; ``report`` hears of each as it ends."""
    with ThreadPoolExecutor(jobs) as pool:
        trials = [pool.submit(try_mutant, project, mutant) for mutant in mutants]
        try:
            for done in as_completed(trials):
                if report:
                    report(done.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [trial.result() for trial in trials]


def try_mutant(project: Project, mutant: Mutant) -> Trial:
    """Apply one mutant to a copy of its own, run its tests there, and judge."""
    with _copy(project) as root:
        try:
            apply(mutant, root)
        except StaleMutant as stale:
            return Trial(mutant, Verdict("stale", str(stale)), "", 0.0)
        run = _run_tests(project, root, mutant.tests)
    return Trial(mutant, judge(mutant.tests, run), run.output, run.seconds)


@contextmanager
def _copy(project: Project) -> Iterator[Path]:
    """A temporary copy of the project, with the guard beside it."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        root = Path(directory).resolve()
        for part in project.parts:
            source = project.root / part
            if source.is_dir():
                shutil.copytree(source, root / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, root / part)
        shutil.copy2(guard.__file__, root / f"{PLUGIN}.py")
        yield root


def _run_tests(project: Project, root: Path, tests: Sequence[str]) -> Run:
    outcomes = root / "outcomes.json"
    started = time.monotonic()
    # In our own process group: Ctrl-C ends the runs too, with their fixtures torn down.
    process = subprocess.Popen(
        [*PYTEST, "--rootdir", str(root), *tests],
        cwd=root,
        env=_environment(project, root, outcomes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    exit_code, output = _end_of(process, project.timeout_seconds)
    found = json.loads(outcomes.read_text(encoding="utf-8")) if outcomes.exists() else {}
    return Run(exit_code, found, output, time.monotonic() - started)


def _end_of(process: subprocess.Popen[str], timeout: float) -> tuple[int | None, str]:
    """Exit code and output; None for a run that had to be interrupted at the time limit."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    else:
        return process.returncode, output
    try:
        return None, process.communicate(timeout=TEARDOWN_SECONDS)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return None, process.communicate()[0]


def _environment(project: Project, root: Path, outcomes: Path) -> dict[str, str]:
    # Options and plug-ins of a pytest around us are not those of the run.
    own = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    marks = {
        guard.ROOT: str(root),
        guard.PACKAGES: ",".join(project.packages),
        guard.OUTCOMES: str(outcomes),
    }
    return {**own, **marks, **project.env, "PYTHONPATH": str(root)}

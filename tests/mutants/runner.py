"""Copies of the project, with and without a mutant, and the tests run in them.

The project is copied once, as it is compiled; its tests run there unmutated first, which compiles
the rest. A mutant is put into a copy made of links to that one, as a file, so that processes which
its tests start find the mutated code too. The copy comes first on PYTHONPATH, is the working
directory and pytest's root, so its package is imported even where the package is installed too;
`guard` checks that.
"""

import json
import os
import queue
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests import services
from tests.mutants import guard
from tests.mutants.forks import Forks, own_environment
from tests.mutants.mutant import Mutant, StaleMutant, applied
from tests.mutants.verdict import Run, Verdict, complaints, judge

PLUGIN = "mutant_guard"
PYTEST = ("-p", PLUGIN, "-p", "pytest_timeout", "-p", "no:cacheprovider")
OPTIONS = ("-o", "addopts=", "--tb=short", "-q")
SHARES_PER_JOB = 3

PRELOADED = (
    "alembic.command",
    "celery.bin.worker",
    "celery.worker.consumer",
    "kombu.transport.memory",
    "kombu.transport.pyamqp",
    "kombu.transport.redis",
    "psycopg",
    "pytest_celery",
    "rich.table",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.orm",
)
"""What most tests import of other projects. Nothing of ours may be here: it would be unmutated."""

SCHEMA = (
    "celery_durable.store.migrations",
    "celery_durable.store.schema",
    "celery_durable.store.tables",
)
"""Where a mutant changes what the database holds, which the shared one would not show."""


@dataclass(frozen=True, slots=True)
class Project:
    """``parts`` of ``root`` (files, folders) are copied; ``packages`` must come from the copy."""

    root: Path
    parts: tuple[str, ...] = ("celery_durable", "tests", "pyproject.toml")
    packages: tuple[str, ...] = ("celery_durable", "tests")
    preloaded: tuple[str, ...] = PRELOADED
    env: Mapping[str, str] = field(default_factory=dict)
    seconds_per_test: float = 60.0
    timeout_seconds: float = 600.0
    teardown_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One mutant, judged."""

    mutant: Mutant
    verdict: Verdict
    output: str
    seconds: float


class Runner:
    """Tries mutants on one copy of a project."""

    def __init__(self, project: Project, home: Path, forks: Forks) -> None:
        self._project = project
        self.home = home
        self.forks = forks
        self._unmutated = home / "unmutated"
        self._unused: queue.SimpleQueue[Path] = queue.SimpleQueue()
        _copy(project, self._unmutated)

    def check_unmutated(self, mutants: Sequence[Mutant], jobs: int = 1) -> tuple[list[str], str]:
        """Run all named tests on the code as it is. Returns complaints (none is good) and output.

        The tests of a file stay together, for the fixtures that they share.
        """
        named = sorted({test for mutant in mutants for test in mutant.tests})
        files = sorted({_file(test) for test in named})
        count = min(jobs * SHARES_PER_JOB, len(files))
        shares = [[t for t in named if _file(t) in files[n::count]] for n in range(count)]
        with ThreadPoolExecutor(jobs) as pool:
            runs = [(each, pool.submit(self._run_tests, self._unmutated, each)) for each in shares]
        told = [each for share, run in runs for each in complaints(share, run.result())]
        return told, "\n".join(run.result().output for _, run in runs)

    def try_all(
        self, mutants: Sequence[Mutant], jobs: int, report: Callable[[Trial], None] | None = None
    ) -> list[Trial]:
        """Try all mutants, ``jobs`` at a time; ``report`` hears of each as it ends."""
        with ThreadPoolExecutor(jobs) as pool:
            trials = [pool.submit(self.try_one, mutant) for mutant in mutants]
            try:
                for done in as_completed(trials):
                    if report:
                        report(done.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.forks.hang_up()
                raise
        return [trial.result() for trial in trials]

    def try_one(self, mutant: Mutant) -> Trial:
        """Apply one mutant to a copy that nobody else uses, run its tests there, and judge."""
        try:
            with self._links() as root, applied(mutant, root, self._unmutated):
                migrates = mutant.module.startswith(SCHEMA)
                run = self._run_tests(root, mutant.tests, migrates=migrates)
        except StaleMutant as stale:
            return Trial(mutant, Verdict("stale", str(stale)), "", 0.0)
        return Trial(mutant, judge(mutant.tests, run), run.output, run.seconds)

    @contextmanager
    def _links(self) -> Iterator[Path]:
        """A copy made of links, used again and again: there are never more than jobs."""
        try:
            root = self._unused.get_nowait()
        except queue.Empty:
            root = Path(tempfile.mkdtemp(prefix="mutant-", dir=self.home))
            shutil.copytree(self._unmutated, root, copy_function=os.link, dirs_exist_ok=True)
        yield root
        self._unused.put(root)

    def _run_tests(self, root: Path, tests: Sequence[str], *, migrates: bool = False) -> Run:
        limit = f"--timeout={self._project.seconds_per_test:g}"
        with tempfile.TemporaryDirectory(dir=self.home) as directory:
            outcomes, output = Path(directory, "outcomes.json"), Path(directory, "output")
            started = time.monotonic()
            exit_code = self.forks.run(
                {
                    "root": str(root),
                    "arguments": [*PYTEST, *OPTIONS, limit, "--rootdir", str(root), *tests],
                    "env": self._environment(root, outcomes, migrates),
                    "output": str(output),
                    "seconds": self._project.timeout_seconds,
                    "teardown_seconds": self._project.teardown_seconds,
                }
            )
            seconds = time.monotonic() - started
            found = json.loads(outcomes.read_text(encoding="utf-8")) if outcomes.exists() else {}
            shown = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
            return Run(exit_code, found, shown, seconds)

    def _environment(self, root: Path, outcomes: Path, migrates: bool) -> dict[str, str]:
        marks = {
            guard.ROOT: str(root),
            guard.PACKAGES: ",".join(self._project.packages),
            guard.OUTCOMES: str(outcomes),
        }
        quick = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        env = {**own_environment(), **quick, **self._project.env, **marks, "PYTHONPATH": str(root)}
        if migrates:
            env.pop(services.TEMPLATE, None)
        return env


@contextmanager
def running(project: Project) -> Iterator[Runner]:
    """A runner with its copy and its nursery; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        home = Path(directory).resolve()
        with Forks(home, project.preloaded) as forks:
            yield Runner(project, home, forks)


def _copy(project: Project, root: Path) -> None:
    """Copy the project, with the guard beside it."""
    root.mkdir()
    for part in project.parts:
        source = project.root / part
        if source.is_dir():
            shutil.copytree(source, root / part)
        else:
            shutil.copy2(source, root / part)
    shutil.copy2(guard.__file__, root / f"{PLUGIN}.py")


def _file(test: str) -> str:
    return test.partition("::")[0]

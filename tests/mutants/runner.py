"""Runs tests with a mutant in the code: in a fork that has it in one function, or in a copy.

The project is copied once, as it is compiled. Most mutants change the body of one function. Their
tests are collected once, and each trial is a fork of the process that has done it (see `nursery`).

What is not killed there goes by a copy, as does what changes something else: the mutant is put, as
a file, into a copy made of links to the first one, so that what was computed on import and
processes which its tests start have it too. The copy comes first on PYTHONPATH, is the working
directory and pytest's root, so its package is imported even where the package is installed too;
`guard` checks that.
"""

import json
import os
import queue
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests import services
from tests.mutants import guard
from tests.mutants.forks import Forks, own_environment
from tests.mutants.mutant import Mutant, StaleMutant, applied, mutated
from tests.mutants.nursery import Nursery, Patch, Request
from tests.mutants.place import changed_function
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
    "celery_durable.database.migrations",
    "celery_durable.database.schema",
    "celery_durable.store.tables",
)
"""Where a mutant changes what the database holds, which the shared one would not show."""


@dataclass(frozen=True, slots=True)
class Project:
    """``parts`` of ``root`` (files, folders) are copied; ``packages`` must come from the copy."""

    root: Path
    parts: tuple[str, ...] = ("celery_durable", "tests", "examples", "pyproject.toml")
    packages: tuple[str, ...] = ("celery_durable", "tests")
    preloaded: tuple[str, ...] = PRELOADED
    env: Mapping[str, str] = field(default_factory=dict)
    seconds_per_test: float = 120.0
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
    """Tries mutants on one copy of a project; a context manager. `tests` are those to collect."""

    def __init__(self, project: Project, home: Path, tests: Iterable[str] = ()) -> None:
        self._project = project
        self.home = home
        self._unmutated = home / "unmutated"
        self._unused: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self._collected = frozenset(tests)
        nursery = Nursery(
            root=str(self._unmutated),
            modules=[*project.preloaded],
            arguments=self._arguments(self._unmutated),
            tests=sorted(self._collected),
            env=self._environment(self._unmutated),
        )
        self._bare = Forks(home, {**nursery, "tests": []})
        self._ready = Forks(home, nursery) if self._collected else self._bare
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        _copy(self._project, self._unmutated)
        for forks in {self._bare, self._ready}:
            self._entered.enter_context(forks)
        return self

    def __exit__(self, *exc: object) -> None:
        self._entered.close()

    def hang_up(self) -> None:
        """End the runs that go on."""
        self._bare.hang_up()
        self._ready.hang_up()

    def check_unmutated(self, mutants: Sequence[Mutant], jobs: int = 1) -> tuple[list[str], str]:
        """Run all named tests on the code as it is. Returns complaints (none is good) and output.

        The tests of a file stay together, for the fixtures that they share.
        """
        named = sorted({test for mutant in mutants for test in mutant.tests})
        files = sorted({_file(test) for test in named})
        count = min(jobs * SHARES_PER_JOB, len(files))
        shares = [[t for t in named if _file(t) in files[n::count]] for n in range(count)]
        with ThreadPoolExecutor(jobs) as pool:
            runs = [
                (each, pool.submit(self._run_tests, self._ready, self._unmutated, each))
                for each in shares
            ]
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
                self.hang_up()
                raise
        return [trial.result() for trial in trials]

    def try_one(self, mutant: Mutant) -> Trial:
        """Run the tests of one mutant with it, and judge."""
        try:
            source = mutated(mutant, self._unmutated)
        except StaleMutant as stale:
            return Trial(mutant, Verdict("stale", str(stale)), "", 0.0)
        run = self._in_a_fork(mutant, source)
        if run is None or judge(mutant.tests, run).state != "killed":
            run = self._in_a_copy(mutant, source)
        return Trial(mutant, judge(mutant.tests, run), run.output, run.seconds)

    def _in_a_fork(self, mutant: Mutant, source: str) -> Run | None:
        """None where its tests were not collected, or it changes more than a function's body."""
        if not self._collected.issuperset(mutant.tests):
            return None
        file = mutant.file(self._unmutated)
        function = changed_function(file.read_text(encoding="utf-8"), source, mutant.qualname)
        if function is None:
            return None
        patch = Patch(file=str(file), function=function, source=source)
        return self._run_tests(self._ready, self._unmutated, mutant.tests, patch=patch)

    def _in_a_copy(self, mutant: Mutant, source: str) -> Run:
        with self._links() as root, applied(mutant, source, root, self._unmutated):
            migrates = mutant.module.startswith(SCHEMA)
            return self._run_tests(self._bare, root, mutant.tests, migrates=migrates)

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

    def _run_tests(
        self,
        forks: Forks,
        root: Path,
        tests: Sequence[str],
        *,
        patch: Patch | None = None,
        migrates: bool = False,
    ) -> Run:
        with tempfile.TemporaryDirectory(dir=self.home) as directory:
            outcomes, output = Path(directory, "outcomes.json"), Path(directory, "output")
            env = self._environment(root) | {guard.OUTCOMES: str(outcomes)}
            if migrates:
                env.pop(services.TEMPLATE, None)
            started = time.monotonic()
            exit_code = forks.run(
                Request(
                    root=str(root),
                    arguments=self._arguments(root),
                    tests=[*tests],
                    env=env,
                    patch=patch,
                    output=str(output),
                    seconds=self._project.timeout_seconds,
                    teardown_seconds=self._project.teardown_seconds,
                )
            )
            seconds = time.monotonic() - started
            found = json.loads(outcomes.read_text(encoding="utf-8")) if outcomes.exists() else {}
            shown = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
            return Run(exit_code, found, shown, seconds)

    def _arguments(self, root: Path) -> list[str]:
        limit = f"--timeout={self._project.seconds_per_test:g}"
        return [*PYTEST, *OPTIONS, limit, "--rootdir", str(root)]

    def _environment(self, root: Path) -> dict[str, str]:
        marks = {guard.ROOT: str(root), guard.PACKAGES: ",".join(self._project.packages)}
        quick = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return {**own_environment(), **quick, **self._project.env, **marks, "PYTHONPATH": str(root)}


@contextmanager
def running(project: Project, tests: Iterable[str] = ()) -> Iterator[Runner]:
    """A runner with its copy and what it forks from; they are gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="mutants-") as home,
        Runner(project, Path(home).resolve(), tests) as runner,
    ):
        yield runner


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

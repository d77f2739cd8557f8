"""Tries mutants: ``python -m tests.mutants --help``. It exits with 1 unless all are killed."""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from tests import services, waiting
from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant
from tests.mutants.report import console, progress, show_catalogue, show_trials
from tests.mutants.runner import Project, Runner, Trial, running

ROOT = Path(__file__).resolve().parents[2]
JOBS_PER_CORE = 4  # tests wait more than they compute
PATIENCE = {waiting.PATIENCE_SHARE: "0.4"}


def main() -> int:
    arguments = parse()
    shown = console()
    chosen = [mutant for mutant in MUTANTS if arguments.k in mutant.name][:: arguments.every]
    if arguments.list:
        show_catalogue(shown, chosen)
        return 0
    if not chosen:
        shown.print(
            f"no mutant is called {arguments.k!r}"
            if arguments.k
            else "the catalogue holds no mutant"
        )
        return 1
    tests = {test for mutant in chosen for test in mutant.tests}
    with database() as env, running(Project(ROOT, env=env), tests) as runner:
        if not arguments.proven and not are_passing(shown, runner, chosen, arguments.jobs):
            return 1
        return try_all(shown, runner, chosen, arguments.jobs)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description="Prove that the tests can fail."
    )
    parser.add_argument(
        "-k", metavar="NAME", default="", help="only mutants with this in their name"
    )
    parser.add_argument("--every", metavar="N", type=int, default=1, help="only each Nth of them")
    parser.add_argument(
        "--jobs",
        type=int,
        default=JOBS_PER_CORE * (os.cpu_count() or 1),
        help="how many at a time",
    )
    parser.add_argument(
        "--proven",
        action="store_true",
        help="the tests have just passed: do not run them on the code as it is",
    )
    parser.add_argument("--list", action="store_true", help="show the mutants and end")
    return parser.parse_args()


@contextmanager
def database() -> Iterator[Mapping[str, str]]:
    """One Postgres server for all runs, and one migrated database that their tests copy."""
    with ExitStack() as stack:
        if url := os.environ.get("DATABASE_URL"):
            server = services.PostgresServer(url)
        else:
            server = stack.enter_context(services.embedded_postgres())
        template = stack.enter_context(server.migrated("durable_test_template_mutants"))
        yield {"DATABASE_URL": server.admin_url, services.TEMPLATE: template, **PATIENCE}


def are_passing(shown: Console, runner: Runner, mutants: list[Mutant], jobs: int) -> bool:
    """Whether the mutants' tests pass on the code as it is: else they prove nothing."""
    shown.print(f"{len(mutants)} mutants; first their tests on the code as it is")
    told, output = runner.check_unmutated(mutants, jobs)
    if told:
        shown.print(output)
        shown.print(
            "The tests do not all pass on the code as it is, so they can prove nothing:",
            *told,
            sep="\n  ",
        )
    return not told


def try_all(shown: Console, runner: Runner, mutants: list[Mutant], jobs: int) -> int:
    with progress(shown) as bar:
        task = bar.add_task("mutants", total=len(mutants))

        def ended(trial: Trial) -> None:
            bar.advance(task)
            shown.print(f"{trial.mutant.name}: {trial.verdict.state} in {trial.seconds:.1f} s")

        trials = runner.try_all(mutants, jobs, ended)
    show_trials(shown, trials)
    alive = [trial for trial in trials if trial.verdict.state != "killed"]
    shown.print(f"{len(trials) - len(alive)} of {len(trials)} mutants killed")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())

"""What ``python -m tests.mutants`` shows: bar and table on a terminal, plain lines in a pipe."""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.mutants.mutant import Mutant
from tests.mutants.runner import Trial

STYLES = {
    "killed": "green",
    "survived": "bold red",
    "hung": "bold red",
    "stale": "bold yellow",
    "broken": "bold yellow",
}
OUTPUT_TAIL_LINES = 40
PIPE_WIDTH = 200


def console() -> Console:
    """A terminal as it is; a pipe gets wide lines, so that no word is cut."""
    shown = Console(highlight=False, markup=False)
    return shown if shown.is_terminal else Console(highlight=False, markup=False, width=PIPE_WIDTH)


def progress(shown: Console) -> Progress:
    """A bar; nothing at all in a pipe."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal)


def show_catalogue(shown: Console, mutants: Sequence[Mutant]) -> None:
    table = _table("mutant", "promise", "takes out", "must fail")
    for mutant in mutants:
        table.add_row(mutant.name, mutant.promise, mutant.takes_out, "\n".join(mutant.tests))
    shown.print(table)


def show_trials(shown: Console, trials: Sequence[Trial]) -> None:
    """The table of all trials, after the pytest output of those that were not killed."""
    for trial in trials:
        if trial.verdict.state != "killed" and trial.output:
            shown.rule(f"{trial.mutant.name}: {trial.verdict.state}")
            shown.print("\n".join(trial.output.splitlines()[-OUTPUT_TAIL_LINES:]))
    table = _table("mutant", "promise", "takes out", "verdict", "killed by", "seconds")
    for trial in trials:
        mutant, verdict = trial.mutant, trial.verdict
        told = "\n".join(map(_test_name, verdict.killers)) or verdict.detail
        row = (
            mutant.name,
            mutant.promise,
            mutant.takes_out,
            verdict.state,
            told,
            f"{trial.seconds:.1f}",
        )
        table.add_row(*row, style="" if verdict.state == "killed" else STYLES[verdict.state])
    shown.print(table)


def _table(*headings: str) -> Table:
    table = Table(*headings, box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    return table


def _test_name(node_id: str) -> str:
    return node_id.partition("::")[2] or node_id

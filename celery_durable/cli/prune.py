"""`durable prune`."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from celery_durable.background import pruning
from celery_durable.background.pruning import Ages, Pruner
from celery_durable.cli.application import durable_of, json_option
from celery_durable.cli.duration import duration
from celery_durable.cli.output import Column, Form, Output, status_text
from celery_durable.core.status import FINISHED, Status
from celery_durable.durable import Durable
from celery_durable.view.formatting import one_line, plural

COLUMNS = (Column("workflow", fixed=False), Column("status"), Column("runs", right=True))


@click.command()
@click.option(
    "--older-than",
    callback=duration,
    metavar="DURATION",
    help="How long ago they ended: 30d, 12h, 45m, or seconds.  [default: durable_retention]",
)
@click.option(
    "--status", type=click.Choice([status.value for status in Status if status in FINISHED])
)
@click.option("--dry-run", is_flag=True, help="Delete nothing; count what would go.")
@json_option
@click.pass_context
def prune(
    ctx: click.Context,
    /,
    *,
    older_than: timedelta | None,
    status: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete runs that ended long ago, with all runs below them.

    Without --older-than it is what relays do by themselves. A run stays while a run below it is
    unfinished, or while a run that was forked from it is there. Harmless to interrupt.
    """
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    ages = pruning.ages_of(durable.settings.retention, older_than, status)
    if dry_run:
        show(output, pruning.count(durable.database, ages))
        return
    pruned = delete(durable, ages, output)
    text = str(pruned) if output.form is Form.PIPE else f"{plural(pruned, 'run')} deleted."
    output.answer({"pruned": pruned}, Text(text))


def show(output: Output, counted: Counter[tuple[str, Status]]) -> None:
    """Write how many runs would go, by workflow and status."""
    found = sorted(counted.items())
    if output.form is Form.JSON:
        runs = [{"workflow": name, "status": status, "runs": n} for (name, status), n in found]
        output.document({"would_prune": counted.total(), "runs": runs})
        return
    rows = [
        (Text(one_line(name)), status_text(status), Text(str(n))) for (name, status), n in found
    ]
    output.table(COLUMNS, rows, if_empty="No run would be deleted.")
    if output.form is Form.TERMINAL and rows:
        output.lines(Text(f"{plural(counted.total(), 'run')} would be deleted.", "dim"))


def delete(durable: Durable, ages: Ages, output: Output) -> int:
    """Delete the runs, and show on a terminal how far that has come."""
    pruner = Pruner(durable.database, ages)
    if output.form is not Form.TERMINAL:
        return sum(pruner.prune())
    bar = Progress(
        TextColumn("Deleting runs"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=output.console,
        transient=True,
    )
    pruned, expected = 0, pruner.estimate()
    with bar:
        task = bar.add_task("", total=expected)
        for runs in pruner.prune():
            pruned += runs
            # Runs below others were not counted before.
            bar.update(task, completed=pruned, total=max(expected, pruned))
    return pruned

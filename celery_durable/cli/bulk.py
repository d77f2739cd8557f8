"""`durable bulk`: one action on all runs of a filter."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from celery_durable.bulk.result import BulkResult
from celery_durable.bulk.walk import COUNTED, Preview, walk_of
from celery_durable.cli.application import durable_of, json_option
from celery_durable.cli.duration import duration
from celery_durable.cli.exit_codes import CliError, ExitCode
from celery_durable.cli.filters import filters
from celery_durable.cli.json_argument import json_argument
from celery_durable.cli.output import Column, Form, Output, status_text, workflow_text
from celery_durable.store.read.filters import checked_filter
from celery_durable.view.document import fields_of
from celery_durable.view.formatting import one_line, plural

Command = Callable[..., Any]

COLUMNS = (Column("workflow", fixed=False), Column("status"), Column("runs", right=True))

FILTERS = (
    *("status", "workflow", "parent", "tags", "since", "until", "key", "error"),
    "compensation_failed",
)


@dataclass(frozen=True, slots=True)
class Said:
    """An action in words: `Cancel 3 runs?`, `Cancelling`, `3 runs cancelled.`"""

    name: str
    asks: str
    goes_on: str
    done: str


SAID = {
    one.name: one
    for one in (
        Said("cancel", "Cancel", "Cancelling", "cancelled"),
        Said("retry", "Try again", "Trying again", "tried again"),
        Said("retry_now", "Try now", "Trying now", "tried now"),
        Said("resume", "Send the signal to", "Sending the signal", "got the signal"),
        Said("pause", "Pause", "Pausing", "paused"),
        Said("unpause", "Unpause", "Unpausing", "unpaused"),
        Said("retry_compensation", "Compensate again", "Compensating again", "compensate again"),
        Said("prune", "Delete", "Deleting", "deleted"),
    )
}


@click.group()
def bulk() -> None:
    """Do one thing to all runs of a filter.

    It says first how many runs that is, and asks. In a pipe, and with --json, it does nothing
    without --yes. Of the runs of the filter only those are taken to which it can be done, and has
    not been done. So after an interruption the same command goes on. Exit code 1 if it was refused
    to any.
    """


def bulk_options(command: Command) -> Command:
    """Add the options that all actions have."""
    for option in (
        click.option("--yes", is_flag=True, help="Do it, and ask nothing."),
        click.option("--dry-run", is_flag=True, help="Only say to how many runs it would be done."),
        click.option("--all", "everything", is_flag=True, help="All runs, in place of a filter."),
        click.option("--parent", type=click.UUID, metavar="RUN", help="The runs that it started."),
        filters("--run-key"),
    ):
        command = option(command)
    return click.pass_context(json_option(command))


reason_option = click.option("--reason", metavar="TEXT", help="Kept with the runs.")


@bulk.command()
@click.option("--compensate", is_flag=True, default=None, help="Undo the completed steps too.")
@reason_option
@bulk_options
def cancel(ctx: click.Context, /, **given: Any) -> None:
    """Ask runs to end, with all below them; those that are rolled back already stay as they are."""
    act(ctx, "cancel", ("compensate", "reason"), **given)


@bulk.command()
@click.option("--from", "from_step", metavar="STEP", help="The node that the new runs begin with.")
@bulk_options
def retry(ctx: click.Context, /, **given: Any) -> None:
    """Start runs in place of those that have failed, or of those with --status.

    Of a run that was tried again before, the last try is. Child runs are left to the retry of their
    parents.
    """
    act(ctx, "retry", ("from_step",), **given)


@bulk.command("retry-now")
@bulk_options
def retry_now(ctx: click.Context, /, **given: Any) -> None:
    """Have units tried now that wait for their next try, or are paused after it."""
    act(ctx, "retry_now", (), **given)


@bulk.command()
@click.argument("signal")
@click.option(
    "--data", metavar="JSON", callback=json_argument, help="JSON, @file, or - for standard input."
)
@click.option(
    "--key",
    "signal_key",
    help="The signal's: no run gets it twice.  [default: made, and said at an interruption]",
)
@bulk_options
def resume(ctx: click.Context, /, *, signal_key: str | None, **given: Any) -> None:
    """Send runs a signal, whether or not they wait for it yet."""
    key = signal_key or f"bulk-{uuid4()}"
    hint = "" if signal_key else f" Add: --key {key}"
    # A filter is called `key` too.
    act(ctx, "resume", ("signal", "data"), hint=hint, more={"key": key}, **given)


@bulk.command()
@reason_option
@bulk_options
def pause(ctx: click.Context, /, **given: Any) -> None:
    """Pause runs: no further unit of them begins."""
    act(ctx, "pause", ("reason",), **given)


@bulk.command()
@bulk_options
def unpause(ctx: click.Context, /, **given: Any) -> None:
    """Take back the pauses of runs, not those of workflows and steps."""
    act(ctx, "unpause", (), **given)


@bulk.command("retry-compensation")
@bulk_options
def retry_compensation(ctx: click.Context, /, **given: Any) -> None:
    """Try the compensations of failed runs again that have failed."""
    act(ctx, "retry_compensation", (), **given)


@bulk.command()
@click.option(
    "--older-than",
    callback=duration,
    metavar="DURATION",
    help="How long ago they ended: 30d, 12h, 45m, or seconds.  [default: durable_retention]",
)
@bulk_options
def prune(ctx: click.Context, /, **given: Any) -> None:
    """Delete runs that ended long ago, with all runs below them; child runs only with those."""
    act(ctx, "prune", ("older_than",), **given)


def act(
    ctx: click.Context,
    name: str,
    options: Sequence[str],
    *,
    yes: bool,
    dry_run: bool,
    everything: bool,
    as_json: bool,
    hint: str = "",
    more: Mapping[str, Any] | None = None,
    **given: Any,
) -> None:
    """Say to how many runs it would be done; ask, and do it."""
    output, said = Output.of(ctx, as_json=as_json), SAID[name]
    found = checked_filter(**{one: given[one] for one in FILTERS})
    if not everything and not (found.conditions() or found.error):
        raise CliError("Name a filter, such as --workflow or --since, or --all.", ExitCode.USAGE)
    chosen = {one: given[one] for one in options if given[one] is not None}
    walk = walk_of(durable_of(ctx), name, found, {**chosen, **(more or {})}, everything=everything)
    preview = walk.preview()
    if not preview.matched or dry_run or not yes:
        show(output, said, preview)
    if not preview.matched or dry_run:
        return
    if not yes and not _is_confirmed(output, said, preview):
        output.lines(Text("Nothing was done."))
        return
    with _interruptible(ctx, output, said, preview, hint) as on_progress:
        result = walk.go(on_progress)
    report(output, said, result)
    if result.refused:
        ctx.exit(ExitCode.RUN_ENDED_BADLY)


def show(output: Output, said: Said, preview: Preview) -> None:
    """Write to how many runs it would be done, by workflow and status, and the first ones."""
    counted = sorted(preview.counted.items())
    if output.form is Form.JSON:
        runs = [{"workflow": name, "status": status, "runs": n} for (name, status), n in counted]
        output.document(
            {
                "action": said.name,
                "matched": preview.matched,
                "is_all": preview.is_all,
                "runs": runs,
                "first": [fields_of(run) for run in preview.first],
            }
        )
        return
    if not counted:
        output.lines(Text("No run matches."))
        return
    rows = [
        (Text(one_line(name)), status_text(status), Text(str(n))) for (name, status), n in counted
    ]
    output.table(COLUMNS, rows)
    for run in preview.first:
        line = Text(f"{run.run_id}  ").append_text(workflow_text(run.workflow, run.version))
        line.append("  ").append_text(status_text(run.status))
        output.lines(line.append(f"  {one_line(run.key)}" if run.key else ""))
    more = preview.matched - len(preview.first)
    if more:
        all_ = "" if preview.is_all else ", at least: no more are counted"
        output.lines(Text(f"and {more} more{all_}", "dim"))


def _how_many(preview: Preview) -> str:
    return f"{preview.matched}" if preview.is_all else f"{COUNTED} or more"


def _is_confirmed(output: Output, said: Said, preview: Preview) -> bool:
    if output.form is not Form.TERMINAL or not sys.stdin.isatty():
        raise CliError(
            "Nothing was done: add --yes to do it, or --dry-run to say that you only look.",
            ExitCode.USAGE,
        )
    runs = plural(preview.matched, "run") if preview.is_all else f"{_how_many(preview)} runs"
    return click.confirm(f"{said.asks} {runs}?")


@contextmanager
def _interruptible(
    ctx: click.Context, output: Output, said: Said, preview: Preview, hint: str
) -> Iterator[Callable[[BulkResult], None]]:
    """Yield what shows the progress; say how far it came if somebody interrupts it."""
    came = BulkResult()

    def note(result: BulkResult) -> None:
        nonlocal came
        came = result
        show_progress(result)

    try:
        with _progress(output, said, preview) as show_progress:
            yield note
    except KeyboardInterrupt:
        click.echo(
            f"Interrupted after {came.matched} of {_how_many(preview)} runs;"
            f" {came.done} {said.done}. Run it again to go on.{hint}",
            err=True,
        )
        ctx.exit(ExitCode.INTERRUPTED)


@contextmanager
def _progress(
    output: Output, said: Said, preview: Preview
) -> Iterator[Callable[[BulkResult], None]]:
    """Yield what shows how far it is: a bar on a terminal, lines on standard error in a pipe."""
    if output.form is not Form.TERMINAL:
        total = _how_many(preview)

        def write(result: BulkResult) -> None:
            if output.form is Form.PIPE:
                click.echo(f"{said.goes_on}: {result.matched} of {total}", err=True)

        yield write
        return
    bar = Progress(
        TextColumn(said.goes_on),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=output.console,
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=preview.matched)

        def move(result: BulkResult) -> None:
            total = max(preview.matched, result.matched)
            bar.update(task, completed=result.matched, total=total)

        yield move


def report(output: Output, said: Said, result: BulkResult) -> None:
    """Write what has come of it."""
    if output.form is Form.JSON:
        refused = [
            {"reason": reason, "runs": n, "first": result.examples[reason]}
            for reason, n in result.refused.items()
        ]
        output.document(
            {
                "action": said.name,
                "matched": result.matched,
                "done": result.done,
                "unchanged": result.unchanged,
                "refused": refused,
            }
        )
        return
    output.lines(Text(f"{plural(result.done, 'run')} {said.done}."))
    if result.unchanged:
        output.lines(Text(f"{plural(result.unchanged, 'run')} needed it no more.", "dim"))
    for reason, n in result.refused.items():
        first = ", ".join(map(str, result.examples[reason]))
        text = Text(f"{plural(n, 'run')} refused: ", "bold red").append(one_line(reason), "default")
        output.lines(text.append(f"  {first}", "dim"))

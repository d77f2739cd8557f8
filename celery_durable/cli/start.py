"""`durable start`."""

from __future__ import annotations

from typing import Any, get_args

import click
from rich.text import Text

from celery_durable.cli.application import app_name, durable_of, json_option, tag_option
from celery_durable.cli.duration import duration, some_duration
from celery_durable.cli.exit_codes import ExitCode, of_ended
from celery_durable.cli.follow import follow
from celery_durable.cli.json_argument import json_argument
from celery_durable.cli.output import Form, Output
from celery_durable.cli.standstill import PATIENCE, Told, why_not_ended
from celery_durable.cli.why import lines
from celery_durable.core.keys import OnConflict, ReuseKey
from celery_durable.durable import Durable
from celery_durable.errors import ResultTimeout, RunCancelled, RunFailed
from celery_durable.run import Run
from celery_durable.view.formatting import one_line
from celery_durable.view.run import document_of, read_run


@click.command()
@click.argument("workflow")
@click.argument("input", metavar="[INPUT]", required=False, callback=json_argument)
@click.option("--key", help="Unique per workflow: a second start with it returns the first run.")
@click.option(
    "--on-conflict",
    type=click.Choice(get_args(OnConflict)),
    default="existing",
    help="What if a run has the key: return it, fail, or cancel it and start another.",
)
@click.option(
    "--reuse-key",
    type=click.Choice(get_args(ReuseKey)),
    default="never",
    help="Whether the key of a run that has ended moves to the new run.",
)
@click.option("--version", type=click.IntRange(min=1), help="Default: the highest that is known.")
@click.option("--delay", callback=duration, help="Until the run begins: 90, 30m, 12h or 30d.")
@click.option(
    "--timeout",
    callback=some_duration,
    help="From its beginning until the run fails unless it has ended.",
)
@click.option(
    "--expires",
    callback=some_duration,
    help="From now until the run is cancelled unless it has begun.",
)
@tag_option
@click.option("--priority", type=int, help="Of the run's messages, as the broker understands it.")
@click.option("--wait", is_flag=True, help="Wait for the end; exit code 1 unless it completed.")
@json_option
@click.pass_context
def start(
    ctx: click.Context,
    /,
    *,
    workflow: str,
    input: Any,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Start a run of WORKFLOW and print its id.

    INPUT is JSON, @file with JSON in it, or - for JSON from standard input. Piped, the id is alone
    on standard output; whether the run is new goes to standard error.
    """
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    run = durable.start(workflow, input, **options)
    if output.form is not Form.JSON:
        _announce(output, run, workflow)
    if wait:
        ctx.exit(_wait(durable, run, output, app_name(ctx)))
    if output.form is Form.JSON:
        output.document({"run_id": run.id, "created": run.created})


def _announce(output: Output, run: Run, workflow: str) -> None:
    name = one_line(workflow)
    if output.form is Form.TERMINAL:
        text = f"Started {name}: " if run.created else f"{name} has a run with this key already: "
        output.lines(Text(text).append(str(run.id), "bold"))
    else:
        output.lines(Text(str(run.id)))
        click.echo("new" if run.created else "a run with this key exists already", err=True)


def _wait(durable: Durable, run: Run, output: Output, app: str) -> ExitCode:
    """Wait until the run has ended. Piped, how it ended, and why, goes to standard error."""
    if output.form is Form.TERMINAL:
        return of_ended(follow(durable, run, output, app).snapshot.status)
    is_json = output.form is Form.JSON
    try:
        _wait_aloud(run, output, app)
    except (RunFailed, RunCancelled):
        if not is_json:
            raise
    view = read_run(durable, run, with_results=is_json)
    if not is_json:
        click.echo(view.snapshot.status.value, err=True)
    else:
        output.document({**document_of(view), "created": run.created})
    return of_ended(view.snapshot.status)


def _wait_aloud(run: Run, output: Output, app: str) -> None:
    """Wait for the result, and say on standard error why it does not come."""
    told = Told()
    while True:
        try:
            run.result(timeout=PATIENCE)
        except ResultTimeout:
            found = why_not_ended(run)
            if told.is_new(found) and found is not None:
                for line in lines(output, found, app):
                    click.echo(line.plain, err=True)
        else:
            return

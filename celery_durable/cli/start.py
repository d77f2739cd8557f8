"""`durable start`."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from celery_durable.cli.application import durable_of, json_option, tag_option
from celery_durable.cli.exit_codes import ExitCode
from celery_durable.cli.follow import follow
from celery_durable.cli.formatting import one_line
from celery_durable.cli.json_argument import json_argument
from celery_durable.cli.output import Form, Output
from celery_durable.cli.run_view import document_of, read_run
from celery_durable.durable import Durable
from celery_durable.errors import RunCancelled, RunFailed
from celery_durable.run import Run


@click.command()
@click.argument("workflow")
@click.argument("input", metavar="[INPUT]", required=False, callback=json_argument)
@click.option("--key", help="Unique per workflow: a second start with it returns the first run.")
@click.option("--version", type=click.IntRange(min=1), help="Default: the highest that is known.")
@click.option("--delay", type=click.FloatRange(min=0), help="Seconds until the run begins.")
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
        ctx.exit(_wait(durable, run, output))
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


def _wait(durable: Durable, run: Run, output: Output) -> ExitCode:
    """Wait until the run has ended. A pipe gets no more than the id and why the run failed."""
    if output.form is Form.TERMINAL:
        return follow(durable, run, output).exit_code
    is_json = output.form is Form.JSON
    try:
        run.result()
    except (RunFailed, RunCancelled):
        if not is_json:
            raise
    view = read_run(durable, run, with_results=is_json)
    if is_json:
        output.document({**document_of(view), "created": run.created})
    return view.exit_code

"""`durable start`."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from celery_durable.cli.application import durable_of, json_option, tag_option
from celery_durable.cli.exit_codes import Exit
from celery_durable.cli.follow import exit_of, follow
from celery_durable.cli.formatting import one_line
from celery_durable.cli.json_argument import json_given
from celery_durable.cli.output import Form, Output
from celery_durable.cli.run_view import document_of, look
from celery_durable.durable import Durable
from celery_durable.errors import RunCancelled, RunFailed
from celery_durable.run import Run


@click.command()
@click.argument("workflow")
@click.argument("input", metavar="[INPUT]", required=False, callback=json_given)
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
        said = f"Started {name}: " if run.created else f"{name} has a run with this key already: "
        output.lines(Text(said).append(str(run.id), "bold"))
    else:
        output.lines(Text(str(run.id)))
        click.echo("new" if run.created else "a run with this key exists already", err=True)


def _wait(durable: Durable, run: Run, output: Output) -> Exit:
    """Until the run has ended. What is piped says no more than the id, and why the run failed."""
    if output.form is Form.TERMINAL:
        return exit_of(follow(durable, run, output))
    try:
        run.result()
    except (RunFailed, RunCancelled) as error:
        if output.form is not Form.JSON:
            raise
        del error
    seen = look(durable, run, with_results=output.form is Form.JSON)
    if output.form is Form.JSON:
        output.document({**document_of(seen), "created": run.created})
    return exit_of(seen)

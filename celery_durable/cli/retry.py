"""`durable retry`, `retry-now` and `retry-compensation`."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource
from rich.text import Text

from celery_durable.cli.application import durable_of, json_option, run_named, run_options
from celery_durable.cli.json_argument import json_argument
from celery_durable.cli.output import Output


@click.command()
@run_options
@click.option("--from", "from_step", metavar="STEP", help="The node that the new run begins with.")
@click.option(
    "--input",
    metavar="JSON",
    callback=json_argument,
    help="Another input: JSON, @file, or - for standard input.",
)
@json_option
@click.pass_context
def retry(
    ctx: click.Context, /, *, from_step: str | None, input: Any, as_json: bool, **name: Any
) -> None:
    """Start a run in place of one that has failed, or was cancelled.

    The new run inherits the results of the nodes that completed before STEP, and begins there; by
    default at the first node that has not completed, or was compensated since. The key moves to the
    new run. The old one stays as it is.
    """
    run = run_named(durable_of(ctx), **name)
    is_given = ctx.get_parameter_source("input") is ParameterSource.COMMANDLINE
    given = {"input": input} if is_given else {}
    new = run.retry(from_step=from_step, **given)
    Output.of(ctx, as_json=as_json).answer(
        {"run_id": new.id, "forked_from": run.id}, Text(f"Started run {new.id}.")
    )


@click.command("retry-now")
@run_options
@click.option("--unit", help="Only this one; by default all that wait.")
@json_option
@click.pass_context
def retry_now(ctx: click.Context, /, *, unit: str | None, as_json: bool, **name: Any) -> None:
    """Have a run's units tried now.

    Those are tried that wait for their next try, and those that are paused because they have used
    up their tries: they get one more.
    """
    run = run_named(durable_of(ctx), **name)
    tried = run.retry_now(unit)
    Output.of(ctx, as_json=as_json).answer(
        {"run_id": run.id, "units": tried}, Text(f"Tried now: {', '.join(tried)}.")
    )


@click.command("retry-compensation")
@run_options
@json_option
@click.pass_context
def retry_compensation(ctx: click.Context, /, *, as_json: bool, **name: Any) -> None:
    """Try the compensations of a failed run again that have failed."""
    run = run_named(durable_of(ctx), **name)
    run.retry_compensation()
    status = run.status(results=False).status
    Output.of(ctx, as_json=as_json).answer(
        {"run_id": run.id, "status": status}, Text("Its failed compensations are tried again.")
    )

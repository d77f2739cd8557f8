"""`durable skip`."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from celery_durable.cli.application import durable_of, json_option, run_named, run_options
from celery_durable.cli.json_argument import json_argument
from celery_durable.cli.output import Output


@click.command()
@run_options
@click.option("--unit", required=True, help="The unit, as `show` and `why` name it.")
@click.option(
    "--result", metavar="JSON", callback=json_argument, help="JSON, @file, or -; by default null."
)
@json_option
@click.pass_context
def skip(ctx: click.Context, /, *, unit: str, result: Any, as_json: bool, **name: Any) -> None:
    """Record a unit as completed by hand, and execute nothing.

    For a unit of a step that is between tries, or paused. The run goes on as if the step had
    returned the result.
    """
    run = run_named(durable_of(ctx), **name)
    run.skip(unit, result)
    Output.of(ctx, as_json=as_json).answer(
        {"run_id": run.id, "unit": unit}, Text(f"{unit} is recorded as completed.")
    )

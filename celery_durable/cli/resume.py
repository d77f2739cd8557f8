"""`durable resume`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click
from rich.text import Text

from celery_durable.cli.application import durable_of, json_option
from celery_durable.cli.document import fields_of
from celery_durable.cli.exits import Exit
from celery_durable.cli.given import json_given
from celery_durable.cli.output import Form, Output

STYLES = {"stored": "green", "duplicate": "yellow", "refused": "bold red"}


@click.command()
@click.argument("run_id", metavar="RUN", type=click.UUID)
@click.argument("signal")
@click.option(
    "--data", metavar="JSON", callback=json_given, help="JSON, @file, or - for standard input."
)
@click.option("--key", help="The same key under the same name counts once.")
@json_option
@click.pass_context
def resume(
    ctx: click.Context,
    /,
    *,
    run_id: UUID,
    signal: str,
    data: Any,
    key: str | None,
    as_json: bool,
) -> None:
    """Send the run a signal.

    SIGNAL is the name that is waited for: of a wait_for_signal, or of a suspended unit. It may come
    before the run waits for it. Prints stored, duplicate or refused, and why; exit code 1 if it was
    refused, because the run has ended.
    """
    output = Output.of(ctx, as_json=as_json)
    delivery = durable_of(ctx).resume(run_id, signal, data, key=key)
    if output.form is Form.JSON:
        output.document({"run_id": run_id, **fields_of(delivery), "accepted": delivery.accepted})
    else:
        said = Text(delivery.outcome, STYLES[delivery.outcome])
        output.lines(said.append(f": {delivery.reason}", "default"))
    if not delivery.accepted:
        ctx.exit(Exit.RUN_ENDED_BADLY)

"""`durable resume`."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from celery_durable.cli.application import (
    durable_of,
    json_option,
    run_and_words,
    run_key_options,
    run_named,
)
from celery_durable.cli.exit_codes import ExitCode
from celery_durable.cli.json_argument import json_argument
from celery_durable.cli.output import Form, Output
from celery_durable.view.document import fields_of
from celery_durable.view.formatting import one_line

OUTCOME_STYLES = {"stored": "green", "duplicate": "yellow", "refused": "bold red"}


@click.command()
@click.argument("words", metavar="[RUN] SIGNAL", nargs=-1)
@click.option(
    "--data", metavar="JSON", callback=json_argument, help="JSON, @file, or - for standard input."
)
@click.option("--key", help="The signal's: the same key under the same name counts once.")
@run_key_options("--run-key")
@json_option
@click.pass_context
def resume(
    ctx: click.Context,
    /,
    *,
    words: tuple[str, ...],
    workflow: str | None,
    run_key: str | None,
    data: Any,
    key: str | None,
    as_json: bool,
) -> None:
    """Send the run a signal.

    SIGNAL is the name that the run waits for: of a wait_for_signal, or of a suspended unit. It may
    come before the run waits for it; a name that no node waits for is stored too, with a warning.
    Prints stored, duplicate or refused, and why; exit code 1 if it was refused, because the run has
    ended.
    """
    output = Output.of(ctx, as_json=as_json)
    by_key = workflow is not None or run_key is not None
    run_id, (signal,) = run_and_words(words, "SIGNAL", by_key=by_key)
    durable = durable_of(ctx)
    run = run_named(durable, run_id, workflow, run_key)
    delivery = run.resume(signal, data, key=key)
    facts = {name: value for name, value in fields_of(delivery).items() if value is not None}
    output.answer(
        {"run_id": run.id, **facts, "accepted": delivery.accepted},
        Text(delivery.outcome, OUTCOME_STYLES[delivery.outcome]).append(
            f": {delivery.reason}", "default"
        ),
    )
    if delivery.warning is not None and output.form is not Form.JSON:
        click.echo(f"Warning: {one_line(delivery.warning)}", err=True)
    if not delivery.accepted:
        ctx.exit(ExitCode.RUN_ENDED_BADLY)

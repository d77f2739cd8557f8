"""`durable recover`."""

from __future__ import annotations

import click
from rich.text import Text

from celery_durable.cli.application import durable_of, json_option
from celery_durable.cli.output import Form, Output
from celery_durable.view.formatting import plural


@click.command()
@json_option
@click.pass_context
def recover(ctx: click.Context, /, *, as_json: bool) -> None:
    """Take claims away from dead workers and send lost hints again.

    Prints how many tokens were moved on. Harmless at any time; relays and beat do it too.
    """
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    moved = durable.recover()
    text = str(moved) if output.form is Form.PIPE else f"{plural(moved, 'token')} moved on."
    output.answer({"moved": moved}, Text(text))

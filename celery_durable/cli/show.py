"""`durable show`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
from rich.text import Text

from celery_durable.cli.application import app_name, durable_of, json_option, run_named, run_options
from celery_durable.cli.drawing import picture, plain_text
from celery_durable.cli.exit_codes import of_ended
from celery_durable.cli.follow import follow
from celery_durable.cli.output import Form, Output
from celery_durable.cli.why import lines
from celery_durable.view.run import document_of, read_run


@click.command()
@run_options
@click.option(
    "--follow",
    "is_followed",
    is_flag=True,
    help="Show it as it moves until it ends; exit code 1 unless it completed.",
)
@click.option("--no-results", is_flag=True, help="JSON without results: their sizes.")
@json_option
@click.pass_context
def show(
    ctx: click.Context, /, *, is_followed: bool, no_results: bool, as_json: bool, **name: Any
) -> None:
    """Show where a run stands, step by step, and why.

    Items and iterations are counted; a wait is shown with since when and until when it lasts. With
    --follow the picture is redrawn as the run moves; piped, each change is a line; with --json,
    each change is a document on a line of its own.
    """
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    run = run_named(durable, **name)
    if is_followed:
        shown = follow(durable, run, output, app_name(ctx), with_results=not no_results)
        ctx.exit(of_ended(shown.snapshot.status))
    view = read_run(durable, run, with_results=output.form is Form.JSON and not no_results)
    now = datetime.now(UTC)
    match output.form:
        case Form.TERMINAL:
            output.draw(picture(output, view, now))
        case Form.PIPE:
            output.lines(Text(plain_text(output, view, now)))
        case Form.JSON:
            output.document({**document_of(view), "why": run.why().reasons})
            return
    if not view.has_ended:
        output.lines(Text(), *lines(output, run.why(), app_name(ctx)))

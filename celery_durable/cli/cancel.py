"""`durable cancel`."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from celery_durable.cli.application import durable_of, json_option, run_named, run_options
from celery_durable.cli.output import Output, status_text
from celery_durable.core.status import FINISHED


@click.command()
@run_options
@click.option("--compensate", is_flag=True, help="Undo the completed steps too.")
@click.option("--reason", metavar="TEXT", help="Kept with the run.")
@json_option
@click.pass_context
def cancel(
    ctx: click.Context,
    /,
    *,
    compensate: bool,
    reason: str | None,
    as_json: bool,
    **name: Any,
) -> None:
    """Ask a run to end.

    No further step begins; a step that is being executed ends, and its result is dropped. With
    --compensate its result counts, and every completed step that has a compensator is undone. A run
    that has ended stays as it is.
    """
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    run = run_named(durable, **name)
    is_unfinished = run.status(results=False).status not in FINISHED
    run.cancel(compensate=compensate, reason=reason)
    status = run.status(results=False).status
    text = "Asked to end; the run is" if is_unfinished else "Nothing to cancel; the run has ended:"
    output.answer(
        {"run_id": run.id, "asked": is_unfinished, "status": status},
        Text(f"{text} ").append_text(status_text(status)),
    )

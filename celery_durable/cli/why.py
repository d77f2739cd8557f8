"""`durable why`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import click
from rich.text import Text

from celery_durable.cli.application import (
    app_name,
    durable_of,
    json_option,
    run_named,
    run_options,
    typed,
)
from celery_durable.cli.output import Form, Output
from celery_durable.core.reason import Diagnosis, Reason
from celery_durable.view.formatting import coarse, one_line, span, utc
from celery_durable.view.wording import tone

COLOURS = {"good": "green", "warn": "yellow", "bad": "red"}


@click.command()
@run_options
@json_option
@click.pass_context
def why(ctx: click.Context, /, *, as_json: bool, **name: Any) -> None:
    """Say why a run does not move, and what helps.

    From what it waits for, by the outbox, relay, broker and queue, to the worker that executes it.
    """
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    found = run_named(durable, **name).why()
    output.answer(found, *lines(output, found, app_name(ctx)))


def lines(output: Output, found: Diagnosis, app: str) -> list[Text]:
    """The reasons as lines, each with its remedy below it; `app` is what -A takes."""
    return [*_lines(output, found.reasons, found, app, 0)]


def _lines(
    output: Output, reasons: Sequence[Reason], found: Diagnosis, app: str, level: int
) -> Iterator[Text]:
    indent = "  " * level
    for reason in reasons:
        is_own = reason.run_id == found.run_id
        look = COLOURS[tone(reason, found.status if is_own else None)]
        text = Text(indent).append(one_line(reason.text), look)
        yield text.append(_times(output, reason, found.at), "dim")
        for remedy in reason.help.splitlines():
            line = typed(click.get_current_context(silent=True), one_line(remedy))
            yield Text(f"{indent}  ").append(line.replace("<app>", app), "bold")
        yield from _lines(output, reason.inner, found, app, level + 1)


def _times(output: Output, reason: Reason, now: datetime) -> str:
    """` for 4m, until 12:30:00`; in a pipe, times."""
    is_terminal = output.form is Form.TERMINAL
    parts = []
    if reason.since is not None and is_terminal:
        parts.append(f"for {coarse(now - reason.since)}")
    elif reason.since is not None:
        parts.append(f"since {utc(reason.since)}")
    if reason.until is not None and is_terminal and reason.until > now:
        parts.append(f"for {span(reason.until - now)} more")
    elif reason.until is not None:
        parts.append(f"until {utc(reason.until)}")
    return f"  {', '.join(parts)}" if parts else ""

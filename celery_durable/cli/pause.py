"""`durable pause` and `durable unpause`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import click
from rich.text import Text

from celery_durable.cli.application import durable_of, json_option, run_named
from celery_durable.cli.output import Column, Form, Output
from celery_durable.core.pause import Pause, Paused
from celery_durable.durable import Durable
from celery_durable.view.document import fields_of
from celery_durable.view.formatting import one_line

Command = Callable[..., Any]


def _what_options(command: Command) -> Command:
    """Add the arguments that say what is paused; `_what` takes them."""
    for option in (
        click.option("--step", metavar="NAME", help="A node or branch, of these or of all."),
        click.option("--version", type=int, help="With --workflow: only this version."),
        click.option("--run-key", metavar="KEY", help="With --workflow: the key of one run."),
        click.option("--workflow", metavar="NAME", help="All runs of it; with --run-key, one."),
        click.argument("run_id", metavar="[RUN]", type=click.UUID, required=False),
    ):
        command = option(command)
    return command


def _what(
    durable: Durable,
    *,
    run_id: UUID | None,
    workflow: str | None,
    run_key: str | None,
    version: int | None,
    step: str | None,
) -> dict[str, Any]:
    """The arguments of `Durable.pause`."""
    if run_key is not None:
        run_id, workflow = run_named(durable, run_id, workflow, run_key).id, None
    return {"run_id": run_id, "workflow": workflow, "version": version, "step": step}


@click.command()
@_what_options
@click.option("--reason", metavar="TEXT", help="Shown by `why`.")
@click.option("--list", "is_list", is_flag=True, help="Show what is paused, and pause nothing.")
@json_option
@click.pass_context
def pause(
    ctx: click.Context, /, *, reason: str | None, is_list: bool, as_json: bool, **what: Any
) -> None:
    """Pause a run, a workflow or one version of it, or a step.

    No further unit begins there. What is executed ends and is recorded; signals are kept.
    """
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    if is_list:
        _list(durable, output)
        return
    named = _what(durable, **what)
    is_new = durable.pause(**named, reason=reason)
    text = "is paused" if is_new else "was paused already"
    output.answer({**named, "changed": is_new}, _said(named, text))


@click.command()
@_what_options
@json_option
@click.pass_context
def unpause(ctx: click.Context, /, *, as_json: bool, **what: Any) -> None:
    """Take a pause back: what has become due begins.

    Name what you have paused, as you have named it; `pause --list` shows it.
    """
    durable = durable_of(ctx)
    named = _what(durable, **what)
    is_lifted = durable.unpause(**named)
    text = "goes on" if is_lifted else "was not paused"
    Output.of(ctx, as_json=as_json).answer({**named, "changed": is_lifted}, _said(named, text))


def _said(named: dict[str, Any], text: str) -> Text:
    what = str(Pause(**named))
    return Text(f"{what[0].upper()}{what[1:]} {text}.")


def _list(durable: Durable, output: Output) -> None:
    paused = durable.pauses()
    if output.form is Form.JSON:
        output.document([{**fields_of(one.pause), **_rest(one)} for one in paused])
        return
    columns = (
        Column("Paused"),
        Column("Run"),
        Column("Since", fixed=True),
        Column("By"),
        Column("Reason"),
    )
    rows = [
        (
            Text(str(one.pause)),
            Text(str(one.pause.run_id or "")),
            output.time(one.since),
            Text(one_line(one.by or "")),
            Text(one_line(one.reason or "")),
        )
        for one in paused
    ]
    output.table(columns, rows, if_empty="Nothing is paused.")


def _rest(one: Paused) -> dict[str, Any]:
    return {"reason": one.reason, "since": one.since, "by": one.by}

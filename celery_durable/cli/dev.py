"""`durable dev`."""

from __future__ import annotations

import click
from rich.console import Console

from celery_durable.cli.application import durable_of
from celery_durable.cli.group import STARTED_IN
from celery_durable.dev.inside import play
from celery_durable.dev.lines import Lines
from celery_durable.dev.parts import NAMES, Handed, Name
from celery_durable.dev.session import FIRST_PORT, Options, develop


@click.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=FIRST_PORT,
    show_default=True,
    help="Of the page; the next free one if it is taken.",
)
@click.option("--fresh", is_flag=True, help="Empty .durable first, with all runs in it.")
@click.option("--no-reload", is_flag=True, help="Go on as it is when files of the project change.")
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
@click.option("--part", type=click.Choice(NAMES), hidden=True)
@click.pass_context
def dev(
    ctx: click.Context,
    /,
    *,
    port: int,
    fresh: bool,
    no_reload: bool,
    opens: bool,
    part: Name | None,
) -> None:
    """Run everything on this computer until Ctrl-C: worker, beat, the page, tables.

    Also an embedded Postgres, where the app says no database, and as the broker where it has none
    that answers; its data are kept in .durable beside the project. Python files that change start
    worker, beat and page anew. For development: the page is for this computer only.
    """
    durable = durable_of(ctx)
    if part is not None:
        play(part, durable, Handed.read())
        return
    lines = Lines(Console(highlight=False, no_color=ctx.obj.no_color or None))
    develop(durable, Options(port, fresh, not no_reload, opens, STARTED_IN), lines)

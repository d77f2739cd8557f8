"""The options that say which runs a command is about."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from celery_durable.cli.application import tag_option
from celery_durable.core.status import Status
from celery_durable.view.moments import moment

Command = TypeVar("Command", bound=Callable[..., Any])


def _time(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """A time so long ago (`30m`, `2h`, `1d`), or in ISO 8601; without a zone in this machine's."""
    if value is None:
        return None
    try:
        return moment(value, datetime.now(UTC), None)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def time_option(name: str, help: str) -> Callable[[Command], Command]:
    """An option that takes a time, or how long ago that was."""
    return click.option(name, metavar="TIME", callback=_time, help=help)


def filters(*keys: str) -> Callable[[Command], Command]:
    """Add the options of a filter, by the names of `Durable.list`; all of them hold together.

    `keys` are the names of the option for the key of a run.
    """
    options = (
        click.option("--status", type=click.Choice([status.value for status in Status])),
        click.option("--workflow", help="The runs of this workflow."),
        click.option(
            *keys, "key", help="The run with this key; of each workflow, without --workflow."
        ),
        tag_option,
        time_option("--since", "Created then or later: 30m, 2h, 1d (ago), or 2026-03-01T12:00Z."),
        time_option("--until", "Created before that."),
        click.option(
            "--error",
            metavar="TYPE[: TEXT]",
            help="Failed with it, or is tried again after it; TEXT is a part of the message.",
        ),
        click.option(
            "--compensation-failed",
            is_flag=True,
            default=None,
            help="A compensation has failed for good.",
        ),
    )

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


filter_options = filters("--run-key", "--key")

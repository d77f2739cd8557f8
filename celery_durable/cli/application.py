"""Finds the `Durable` of Celery's context, and the run that arguments name."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from getpass import getuser
from shlex import quote
from socket import gethostname
from typing import Any, TypeVar
from uuid import UUID

import click

from celery_durable.cli.exit_codes import CliError, ExitCode
from celery_durable.durable import Durable
from celery_durable.run import Run

Command = TypeVar("Command", bound=Callable[..., Any])


def durable_of(ctx: click.Context) -> Durable:
    """The `Durable` of the app that -A names, after importing the app's modules."""
    app = ctx.obj.app
    # Without -A Celery makes an app of its own, called "default".
    if app.main == "default" and not hasattr(app, "durable"):
        raise CliError(
            "No app is named. Name yours before the command: celery -A <your app> durable ...",
            ExitCode.USAGE,
        )
    try:
        app.loader.import_default_modules()
    except ImportError as error:
        raise CliError(
            f"A module of the app {app.main!r} cannot be imported: {error}. Repair it, or correct"
            " `imports` in the app's configuration.",
            ExitCode.USAGE,
        ) from error
    app.finalize()
    durable = getattr(app, "durable", None)
    if not isinstance(durable, Durable):
        raise CliError(
            f"The app {app.main!r} has no durable workflows. Where the app is made, add:"
            " durable = Durable(app)",
            ExitCode.USAGE,
        )
    ctx.with_resource(durable.acting(user_and_host()))
    return durable


def user_and_host() -> str:
    """Who types the command, as it is noted with what they do: `ann@host`."""
    try:
        user = getuser()
    except (KeyError, OSError):  # a container's user may have a number alone
        user = str(os.getuid())
    return f"{user}@{gethostname()}"


def app_name(ctx: click.Context) -> str:
    """What -A was, so that a command that is shown can be typed; `<app>` if it was an object."""
    typed = ctx.find_root().params.get("app")
    return quote(typed) if isinstance(typed, str) else ctx.obj.app.main or "<app>"


def typed(ctx: click.Context | None, text: str) -> str:
    """A command in a hint as it is typed here: Django's `manage.py` has no -A."""
    command = getattr(ctx.obj, DURABLE_COMMAND, None) if ctx is not None else None
    if command is None:
        return text
    for app in ("<app>", "<your app>"):
        text = text.replace(f"celery -A {app} durable", command)
    return text


DURABLE_COMMAND = "durable_command"
"""The attribute of Celery's context that has what is typed in place of `celery -A <app> durable`.
"""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def run_options(command: Command) -> Command:
    """Add the arguments that name a run, by its id or its key; `run_named` takes them."""
    command = run_key_options("--run-key", "--key")(command)
    return click.argument("run_id", metavar="[RUN]", type=click.UUID, required=False)(command)


def run_key_options(*names: str) -> Callable[[Command], Command]:
    """The options that name a run by its key; `names` are those of the key's option."""
    run_key = click.option(
        *names, "run_key", metavar="KEY", help="With --workflow, in place of RUN: the run's key."
    )
    workflow = click.option("--workflow", help=f"With {names[0]}: the run's workflow.")
    return lambda command: workflow(run_key(command))


def run_named(
    durable: Durable, run_id: UUID | None, workflow: str | None, run_key: str | None
) -> Run:
    """The run with this id, or of this workflow with this key."""
    by_key = (workflow is not None, run_key is not None)
    if run_id is not None and not any(by_key):
        return durable.run(run_id)
    if run_id is None and all(by_key):
        return durable.run(workflow=workflow, key=run_key)
    raise CliError(
        "Name one run: its id, or --workflow and --run-key. `durable list` shows what there is.",
        ExitCode.USAGE,
    )


def run_and_words(
    words: Sequence[str], *names: str, by_key: bool, optional: int = 0
) -> tuple[UUID | None, tuple[str, ...]]:
    """The run's id, left out `by_key`, and the words that follow it; `optional`: the last may lack.

    For a command whose argument is `words` with nargs=-1: RUN may be left out before other words.
    """
    run, rest = (None, (*words,)) if by_key else (words[:1], (*words[1:],))
    if not len(names) - optional <= len(rest) <= len(names) or run == ():
        listed = " ".join(names)
        raise click.UsageError(
            f"Name one run and the {listed}: RUN {listed}, or --workflow, --run-key and {listed}."
        )
    if run is None:
        return None, rest
    try:
        return UUID(run[0]), rest
    except ValueError:
        raise click.BadParameter(f"{run[0]!r} is not a valid UUID.") from None


def _parse_tags(_: click.Context, __: click.Parameter, tags: tuple[str, ...]) -> dict[str, str]:
    parts = [tag.partition("=") for tag in tags]
    for name, separator, value in parts:
        if not (name and separator):
            raise click.BadParameter(f"{name + value!r} is not of the form name=value.")
    return {name: value for name, _, value in parts}


tag_option = click.option(
    "--tag", "tags", multiple=True, callback=_parse_tags, metavar="NAME=VALUE", help="Repeatable."
)

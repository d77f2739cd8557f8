"""From Celery's context to a `Durable`, and from arguments to a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

import click

from celery_durable.cli.exit_codes import Exit, Refused
from celery_durable.durable import Durable
from celery_durable.run import Run

Command = TypeVar("Command", bound=Callable[..., Any])


def durable_of(ctx: click.Context) -> Durable:
    """The `Durable` of the app that -A names, with the app's modules imported."""
    app = ctx.obj.app
    # Without -A Celery makes an app up, and calls it so.
    if app.main == "default" and not hasattr(app, "durable"):
        raise Refused(
            "No app is named. Name yours before the command: celery -A <your app> durable ...",
            Exit.USAGE,
        )
    try:
        app.loader.import_default_modules()
    except ImportError as error:
        raise Refused(
            f"A module of the app {app.main!r} cannot be imported: {error}. Repair it, or correct"
            " `imports` in the app's configuration.",
            Exit.USAGE,
        ) from error
    app.finalize()
    found = getattr(app, "durable", None)
    if not isinstance(found, Durable):
        raise Refused(
            f"The app {app.main!r} has no durable workflows. Where the app is made, add:"
            " durable = Durable(app)",
            Exit.USAGE,
        )
    return found


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def run_options(command: Command) -> Command:
    """The arguments that name a run; `run_named` takes them."""
    key_help = "With --workflow, in place of RUN: the run's key."
    command = click.option("--run-key", "--key", "run_key", metavar="KEY", help=key_help)(command)
    command = click.option("--workflow", help="With --run-key: the run's workflow.")(command)
    return click.argument("run_id", metavar="[RUN]", type=click.UUID, required=False)(command)


def run_named(
    durable: Durable, run_id: UUID | None, workflow: str | None, run_key: str | None
) -> Run:
    """The run that the arguments of `run_options` name."""
    by_key = (workflow is not None, run_key is not None)
    if run_id is not None and not any(by_key):
        return durable.run(run_id)
    if run_id is None and all(by_key):
        return durable.run(workflow=workflow, key=run_key)
    raise Refused(
        "Name one run: its id, or --workflow and --run-key. `durable list` shows what there is.",
        Exit.USAGE,
    )


def _pairs(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    split = [one.partition("=") for one in given]
    for name, separator, value in split:
        if not (name and separator):
            raise click.BadParameter(f"{name + value!r} is not of the form name=value.")
    return {name: value for name, _, value in split}


tag_option = click.option(
    "--tag", "tags", multiple=True, callback=_pairs, metavar="NAME=VALUE", help="Repeatable."
)

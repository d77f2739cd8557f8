"""The command group that Celery's entry point names."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from celery.bin.base import handle_preload_options
from click_didyoumean import DYMGroup  # type: ignore[import-untyped]

from celery_durable.cli.exit_codes import (
    EXIT_CODES_HELP,
    CliError,
    ExitCode,
    cli_error,
    discard_output,
    usage_error,
    with_grants,
)
from celery_durable.cli.json_argument import as_utf8

COMMANDS: Mapping[str, str] = {
    "migrate": "celery_durable.cli.migrate:migrate",
    "start": "celery_durable.cli.start:start",
    "list": "celery_durable.cli.listing:list_runs",
    "show": "celery_durable.cli.show:show",
    "why": "celery_durable.cli.why:why",
    "history": "celery_durable.cli.history:history",
    "graph": "celery_durable.cli.graph:graph",
    "resume": "celery_durable.cli.resume:resume",
    "cancel": "celery_durable.cli.cancel:cancel",
    "retry": "celery_durable.cli.retry:retry",
    "retry-now": "celery_durable.cli.retry:retry_now",
    "skip": "celery_durable.cli.skip:skip",
    "retry-compensation": "celery_durable.cli.retry:retry_compensation",
    "pause": "celery_durable.cli.pause:pause",
    "unpause": "celery_durable.cli.pause:unpause",
    "bulk": "celery_durable.cli.bulk:bulk",
    "check": "celery_durable.cli.check:check",
    "recover": "celery_durable.cli.recover:recover",
    "workers": "celery_durable.cli.workers:workers",
    "queues": "celery_durable.cli.queues:queues",
    "doctor": "celery_durable.cli.doctor:doctor",
    "metrics": "celery_durable.cli.metrics:metrics",
    "prune": "celery_durable.cli.prune:prune",
    "relay": "celery_durable.cli.relay:relay",
    "web": "celery_durable.cli.web:web",
    "dev": "celery_durable.cli.dev:dev",
}
"""Where each command is, in the order of the help: the order in which a newcomer needs them."""


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError:  # it was deleted; most commands do without
        return Path()


STARTED_IN = _working_directory()
"""Where the command was typed: Celery loads this module before --workdir takes effect."""

WITHOUT_RICH = (
    "The command line draws with rich, which is not installed. Run:"
    ' pip install "celery-durable[cli]"'
)


class DurableGroup(DYMGroup):
    """Imports a command when it is called; ends one that fails with a line and an exit code.

    https://click.palletsprojects.com/en/stable/complex/#lazily-loading-subcommands
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """The names of the commands."""
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's
        cmd_name: str,
    ) -> click.Command | None:
        """The command called `cmd_name`."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        try:
            command: click.Command = getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "rich":
                raise
            raise CliError(WITHOUT_RICH, ExitCode.USAGE) from error
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read arguments as UTF-8, whatever the locale says."""
        rest: list[str] = super().parse_args(ctx, [*map(as_utf8, args)])
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command."""
        if sys.stdout is None:
            raise CliError("Standard output is closed; > /dev/null leaves it out.", ExitCode.USAGE)
        try:
            return super().invoke(ctx)
        except click.NoSuchOption:
            # Celery explains a misplaced -A.
            raise
        except click.UsageError as error:
            raise usage_error(error) from error
        except (click.exceptions.Exit, click.Abort, click.ClickException):
            raise
        except KeyboardInterrupt:
            ctx.exit(ExitCode.INTERRUPTED)
        except BrokenPipeError:
            # The reader has read what it wanted, as `| head -1` does.
            discard_output()
            ctx.exit(ExitCode.OK)
        except Exception as error:
            known = cli_error(with_grants(ctx.obj.app, error))
            if known is None:
                # The traceback is for a bug report. A script must not take the defect for a run
                # that failed: it has an exit code of its own.
                traceback.print_exc()
                ctx.exit(ExitCode.DEFECT)
            code = ExitCode(known.exit_code)
            raise CliError(_typed(ctx, known.message), code) from error


def _typed(ctx: click.Context, text: str) -> str:
    from celery_durable.cli.application import typed  # noqa: PLC0415 - it imports much

    return typed(ctx, text)


@click.group(cls=DurableGroup, epilog=EXIT_CODES_HELP)
@click.pass_context
@handle_preload_options
def durable(ctx: click.Context, **preload: Any) -> None:
    """Durable workflows: set up the database, start runs and look after them."""

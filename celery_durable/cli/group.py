"""The command group that Celery's entry point names."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click
from celery.bin.base import handle_preload_options
from click_didyoumean import DYMGroup  # type: ignore[import-untyped]

from celery_durable.cli.exit_codes import (
    EXPLAINED,
    Exit,
    Refused,
    drop_output,
    refusal,
    refusal_of_output,
    refusal_of_postgres,
    refusal_of_usage,
)
from celery_durable.cli.json_argument import as_utf8
from celery_durable.errors import DurableError

COMMANDS: Mapping[str, str] = {
    "migrate": "celery_durable.cli.migrate:migrate",
    "start": "celery_durable.cli.start:start",
    "list": "celery_durable.cli.listing:list_runs",
    "show": "celery_durable.cli.show:show",
    "history": "celery_durable.cli.history:history",
    "graph": "celery_durable.cli.graph:graph",
    "resume": "celery_durable.cli.resume:resume",
    "cancel": "celery_durable.cli.cancel:cancel",
    "check": "celery_durable.cli.check:check",
    "recover": "celery_durable.cli.recover:recover",
    "relay": "celery_durable.cli.relay:relay",
}
"""Where each command is, in the order of the help."""


class DurableGroup(DYMGroup):
    """Imports a command when it is asked for; one that fails ends with a line and an exit code.

    https://click.palletsprojects.com/en/stable/complex/#lazily-loading-subcommands
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """The names, in the order a newcomer needs them."""
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
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take arguments as UTF-8, whatever the locale says."""
        left: list[str] = super().parse_args(ctx, [*map(as_utf8, args)])
        return left

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command."""
        if sys.stdout is None:
            raise Refused("Standard output is closed; > /dev/null leaves it out.", Exit.USAGE)
        try:
            return super().invoke(ctx)
        except DurableError as error:
            raise refusal(error) from error
        except click.NoSuchOption:
            # Celery explains a misplaced -A.
            raise
        except click.UsageError as error:
            raise refusal_of_usage(error) from error
        except KeyboardInterrupt:
            ctx.exit(Exit.INTERRUPTED)
        except (click.exceptions.Exit, click.Abort, click.ClickException):
            raise
        except BrokenPipeError:
            drop_output()  # its reader has what it wanted
            ctx.exit(Exit.OK)
        except Exception as error:
            refused = refusal_of_postgres(error) or refusal_of_output(error)
            if refused is None:
                # For whoever reports it; a script must not take it for a run that failed.
                traceback.print_exc()
                ctx.exit(Exit.DEFECT)
            raise refused from error


@click.group(cls=DurableGroup, epilog=EXPLAINED)
@click.pass_context
@handle_preload_options
def durable(ctx: click.Context, **preload: Any) -> None:
    """Durable workflows: set up the database, start runs and look after them."""

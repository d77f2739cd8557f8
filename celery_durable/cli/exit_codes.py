"""The exit codes that scripts can use, and the errors that end a command with one."""

from __future__ import annotations

import errno
import os
import sys
from enum import IntEnum

import click

from celery_durable import errors


class ExitCode(IntEnum):
    """The exit codes of the commands. Two outcomes may share one: scripts need no more."""

    OK = 0
    RUN_ENDED_BADLY = 1
    RUNS_WOULD_BE_STUCK = 1
    USAGE = 2
    NOT_FOUND = 3
    UNAVAILABLE = 4
    DEFECT = 70
    INTERRUPTED = 130


EXIT_CODES_HELP = """\b
Exit codes:
  0    ok
  1    the run failed, was cancelled (start --wait, show --follow), ended (resume), is stuck (check)
  2    wrong usage, configuration or input
  3    no such run or workflow
  4    database or broker unavailable, the schema out of date, or the output full
  70   something unforeseen, with its traceback
  130  interrupted
"""


class CliError(click.ClickException):
    """An error that ends a command: one line on standard error, and an exit code."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(" ".join(message.split()))
        self.exit_code = code  # type: ignore[misc] # click reads the instance's before the class's


def usage_error(error: click.UsageError) -> CliError:
    """Wrong usage in one line, where click prints several."""
    command = error.ctx.command_path if error.ctx else "celery durable"
    return CliError(f"{error.format_message()} Try: {command} --help", ExitCode.USAGE)


def cli_error(error: Exception) -> CliError | None:
    """The error that a command ends with for `error`; None for one that nobody foresaw."""
    match error:
        case errors.DatabaseUnavailable():
            advice = "Check durable_database_url, and that Postgres runs there."
            return CliError(f"{str(error).rstrip('.?! ')}. {advice}", ExitCode.UNAVAILABLE)
        case errors.DurableError():
            return CliError(str(error), _exit_code(error))
        case OSError(errno=errno.ENOSPC | errno.EIO):
            discard_output()
            message = f"Standard output cannot be written: {error.strerror}."
            return CliError(message, ExitCode.UNAVAILABLE)
        case _:
            return _postgres_error(error)


def _exit_code(error: errors.DurableError) -> ExitCode:
    match error:
        case errors.RunFailed() | errors.RunCancelled():
            return ExitCode.RUN_ENDED_BADLY
        case errors.RunError() | errors.UnknownWorkflow():
            return ExitCode.NOT_FOUND
        case errors.BrokerUnavailable() | errors.SchemaOutOfDate():
            return ExitCode.UNAVAILABLE
        case _:
            return ExitCode.USAGE


def _postgres_error(error: Exception) -> CliError | None:
    """A database error that the store does not translate; None for any other error."""
    # Slow to import, and not needed until something went wrong.
    import psycopg  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg.Error):
        return None
    message = cause.diag.message_primary or str(cause)
    return CliError(f"Postgres refused: {message}", ExitCode.UNAVAILABLE)


def discard_output() -> None:
    """Discard what is still buffered: the flush at the end of the process would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""The exit codes that scripts can use, and the errors that end a command with one."""

from __future__ import annotations

import errno
import sys
from enum import IntEnum
from typing import Any

import click

from celery_durable import errors
from celery_durable.core.status import Status
from celery_durable.process.output import discard


class ExitCode(IntEnum):
    """The exit codes of the commands. Two outcomes may share one: scripts need no more."""

    OK = 0
    RUN_ENDED_BADLY = 1
    RUNS_WOULD_BE_STUCK = 1
    SOMETHING_IS_WRONG = 1
    RUN_EXISTS = 1
    USAGE = 2
    NOT_FOUND = 3
    UNAVAILABLE = 4
    DEFECT = 70
    INTERRUPTED = 130


EXIT_CODES_HELP = """\b
Exit codes:
  0    ok
  1    the run failed, was cancelled, would be stuck, has the key, or refuses; something is wrong
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


def of_ended(status: Status) -> ExitCode:
    """The exit code of a command that has waited until a run ended."""
    return ExitCode.OK if status is Status.COMPLETED else ExitCode.RUN_ENDED_BADLY


def usage_error(error: click.UsageError) -> CliError:
    """Wrong usage in one line, where click prints several."""
    command = error.ctx.command_path if error.ctx else "celery durable"
    return CliError(f"{error.format_message()} Try: {command} --help", ExitCode.USAGE)


def cli_error(error: Exception) -> CliError | None:
    """The error that a command ends with for `error`; None for one that nobody foresaw."""
    match error:
        case errors.DatabaseUnavailable():
            return CliError(_with_advice(error), ExitCode.UNAVAILABLE)
        case errors.DurableError():
            return CliError(str(error), _exit_code(error))
        case OSError(errno=errno.ENOSPC | errno.EIO):
            discard_output()
            message = f"Standard output cannot be written: {error.strerror}."
            return CliError(message, ExitCode.UNAVAILABLE)
        case _:
            return _postgres_error(error)


def _with_advice(error: errors.DatabaseUnavailable) -> str:
    """The lines of the error as sentences, and what to do about it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(line if line[-1] in ".:;?!" else f"{line}." for line in lines)
    if error.is_there:
        return text
    return f"{text} Check durable_database_url, and that Postgres runs there."


INSUFFICIENT_PRIVILEGE = "42501"


def with_grants(app: Any, error: Exception) -> Exception:
    """The error; where Postgres has refused for want of rights, the one that names the GRANTs."""
    if getattr(error.__cause__, "sqlstate", None) != INSUFFICIENT_PRIVILEGE:
        return error
    from celery_durable.database import schema  # noqa: PLC0415 - as above

    durable = app.durable
    try:
        schema.check(durable.database.engine, durable.settings.schema)
    except errors.DurableError as found:
        return found if type(found) is errors.ConfigurationError else error
    return error


def _exit_code(error: errors.DurableError) -> ExitCode:
    match error:
        case errors.RunFailed() | errors.RunCancelled() | errors.RunRefused():
            return ExitCode.RUN_ENDED_BADLY
        case errors.RunExists():
            return ExitCode.RUN_EXISTS
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
    """Discard what is still buffered for standard output."""
    discard(sys.stdout.fileno())

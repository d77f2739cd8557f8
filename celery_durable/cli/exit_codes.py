"""Exit codes that scripts can use, and the errors they stand for."""

from __future__ import annotations

import errno
import os
import sys
from enum import IntEnum

import click

from celery_durable import errors


class Exit(IntEnum):
    """What the process says when it ends."""

    OK = 0
    RUN_ENDED_BADLY = 1
    RUNS_WOULD_BE_STUCK = 1
    USAGE = 2
    NOT_FOUND = 3
    UNAVAILABLE = 4
    DEFECT = 70
    INTERRUPTED = 130


EXPLAINED = """\b
Exit codes:
  0    ok
  1    the run failed, was cancelled (start --wait, show --follow), ended (resume), is stuck (check)
  2    wrong usage, configuration or input
  3    no such run or workflow
  4    database or broker unavailable, the schema out of date, or the output full
  70   something unforeseen, with its traceback
  130  interrupted
"""


class Refused(click.ClickException):
    """An error of one line."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(" ".join(message.split()))
        self.exit_code = code  # type: ignore[misc] # click takes any instance's


def refusal(error: errors.DurableError) -> Refused:
    """The line and the exit code for an error of this library."""
    match error:
        case errors.RunFailed() | errors.RunCancelled():
            return Refused(str(error), Exit.RUN_ENDED_BADLY)
        case errors.RunError() | errors.UnknownWorkflow():
            return Refused(str(error), Exit.NOT_FOUND)
        case errors.DatabaseUnavailable():
            advice = "Check durable_database_url, and that Postgres runs there."
            return Refused(f"{str(error).rstrip('.?! ')}. {advice}", Exit.UNAVAILABLE)
        case errors.BrokerUnavailable() | errors.SchemaOutOfDate():
            return Refused(str(error), Exit.UNAVAILABLE)
        case _:
            return Refused(str(error), Exit.USAGE)


def refusal_of_usage(error: click.UsageError) -> Refused:
    """Click's own lines as one."""
    command = error.ctx.command_path if error.ctx else "celery durable"
    return Refused(f"{error.format_message()} Try: {command} --help", Exit.USAGE)


def refusal_of_postgres(error: Exception) -> Refused | None:
    """The same for a database error that the store has no name for; None for any other error."""
    # Slow to import, and not needed until something went wrong.
    import psycopg  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg.Error):
        return None
    said = cause.diag.message_primary or str(cause)
    return Refused(f"Postgres refused: {said}", Exit.UNAVAILABLE)


def refusal_of_output(error: Exception) -> Refused | None:
    """The same for a standard output that takes no more; None for any other error."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EIO):
        return None
    drop_output()
    return Refused(f"Standard output cannot be written: {error.strerror}.", Exit.UNAVAILABLE)


def drop_output() -> None:
    """Send to nobody what is left to be flushed at the end of the process: it would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""Processes that user code forks: none goes on into the engine."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


@contextmanager
def ended_with_their_function(what: str) -> Iterator[None]:
    """Call a function of the user's within: a process that it forked ends where the function does.

    The process would go on with its parent's claim otherwise, and then as one more worker. What
    ends by `sys.exit` or `os._exit`, or was started with `multiprocessing`, ends as it would.
    """
    pid = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != pid:
            _end_process(what, sys.exc_info()[1])


def _end_process(what: str, error: BaseException | None) -> None:
    try:
        if not isinstance(error, SystemExit):
            logger.warning(
                "A process that %s forked has come to the end of the function, and is ended there:"
                " end it with os._exit(), or run what it does with multiprocessing or subprocess",
                what,
                exc_info=error,
            )
        elif isinstance(error.code, str):
            sys.stderr.write(f"{error.code}\n")
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(_exit_code(error))


def _exit_code(error: BaseException | None) -> int:
    """What Python would exit with."""
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        return 1
    if error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1

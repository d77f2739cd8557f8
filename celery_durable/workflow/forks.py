"""Ends the processes that user code forks, before they go on into the engine."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

_generation = 0
"""How many forks this process is away from the one that has imported this module."""


def _on_forked() -> None:
    global _generation  # noqa: PLW0603 - Python calls it in every child, and nothing else does
    _generation += 1


# Asking for the process id twice would be a sixth of what a unit costs beside its function.
if hasattr(os, "register_at_fork"):  # on Windows nothing forks
    os.register_at_fork(after_in_child=_on_forked)


def ending_others(call: Callable[[], T], name: str) -> T:
    """Return what `call` does; end each process that it forks where it ends. `name` is for the log.

    It calls a function of the user's. The process would go on with its parent's claim, and then as
    one more worker. One that calls `sys.exit` or `os._exit`, or that `multiprocessing` has started,
    ends as it would without this.
    """
    generation = _generation
    try:
        return call()
    finally:
        if _generation != generation:
            _end_process(name, sys.exc_info()[1])


def _end_process(name: str, error: BaseException | None) -> None:
    try:
        if not isinstance(error, SystemExit):
            logger.warning(
                "A process that %s forked has come to the end of the function, and is ended there:"
                " end it with os._exit(), or use multiprocessing or subprocess instead",
                name,
                exc_info=error,
            )
        elif isinstance(error.code, str):
            sys.stderr.write(f"{error.code}\n")
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(_exit_code(error))


def _exit_code(error: BaseException | None) -> int:
    """Return the exit code that Python itself would exit with."""
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        return 1
    if error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1

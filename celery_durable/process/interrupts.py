"""Lets a pool's time limit strike in a user's handler, and never in our own code.

A pool with soft time limits raises in a signal handler, which may run between any two instructions
of the thread. In the middle of a statement that would leave an unusable connection, and outside the
user's handler it would end the code that works for it. So a limit waits for the end of a statement
of ours, and has no effect once the user's handler has ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

EARLY = 0.5
"""A limit that strikes at most so many seconds before a unit's time is up is the unit's own: Celery
counts from when the process got the message. One that strikes earlier was for another unit.
"""


class _Here(threading.local):
    """The unit that this thread executes. `until` is None, and limits have no effect, without one.

    `is_open` is True while a limit may raise at once; `waiting` is one that has to wait.
    """

    until: float | None = None
    is_open = False
    waiting: BaseException | None = None


_here = _Here()


def begin(limit: float | None) -> None:
    """Begin a unit that may take `limit` seconds; None for any time."""
    _here.until = None if limit is None else time.monotonic() + limit - EARLY
    _here.is_open = False
    _here.waiting = None


def strike(error: BaseException) -> None:
    """Raise `error` now, later, or not at all; called in the handler of the pool's signal."""
    if _here.until is None or time.monotonic() < _here.until:
        return
    if _here.is_open:
        raise error
    _here.waiting = error


def in_handler(call: Callable[[], T]) -> T:
    """Call a function of the user's, in which a limit strikes at once."""
    try:
        _here.is_open = True
        _raise_what_waits()
        return call()
    finally:
        _here.is_open = False


@contextmanager
def held_off() -> Iterator[None]:
    """Keep the block from being interrupted: a limit strikes at its end, if in a handler."""
    was_open, _here.is_open = _here.is_open, False
    try:
        yield
    finally:
        _here.is_open = was_open
        if was_open:
            _raise_what_waits()


def _raise_what_waits() -> None:
    error, _here.waiting = _here.waiting, None
    if error is not None:
        raise error

"""Where a pool's time limit strikes: in a handler, and in nothing of ours.

A pool that has soft time limits raises in the handler of a signal, which may run between any two
instructions of the thread. In the middle of a statement that would leave a connection which nobody
can use, and around the handler it would end what is at work for the handler. So a limit waits for
the end of a statement of ours, and counts for nothing once the handler has ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

EARLY = 0.5
"""Seconds before the end of a unit's time in which a limit that strikes is the unit's own: Celery
counts from when the process was handed the message. One that strikes earlier was for another.
"""


class _Here(threading.local):
    """What a limit may do to the unit that this thread executes; nothing while it executes none."""

    until: float | None = None
    is_open = False
    waiting: BaseException | None = None


_here = _Here()


def begin(limit: float | None) -> None:
    """A unit begins here that may take `limit` seconds; None is any time."""
    _here.until = None if limit is None else time.monotonic() + limit - EARLY
    _here.is_open = False
    _here.waiting = None


def strike(error: BaseException) -> None:
    """Called in the handler of the pool's signal: raise `error` now, later, or not at all."""
    if _here.until is None or time.monotonic() < _here.until:
        return
    if _here.is_open:
        raise error
    _here.waiting = error


def in_handler(call: Callable[[], T]) -> T:
    """Call something of the user's, in which a limit strikes at once."""
    try:
        _here.is_open = True
        _raise_what_waits()
        return call()
    finally:
        _here.is_open = False


@contextmanager
def held_off() -> Iterator[None]:
    """Around what must not be left in the middle: in a handler, a limit strikes at its end."""
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

"""Ctrl-C and its like."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def listen() -> None:
    """From now on they end the program by way of every `with`."""
    for number in ENDING:
        signal.signal(number, _leave)


def _leave(number: int, _frame: FrameType | None) -> None:
    ignore()
    raise SystemExit(128 + number)


def ignore() -> None:
    """What is being cleaned up is cleaned up."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def blocked() -> Iterator[None]:
    """What is made here is made and remembered, or not made at all."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

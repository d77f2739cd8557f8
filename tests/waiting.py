"""Waiting for what another process will do: the one place in the tests that sleeps."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
PAUSE_SHARE = 0.05
"""Seconds between two questions: a share of what has been waited, so long waits cost little."""

PATIENCE_SHARE = "DURABLE_TEST_PATIENCE"
"""The environment variable with the share of every deadline that is waited for, 1 by default.

Mutants are tried, and their tests first checked, with less: most of them end at a deadline.
"""

_SHARE = float(os.environ.get(PATIENCE_SHARE, "1"))

PATIENCE = 20.0 * _SHARE
"""Seconds after which something that does not happen is taken for broken."""


def wait_until(
    condition: Callable[[], T],
    *,
    timeout: float = 20.0,
    message: str | Callable[[], str] = "",
) -> T:
    """Ask ``condition`` until it answers something true, and return that answer.

    ``timeout`` is the deadline in seconds, a bound for a broken run and never a measurement: choose
    it far above what a slow machine needs. Past it an ``AssertionError`` says ``message``; a
    callable is asked only then, so that it can describe the state that was found.
    """
    timeout *= _SHARE
    began = time.monotonic()
    while True:
        answer = condition()
        if answer:
            return answer
        waited = time.monotonic() - began
        if waited >= timeout:
            told = message() if callable(message) else message
            raise AssertionError(
                f"waited {timeout:g} s (last answer: {answer!r}) for {told or repr(condition)}"
            )
        time.sleep(min(max(PAUSE_SHARE * waited, SHORTEST_PAUSE), LONGEST_PAUSE))

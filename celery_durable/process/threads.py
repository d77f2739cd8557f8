"""Runs blocking calls for `async` callers, in threads of the library's own.

The loop's default executor is the application's. Waiting for a run holds no thread: the wait is
`async`, and only its queries are calls.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

T = TypeVar("T")

MOST = 8
"""Most threads, and so most connections; further calls wait for their turn."""


class Threads:
    """The threads of one process, made when first needed, and anew in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._pid = os.getpid()

    async def call(self, function: Callable[[], T]) -> T:
        """Return what `function` returns. It runs on if the caller is cancelled."""
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads(), partial(context.run, function))

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None or self._pid != os.getpid():
                self._executor = ThreadPoolExecutor(MOST, "durable-async")
                self._pid = os.getpid()
            return self._executor

"""The guard: a thread that looks after the bundles of its process while units are executed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from celery_durable.engine.bundle import Bundle

LOOK_EVERY = 0.005
"""Seconds between looks at the bundles."""

RESTS_AFTER = 1.0
"""Seconds without a bundle after which the thread waits to be woken, and no longer looks."""


class Guard:
    """Calls `Bundle.look_after` of each bundle in hand. One thread, made when it is needed."""

    def __init__(self) -> None:
        self._bundles: set[Bundle] = set()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._pid: int | None = None

    @contextmanager
    def watching(self, bundle: Bundle) -> Iterator[None]:
        """Look after the bundle for the time of the block."""
        self._begin()
        self._bundles.add(bundle)
        if not self._wake.is_set():
            self._wake.set()
        try:
            yield
        finally:
            self._bundles.discard(bundle)

    def _begin(self) -> None:
        """Start the thread, unless this process has it; a forked child needs its own."""
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid != os.getpid():
                self._bundles, self._wake = set(), threading.Event()
                threading.Thread(target=self._run, name="durable-guard", daemon=True).start()
                self._pid = os.getpid()

    def _run(self) -> None:
        idle_since = time.monotonic()
        while True:
            time.sleep(LOOK_EVERY)
            bundles = tuple(self._bundles)
            for bundle in bundles:
                bundle.look_after()
            now = time.monotonic()
            if bundles:
                idle_since = now
            elif now - idle_since > RESTS_AFTER:
                self._wake.clear()
                if not self._bundles:
                    self._wake.wait()
                idle_since = time.monotonic()

"""Wakes the threads and event loops of this process that wait for the end of a run.

All share one connection, on which a thread listens. It is opened when the first of them waits, and
closed when none has for a while. A notification may be lost, and behind a transaction pooler there
are none, so whoever waits also looks by itself: seldom where an end would be told, else more often.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa
from psycopg.sql import SQL, Identifier

from celery_durable.database.connections import Database
from celery_durable.database.notify import EAR, ENDED_CHANNEL, LOOKS_EVERY, channel
from celery_durable.errors import DatabaseUnavailable
from celery_durable.process import interrupts
from celery_durable.process.outage import Outage
from celery_durable.process.sockets import readable
from celery_durable.store.connection import PsycopgConnection, Statement
from celery_durable.store.workers import is_direct

logger = logging.getLogger(__name__)

KNOWN_AFTER = 2 * LOOKS_EVERY
"""Seconds after which whoever ends a run has seen that this process listens."""

KEPT = 30.0
"""Seconds for which the connection is kept though nobody waits."""

LOOKS_UP = 1.0
"""Most seconds until the thread sees that nobody waits any more."""

_SAYS_SO = Statement(sa.select(sa.func.pg_advisory_lock_shared(*EAR).label("is_taken")))

Wake = Callable[[], object]


class Ends:
    """The ends of runs, as far as this process waits for them. A forked child begins anew."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # A parent's stays referenced: a connection that is collected warns that nobody closed it.
        self._listening: dict[int, Listening] = {}

    @contextmanager
    def waiter(self, run_id: UUID) -> Iterator[Waiter]:
        """Yield a waiter for the end of the run; it listens once it has to wait."""
        waiter = Waiter(self._of_process())
        with waiter.listening.registered(run_id, waiter.woken.set):
            yield waiter

    @contextmanager
    def async_waiter(self, run_id: UUID) -> Iterator[AsyncWaiter]:
        """`waiter` for a coroutine of the running event loop."""
        waiter = AsyncWaiter(self._of_process())
        with waiter.listening.registered(run_id, waiter.wake):
            yield waiter

    def close(self) -> None:
        """Close the connection of this process; whoever waits still looks by itself."""
        listening = self._listening.pop(os.getpid(), None)
        if listening is not None:
            listening.close()

    def _of_process(self) -> Listening:
        pid = os.getpid()
        return self._listening.get(pid) or self._listening.setdefault(
            pid, Listening(self._database)
        )


class Waiter:
    """Lets a thread wait for the end of a run."""

    def __init__(self, listening: Listening) -> None:
        self.listening = listening
        self.woken = threading.Event()

    def begin_look(self) -> bool:
        """Forget what was told before; return True if an end from now on will be told."""
        self.woken.clear()
        return self.listening.is_known

    def wait(self, seconds: float) -> None:
        """Wait until the run's end is told, or for so many seconds."""
        self.listening.begin()
        self.woken.wait(seconds)


class AsyncWaiter:
    """Lets a coroutine wait for the end of a run."""

    def __init__(self, listening: Listening) -> None:
        self.listening = listening
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Wake the coroutine, from any thread."""
        with suppress(RuntimeError):  # its loop is closed
            self._loop.call_soon_threadsafe(self._woken.set)

    def begin_look(self) -> bool:
        """Forget what was told before; return True if an end from now on will be told."""
        self._woken.clear()
        return self.listening.is_known

    async def wait(self, seconds: float) -> None:
        """Wait until the run's end is told, or for so many seconds."""
        self.listening.begin()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()


class Listening:
    """The connection of one process, the thread that listens on it, and whom it wakes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Wake]] = {}
        self._idle_since = 0.0
        self._thread: threading.Thread | None = None
        self._raw: psycopg.Connection[Any] | None = None
        self._known_at = inf
        self._is_shared = False
        self._is_closed = False

    @property
    def is_known(self) -> bool:
        """True if whoever ends a run knows that this process listens."""
        return time.monotonic() >= self._known_at

    @contextmanager
    def registered(self, run_id: UUID, wake: Wake) -> Iterator[None]:
        """Have `wake` called when the run's end is told."""
        key = run_id.hex
        try:
            with interrupts.held_off(), self._lock:
                self._waiting.setdefault(key, []).append(wake)
            yield
        finally:
            with interrupts.held_off(), self._lock:
                wakes = self._waiting.pop(key, [])
                if left := [one for one in wakes if one is not wake]:
                    self._waiting[key] = left
                self._idle_since = time.monotonic()

    def begin(self) -> None:
        """Listen, unless this process does already, or a pooler shares its sessions."""
        if self._thread is not None or self._is_shared or self._is_closed:
            return
        with interrupts.held_off(), self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="durable-ends", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        """Listen again for as long as somebody waits, whatever happens to the connection."""
        outage = Outage(logger, "Listening for ends of runs", shared=self._database.outage)
        kept = KEPT
        while not self._is_over(kept):
            kept = KEPT
            try:
                self._listen(outage)
            except Exception as error:  # noqa: BLE001 - a background loop
                kept = 0.0
                if self._waiting:
                    is_expected = isinstance(error, DatabaseUnavailable | psycopg.Error)
                    time.sleep(outage.goes_on(error, is_expected=is_expected))
            finally:
                self._close()

    def _listen(self, outage: Outage) -> None:
        """Listen until nobody has waited for a while."""
        raw = self._raw = self._database.dedicated()
        connection = PsycopgConnection(raw, self._database.schema)
        if not is_direct(connection):
            self._is_shared = True
            return
        name = channel(self._database.schema, ENDED_CHANNEL)
        raw.execute(SQL("LISTEN {}").format(Identifier(name)))
        connection.rows(_SAYS_SO, {"channel": name})
        outage.is_over()
        self._known_at = time.monotonic() + KNOWN_AFTER
        while not (self._is_closed or self._is_idle(KEPT)):
            for told in raw.notifies(timeout=0.0):
                self._wake(told.payload)
            # `notifies` with a timeout would wake up ten times a second.
            readable([raw.fileno()], LOOKS_UP)

    def _wake(self, payload: str) -> None:
        """Wake those who wait for the runs that are named; all, if none is."""
        with self._lock:
            keys = payload.split(",") if payload else [*self._waiting]
            wakes = [wake for key in keys for wake in self._waiting.get(key, ())]
        for wake in wakes:
            wake()

    def close(self) -> None:
        """End the thread, within a second or so, and the connection at once."""
        self._is_closed = True
        self._close()

    def _is_idle(self, seconds: float) -> bool:
        return not self._waiting and time.monotonic() - self._idle_since >= seconds

    def _is_over(self, kept: float) -> bool:
        """Return True if the thread ends; whoever waits after that starts another."""
        with self._lock:
            is_over = self._is_shared or self._is_closed or self._is_idle(kept)
            if is_over:
                self._thread = None
            return is_over

    def _close(self) -> None:
        self._known_at = inf
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.close()

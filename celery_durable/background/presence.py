"""Says every few seconds that a relay is there, and what keeps it from publishing.

That is for `durable why` and its like: nothing else depends on it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

from celery_durable.database.connections import Database
from celery_durable.errors import DatabaseUnavailable
from celery_durable.store import relays
from celery_durable.store.relays import RelayFacts

SAYS_EVERY = 5.0
"""Seconds after which a relay says again that it is there."""

LOOKS_EVERY = 0.5
"""Seconds between looks whether there is something new to say; a look costs no statement."""


class Presence:
    """Keeps the row of one relay; `outage` returns what keeps it from publishing."""

    def __init__(
        self, database: Database, outage: Callable[[], str | None], hostname: str | None = None
    ) -> None:
        self._database = database
        self._outage = outage
        self._facts = RelayFacts(uuid4(), hostname or socket.gethostname(), os.getpid())
        self._said: str | None = None
        self._say_at = 0.0

    def say(self) -> tuple[int, float]:
        """Say it if it is time, or if something has changed; a duty of a `Chore`."""
        outage, now = self._outage(), time.monotonic()
        if now >= self._say_at or outage != self._said:
            with self._database.autocommit() as connection:
                relays.seen(connection, self._facts, outage)
            self._said, self._say_at = outage, now + SAYS_EVERY
        return 0, LOOKS_EVERY

    def end(self) -> None:
        """Say that the relay is gone; while Postgres is away, its silence says it."""
        with suppress(DatabaseUnavailable), self._database.autocommit() as connection:
            relays.gone(connection, self._facts)

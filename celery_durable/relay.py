"""The relay: moves due outbox rows into the broker.

One transaction locks due rows, publishes them, deletes them and commits. A crash in between
publishes twice, which hints do not mind. Any number of relays may run; a row locked by one is
skipped by others. A relay that hangs while it publishes loses its transaction, and with it its
rows, after `outbox.HANG_TIMEOUT`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg

from celery_durable.errors import BrokerUnavailable, DatabaseUnavailable
from celery_durable.outage import Outage
from celery_durable.recovery import GRACE, Reaper, recover
from celery_durable.settings import Settings
from celery_durable.store import outbox
from celery_durable.store.connection import Connection, PsycopgConnection
from celery_durable.store.database import Database
from celery_durable.store.notify import LINGER, Listener
from celery_durable.store.outbox import Message

logger = logging.getLogger(__name__)

REAP_EVERY = 0.5
RECOVER_EVERY = 5.0
"""Seconds between a relay's looks for dead workers, and for lost hints."""

BUSY_PAUSE = 0.05
"""Seconds between looks at due rows that another relay has in hand."""

POSTPONE_FIRST, POSTPONE_MAXIMUM = 1.0, 300.0
"""Seconds until a row that was refused is tried again; doubling from the first to the maximum."""


@dataclass(frozen=True, slots=True)
class Published:
    """Which rows the broker took, and why it would not take others."""

    sent: Sequence[int]
    refused: Mapping[int, str] = field(default_factory=dict)


class Publisher(Protocol):
    """The way into the broker."""

    def publish(self, messages: Sequence[Message]) -> Published:
        """Publish what can be published; `BrokerUnavailable` when the broker does not answer."""
        ...

    def close(self) -> None:
        """Give the connection back."""
        ...


class Relay:
    """One relay, with two connections of its own: one works, one listens."""

    def __init__(self, database: Database, publisher: Publisher, settings: Settings) -> None:
        self._database = database
        self._publisher = publisher
        self._settings = settings
        self._listener = Listener(database)
        self._raw: psycopg.Connection[Any] | None = None
        self._stop = threading.Event()
        self._outage = Outage(logger, "The relay")
        self._reaper = Reaper()
        self._reap_at = self._recover_at = 0.0
        self.published = 0

    def run(self) -> None:
        """Work until `stop`; what is due by then is still published."""
        notified = True
        while not self._stop.is_set():
            pause = self._work(notified=notified)
            notified = self._wait(pause)
        while self._work(notified=False) == 0.0:
            pass
        self.close()

    def stop(self) -> None:
        """Ask `run` to end; it does within a poll interval."""
        self._stop.set()

    def close(self) -> None:
        """Give back every connection."""
        self._listener.close()
        self._publisher.close()
        self._disconnect()

    def _wait(self, seconds: float) -> bool:
        """Wait to be notified; in an outage just wait, or every start would be one more try."""
        if self._outage.is_on:
            self._stop.wait(seconds)
            return False
        return seconds > 0 and self._listener.wait(seconds)

    def _work(self, *, notified: bool) -> float:
        """Do the chores and publish one batch; returns the seconds to wait for more."""
        try:
            self._do_chores()
            taken = self._publish_batch(self._connection())
            self._outage.is_over()
            if taken == self._settings.relay_batch:
                return 0.0
            return LINGER if taken or notified else self._pause()
        except BrokerUnavailable as error:
            self._publisher.close()
            return self._outage.goes_on(error)
        except DatabaseUnavailable as error:
            self._disconnect()
            return self._outage.goes_on(error)
        except Exception as error:  # noqa: BLE001 - a background loop
            self._disconnect()
            self._publisher.close()
            return self._outage.goes_on(error, is_expected=False)

    def _do_chores(self) -> None:
        now = time.monotonic()
        if now >= self._reap_at:
            self._reaper.reap(self._connection())
            self._reap_at = now + (GRACE if self._reaper.has_suspects else REAP_EVERY)
        if now >= self._recover_at:
            self._recover_at = now + RECOVER_EVERY
            recover(self._database, self._reaper)

    def _publish_batch(self, connection: PsycopgConnection) -> int:
        """One transaction: lock, publish, delete. Returns how many rows were looked at."""
        outage: BrokerUnavailable | None = None
        try:
            with connection.raw.transaction():
                messages = outbox.take_due(connection, self._settings.relay_batch)
                try:
                    published = self._publisher.publish(messages) if messages else Published(())
                except BrokerUnavailable as error:
                    published, outage = Published(error.sent), error
                self._finish(connection, messages, published)
        except psycopg.OperationalError as error:
            raise DatabaseUnavailable(f"The relay lost its connection: {error}") from error
        if outage is not None:
            raise outage
        return len(messages)

    def _finish(
        self, connection: Connection, messages: Sequence[Message], published: Published
    ) -> None:
        if published.sent:
            outbox.delete(connection, published.sent)
            self.published += len(published.sent)
        for message in messages:
            why = published.refused.get(message.id)
            if why is not None:
                delay = min(POSTPONE_FIRST * 2.0 ** min(message.tries, 30), POSTPONE_MAXIMUM)
                logger.error(
                    "%s could not be published (try %d), next in %g s: %s",
                    message.task,
                    message.tries + 1,
                    delay,
                    why,
                )
                outbox.postpone(connection, message.id, why, delay)

    def _pause(self) -> float:
        """Until the next row is due or the next chore, but never longer than the poll interval."""
        until_chore = self._reap_at - time.monotonic()
        pause = min(self._settings.poll_interval, max(until_chore, 0.0))
        until_row = outbox.seconds_to_next(self._connection())
        if until_row is None:
            return pause
        # A row that is due and was not taken is in another relay's hands.
        return min(pause, until_row if until_row > 0 else BUSY_PAUSE)

    def _connection(self) -> PsycopgConnection:
        if self._raw is None or self._raw.closed:
            self._raw = self._database.dedicated()
        return PsycopgConnection(self._raw, self._database.schema)

    def _disconnect(self) -> None:
        if self._raw is not None:
            self._raw.close()
            self._raw = None

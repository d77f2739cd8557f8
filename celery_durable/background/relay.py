"""The relay: moves due outbox rows into the broker.

One transaction locks due rows, publishes them, deletes them and commits. A crash in between
publishes twice, which does no harm: a hint may come twice. Any number of relays may run; each skips
rows that another has locked. A relay that hangs while it publishes loses its transaction, and with
it its rows, after `due.HANG_TIMEOUT`. Its chores, reaping, recovery and pruning, run in threads of
their own, so that a broker that hangs delays no takeover and no command.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import psycopg

from celery_durable.background.backlog import Backlog
from celery_durable.background.backpressure import Backpressure
from celery_durable.background.bundling import Bundler
from celery_durable.background.counting import (
    WRITES_EVERY,
    count_takeover,
    write_counts,
    write_last_counts,
)
from celery_durable.background.presence import Presence
from celery_durable.background.recovery import LOOK_AGAIN_AFTER, Reaper, recover_with_lease
from celery_durable.background.retention import RetentionDuty
from celery_durable.core import metrics
from celery_durable.database.connections import Database
from celery_durable.database.notify import LINGER, Listener, Notifier
from celery_durable.errors import BrokerUnavailable, DatabaseUnavailable
from celery_durable.process.outage import Outage
from celery_durable.settings import Settings
from celery_durable.store import due
from celery_durable.store.connection import Connection, PsycopgConnection
from celery_durable.store.due import DueMessage

logger = logging.getLogger(__name__)

REAP_EVERY, REAP_EVERY_IF_IDLE = 0.5, 0.75
"""Seconds between looks for dead workers; and where the last look has seen no claim, so that only
who claims and dies after it has anything to take over. Less than `recovery.SEEN_AFTER_A_LOOK`.
"""

CHORES_END_WITHIN = 5.0
"""Seconds that a relay which stops waits for a chore that has begun."""

BUSY_PAUSE = 0.05
"""Seconds between looks at due rows that another relay has locked."""

POSTPONE_FIRST, POSTPONE_MAXIMUM = 1.0, 300.0
"""Seconds until a row that the broker refused is tried again; doubling from first to maximum."""


@dataclass(frozen=True, slots=True)
class Published:
    """Which rows the broker took, and why it refused others.

    `full` are the queues that take no more for now, and why. Rows for them stay as they are.
    """

    sent: Sequence[int]
    refused: Mapping[int, str] = field(default_factory=dict)
    full: Mapping[str, str] = field(default_factory=dict)


class Publisher(Protocol):
    """Publishes into the broker. `lowest_first`: 0 is the broker's highest priority."""

    @property
    def lowest_first(self) -> bool: ...

    def connect(self) -> None:
        """Connect, where it is not connected. Raises `BrokerUnavailable`."""
        ...

    def publish(self, messages: Sequence[DueMessage]) -> Published:
        """Publish what can be published. Raises `BrokerUnavailable`.

        Keeps no connection to a broker that failed.
        """
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def of_rows(published: Published, messages: Sequence[DueMessage]) -> Published:
    """Tell of rows what is told of messages that may stand for several."""
    rows = {message.id: (message.id, *message.others) for message in messages}
    sent = [row for first in published.sent for row in rows[first]]
    refused = {row: why for first, why in published.refused.items() for row in rows[first]}
    return Published(sent, refused, published.full)


class Chore:
    """Repeats `work` in a thread of its own, from the beginning to the end of a `with` block.

    `work` returns how many tokens it moved, and the seconds until it is due again.
    """

    def __init__(
        self, database: Database, name: str, what: str, work: Callable[[], tuple[int, float]]
    ) -> None:
        self._work = work
        self._notify = Notifier(database)
        self._outage = Outage(logger, what, shared=database.outage)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(CHORES_END_WITHIN)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._stop.wait(self._once())

    def _once(self) -> float:
        """Work once, wake the relays if a token moved; return the seconds until the next time."""
        try:
            moved, pause = self._work()
            if moved:
                self._notify()
            self._outage.is_over()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a background loop
            is_expected = isinstance(error, DatabaseUnavailable)
            return self._outage.goes_on(error, is_expected=is_expected)
        return pause


class Chores:
    """Reaps in one thread and recovers in another: a command that waits delays no takeover.

    A third says that the relay is there, a fourth prunes, and a fifth writes what is counted.
    """

    def __init__(self, database: Database, presence: Presence, retention: RetentionDuty) -> None:
        self._database = database
        self._presence = presence
        self._reaper = Reaper(lambda claimed: count_takeover(database, claimed))
        self._threads = (
            Chore(database, "durable-reaper", "The search for dead workers", self._reap),
            Chore(database, "durable-recovery", "The search for lost hints", self._recover),
            Chore(database, "durable-presence", "The row of this relay", presence.say),
            Chore(database, "durable-retention", "Pruning", retention.go_on),
            Chore(database, "durable-counts", "Writing counts", self._write_counts),
        )
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        for chore in self._threads:
            self._entered.enter_context(chore)
        return self

    def __exit__(self, *exc: object) -> None:
        self._entered.close()
        self._presence.end()
        write_last_counts(self._database)

    def _write_counts(self) -> tuple[int, float]:
        write_counts(self._database)
        return 0, WRITES_EVERY

    def _reap(self) -> tuple[int, float]:
        with self._database.autocommit() as connection:
            moved = self._reaper.reap(connection)
        if self._reaper.has_suspects:
            return moved, LOOK_AGAIN_AFTER
        return moved, REAP_EVERY if self._reaper.saw_claims else REAP_EVERY_IF_IDLE

    def _recover(self) -> tuple[int, float]:
        recovered = recover_with_lease(self._database)
        return recovered.moved, recovered.pause.total_seconds()


class Relay:
    """One relay, with two connections of its own: one for its work, one that listens."""

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        settings: Settings,
        slots: int = 1,
        hostname: str | None = None,
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._settings = settings
        self._listener = Listener(database)
        self._raw: psycopg.Connection[Any] | None = None
        self._stop = threading.Event()
        self._outage = Outage(logger, "The relay", shared=database.outage)
        self._backpressure = Backpressure(logger)
        self.trouble: str | None = None
        self._chores = Chores(
            database,
            Presence(database, lambda: self.trouble, hostname),
            RetentionDuty(database, settings.retention),
        )
        self._backlog = Backlog(lowest_first=publisher.lowest_first)
        self._bundler = Bundler(settings.tokens_per_message, slots)
        self.published = 0

    def run(self) -> None:
        """Publish until `stop`, and then what is due by that time."""
        notified = True
        with self._chores:
            while not self._stop.is_set():
                pause = self._work(notified=notified)
                notified = self._wait(pause)
        while self._work(notified=False) == 0.0:
            pass
        self.close()

    def stop(self) -> None:
        """Ask `run` to end; it ends within a poll interval."""
        self._stop.set()

    def close(self) -> None:
        """Close all connections."""
        self._listener.close()
        self._publisher.close()
        self._disconnect()

    def _wait(self, seconds: float) -> bool:
        """Wait for a notification; return True if one came.

        In an outage it only waits: each notification of a new run would be one more try.
        """
        if self._outage.is_on:
            self._stop.wait(seconds)
            return False
        return seconds > 0 and self._listener.wait(seconds)

    def _work(self, *, notified: bool) -> float:
        """Publish one batch; return the seconds to wait for more."""
        try:
            taken = self._publish_batch(self._connection())
            self._outage.is_over()
            self.trouble = None
            if taken == self._settings.relay_batch:
                return 0.0
            return LINGER if taken or notified else self._seconds_to_wait()
        except BrokerUnavailable as error:
            self._backlog.start_over()
            self.trouble = error.why
            return self._outage.goes_on(error)
        except DatabaseUnavailable as error:
            self._backlog.start_over()
            self._disconnect()
            return self._outage.goes_on(error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a background loop
            self._backlog.start_over()
            self._disconnect()
            self._publisher.close()
            self.trouble = f"{type(error).__name__}: {error}"
            return self._outage.goes_on(error, is_expected=False)

    def _publish_batch(self, connection: PsycopgConnection) -> int:
        """Lock, publish and delete rows in one transaction; return how many rows were locked."""
        outage: BrokerUnavailable | None = None
        batch, paused = self._settings.relay_batch, self._backpressure.paused()
        try:
            if not self._backlog.look(connection, batch, paused):
                return 0
            # Before rows are taken: a relay with a working broker must find them unlocked.
            self._publisher.connect()
            with connection.raw.transaction():
                messages = self._backlog.take(connection, batch, paused)
                began = time.monotonic()
                bundles = self._bundler.bundled(connection, messages, self._backlog.left_in)
                try:
                    published = self._publisher.publish(bundles) if bundles else Published(())
                except BrokerUnavailable as error:
                    published, outage = Published(error.sent), error
                self._count(bundles, published)
                published = of_rows(published, bundles)
                self._finish(connection, messages, published, time.monotonic() - began)
        except psycopg.OperationalError as error:
            raise DatabaseUnavailable(f"The relay lost its connection: {error}") from error
        if outage is not None:
            raise outage
        return len(messages)

    def _count(self, messages: Sequence[DueMessage], published: Published) -> None:
        tally, sent = self._database.tally, frozenset(published.sent)
        for message in messages:
            if message.id in sent:
                tally.add(metrics.MESSAGES_PUBLISHED.name, message.queue or "")
            elif message.id in published.refused:
                tally.add(metrics.MESSAGES_REFUSED.name, message.queue or "")

    def _finish(
        self,
        connection: Connection,
        messages: Sequence[DueMessage],
        published: Published,
        lasted: float,
    ) -> None:
        sent = frozenset(published.sent)
        took = {message.queue for message in messages if message.id in sent}
        self._backpressure.note(published.full, took, lasted)
        kept = {message.id for message in messages} - sent - published.refused.keys()
        self._backlog.keep(kept)
        if published.sent:
            due.delete(connection, published.sent)
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
                due.postpone(connection, message.id, why, delay)

    def _seconds_to_wait(self) -> float:
        """Return the seconds to wait for more, at most the poll interval.

        Until the next row is due, the next sweep, or the end of a queue's pause; only briefly while
        another relay has locked what is due.
        """
        backpressure = self._backpressure
        pause = min(self._settings.poll_interval, backpressure.seconds_to_next())
        pause = max(min(pause, self._backlog.seconds_to_sweep), 0.0)
        sight = self._backlog.sight
        if sight.has_come or not sight.queues <= {*backpressure.paused()}:
            # What is due was not taken: another relay has locked it.
            return min(pause, BUSY_PAUSE)
        return pause if sight.seconds_to_next is None else min(pause, sight.seconds_to_next)

    def _connection(self) -> PsycopgConnection:
        if self._raw is None or self._raw.closed:
            self._raw = self._database.dedicated()
        return PsycopgConnection(self._raw, self._database.schema)

    def _disconnect(self) -> None:
        if self._raw is not None:
            self._raw.close()
            self._raw = None

"""Brings hints from the outbox into the engine, and lets time pass: a relay, a broker, a worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from celery_durable.background.deadlines import enforce
from celery_durable.background.recovery import BATCH, Reaper
from celery_durable.durable import Durable
from celery_durable.testing import clock, messages
from celery_durable.testing.engine import (
    Death,
    Handle,
    Watch,
    WatchedEngine,
    ends_the_test,
    engine_of,
)
from celery_durable.testing.lease import ThreadlessLease, refuse_company

ASKS_FOR = 5.0
"""Seconds for which a test asks a Postgres again that does not answer."""


class Courier:
    """Follows the hints of one database. What it yields stands for a message that was followed.

    With `by_one` a message executes one unit. Raises `ConfigurationError` where a worker is alive.
    """

    def __init__(self, durable: Durable, watch: Callable[[], Watch], handle: Handle) -> None:
        self.database = durable.database
        with self.database.autocommit() as connection:
            refuse_company(connection)
        self._lease = ThreadlessLease(self.database)
        self._taken: deque[UUID] = deque()
        self._left: dict[UUID, bool] = {}
        settings = replace(durable.settings, worker_ttl=ASKS_FOR)
        self._engine = engine_of(durable, settings, self._lease, watch, handle)
        by_one = replace(settings, inline_steps=1)
        self._engine_by_one = engine_of(durable, by_one, self._lease, watch, handle)

    def follow(self, *, by_one: bool, skip_backoffs: bool) -> Iterator[None]:
        """Follow hints until none is due; with `skip_backoffs`, until no unit is to be tried again.

        The time of a backoff passes for everything, and once for each attempt: a unit that this
        process does not know is put back, and left.
        """
        engine = self._engine_by_one if by_one else self._engine
        seen: set[clock.Try] = set()
        while True:
            yield from self._due(engine)
            found = self._next_try(seen) if skip_backoffs else None
            if found is None:
                return
            attempt, seconds = found
            seen.add(attempt)
            yield from self._passing(seconds, engine)

    def _next_try(self, seen: set[clock.Try]) -> tuple[clock.Try, float] | None:
        with self.database.autocommit() as connection:
            return clock.next_try(connection, seen)

    def pass_time(self, seconds: float) -> Iterator[None]:
        """Let time pass, from one thing that is due to the next, and follow what comes due."""
        yield from self._passing(seconds, self._engine)

    def follow_late(self) -> int:
        """Follow what has come due since hints were followed; return how many messages that took.

        Time passes in a test by itself, too.
        """
        return sum(1 for _ in self.pass_time(0.0))

    def seconds_to_next(self) -> float | None:
        """Return the seconds until something will be due; None if nothing will, or it is due."""
        return self._seconds(clock.seconds_to_next)

    def replace_the_dead(self) -> None:
        """Die as a worker does, and take its claims away as a relay does."""
        self._lease.die()
        with self.database.autocommit() as connection:
            Reaper().reap(connection)

    def close(self) -> None:
        """Leave the database."""
        self._lease.leave()

    def _due(self, engine: WatchedEngine) -> Iterator[None]:
        """Follow the hints that are due; an error leaves those that are taken for the next time."""
        while True:
            if not self._taken:
                with self.database.autocommit() as connection:
                    self._taken.extend(messages.take_hints(connection))
            if not self._taken:
                return
            token_id = self._taken.popleft()
            if token_id in self._left:
                self._left[token_id] = True
            else:
                self._advance(engine, token_id)
                yield

    def _advance(self, engine: WatchedEngine, token_id: UUID) -> None:
        """Follow a hint. A token whose handler ends the test is left: it would end others."""
        try:
            engine.advance(token_id)
        except BaseException as error:
            if ends_the_test(error) and not isinstance(error, Death):
                self._left[token_id] = False
            raise

    def take_up_left(self) -> None:
        """Have the tokens followed again whose handlers have ended a test."""
        left, self._left = self._left, {}
        self._taken.extendleft(token_id for token_id, is_taken in left.items() if is_taken)

    def _passing(self, seconds: float, engine: WatchedEngine) -> Iterator[None]:
        while (due_in := self.seconds_to_next()) is not None and due_in < seconds:
            self._pass(due_in)
            seconds -= due_in
            yield from self._due(engine)
        self._pass(seconds)
        yield from self._due(engine)

    def _pass(self, seconds: float) -> None:
        with self.database.transaction() as connection:
            clock.pass_time(connection, timedelta(seconds=seconds))
        with self.database.autocommit() as connection:
            enforce(connection, BATCH)

    def _seconds(self, ask: Callable[..., float | None]) -> float | None:
        with self.database.autocommit() as connection:
            return ask(connection)

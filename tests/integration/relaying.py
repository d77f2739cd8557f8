"""Relays under test, and a broker that remembers what it was given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pytest

from celery_durable import Durable
from celery_durable.background.relay import Published, Relay
from celery_durable.store.due import DueMessage
from tests.integration.driving import spawn


def all_of(messages: Sequence[DueMessage]) -> Published:
    return Published([message.id for message in messages])


class Recorder:
    """A broker that remembers what it was given, and does with it what the test says."""

    def __init__(self, answer: Callable[[Sequence[DueMessage]], Published] | None = None) -> None:
        self.answer = answer
        self.taken: list[DueMessage] = []
        self.batches: list[int] = []
        self.closed = 0
        self.lowest_first = False

    def connect(self) -> None:
        """It is always there."""

    def publish(self, messages: Sequence[DueMessage]) -> Published:
        self.batches.append(len(messages))
        published = self.answer(messages) if self.answer else all_of(messages)
        self.taken += [message for message in messages if message.id in published.sent]
        return published

    def close(self) -> None:
        self.closed += 1

    def tokens(self) -> list[UUID]:
        return [UUID(message.args[0]) for message in self.taken]


def drain(one: Relay) -> int:
    """Publish everything that is due; how many rows were looked at."""
    total = 0
    one._backlog.start_over()  # the test may have moved rows in time
    for _ in range(1000):
        taken = one._publish_batch(one._connection())
        total += taken
        if not taken:
            return total
    pytest.fail("the same rows are due again and again")


class Relays:
    """Relays that end with the test."""

    def __init__(self) -> None:
        self.made: list[Relay] = []

    def make(self, durable: Durable, publisher: Any) -> Relay:
        made = Relay(durable.database, publisher, durable.settings)
        self.made.append(made)
        return made

    def run(self, durable: Durable, publisher: Any) -> Relay:
        made = self.make(durable, publisher)
        spawn(made.run)
        return made

"""Relays under test, and a broker that remembers what it was given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from kombu import Queue
from kombu.serialization import prepare_accept_content

from celery_durable import Durable
from celery_durable.background.relay import Published, Relay
from celery_durable.errors import BrokerUnavailable
from celery_durable.store.due import DueMessage
from celery_durable.worker.publisher import KombuPublisher
from tests.integration.driving import Define, Gate, World, noting, spawn
from tests.transports import Broker


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


def hanging(gate: Gate) -> Recorder:
    """A broker that takes nothing before the gate is open."""

    def hang(messages: Sequence[DueMessage]) -> Published:
        gate()
        return all_of(messages)

    return Recorder(hang)


def worker_on(
    broker: Broker, world: World, define: Define | None = None, **settings: Any
) -> Durable:
    """A worker, or a client, whose app has this broker and whose queue is the test's own."""
    durable = world.worker(queue=broker.queue(), **settings)
    broker.configure(durable.app)
    if define is not None:
        define(durable)
    return durable


Message = dict[str, Any]

READABLE = prepare_accept_content(["json", "pickle"])


def taken_from(broker: Broker, queue: str) -> list[Message]:
    """The messages of a queue, oldest first: their headers, arguments and properties."""
    found: list[Message] = []
    with broker.connection() as connection:
        bound = Queue(queue)(connection.default_channel)
        try:
            bound.queue_declare(passive=True)
        except connection.channel_errors:
            return []  # nothing was ever published to it
        while (message := bound.get(no_ack=True)) is not None:
            message.accept = READABLE
            args, kwargs, embedded = message.decode()
            properties = {"content_type": message.content_type, **message.properties}
            found.append(
                {**message.headers, "args": args, "kwargs": kwargs, **embedded, **properties}
            )
    return found


def is_listening(world: World) -> bool:
    """True once a relay waits for notifications."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND query LIKE 'LISTEN%' AND state = 'idle'"
    )
    return bool(world.one(query))


def publishes(one: Relay) -> bool:
    """True if the broker takes something of what is due."""
    try:
        return drain(one) > 0
    except BrokerUnavailable:
        return False


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


@contextmanager
def a_worker_at_work(world: World) -> Iterator[tuple[Durable, UUID]]:
    """A worker that has a step in hand, and the token of it."""
    gate = Gate()
    slow = noting([], "slow", gate=gate)
    worker = world.worker(lambda durable: durable.workflow("slow").step(slow))
    worker.start("slow", {})
    (token_id,) = world.publish()
    working = gate.hold(worker.engine.advance, token_id)
    yield worker, token_id
    gate.finish(working)


class Relays:
    """Relays that end with the test."""

    def __init__(self) -> None:
        self.made: list[Relay] = []

    def make(self, durable: Durable, publisher: Any, *, bundles: bool = False) -> Relay:
        """A relay; each hint has a message of its own unless the test is about bundles."""
        settings = durable.settings if bundles else replace(durable.settings, bundle=1)
        made = Relay(durable.database, publisher, settings)
        self.made.append(made)
        return made

    def of(self, durable: Durable) -> Relay:
        """A relay into the broker of the durable's app."""
        return self.make(durable, KombuPublisher(durable.app))

    def run(self, durable: Durable, publisher: Any) -> Relay:
        made = self.make(durable, publisher)
        spawn(made.run)
        return made

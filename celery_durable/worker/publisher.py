"""Outbox rows -> the broker, through kombu.

With RabbitMQ a row is sent when a queue has it and the broker has confirmed it. The confirms of a
batch are awaited together, after all of it is published. With Redis the reply to the push is the
confirm; kombu 5.7 pushes a batch in one round trip. Other transports get messages one by one.

A failure is attributed to a row, to its queue, or to the broker, and only that one is left alone
for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from celery_durable.background.relay import Published
from celery_durable.database.connections import Database
from celery_durable.errors import BrokerUnavailable, DatabaseUnavailable
from celery_durable.store import origin
from celery_durable.store.due import DueMessage
from celery_durable.store.outbox import ADVANCE, COMPENSATE
from celery_durable.worker import brokers
from celery_durable.worker.brokers import Brokers, is_amqp
from celery_durable.worker.configuration import serializer_of
from celery_durable.worker.confirms import Answers, Blocked, Confirms, Unconfirmed

REDIS = "redis"
"""https://docs.celeryq.dev/en/stable/userguide/routing.html#redis-message-priorities"""

ORIGIN_HEADER = "durable_origin"
"""The header of a hint that names the schema which has sent it."""


class KombuPublisher:
    """Publishes through the relay's own connection, made when needed and after a failure.

    Hints carry the answer of `origin`, once it is not None.
    """

    def __init__(self, app: Celery, origin: Callable[[], str | None] = lambda: None) -> None:
        self._app = app
        self._ask_origin = origin
        self._origin: str | None = None
        self._serializer = serializer_of(app.conf) or "json"
        self._brokers = Brokers(app)
        self._connection: Any = None
        self._producer: Any = None
        self._confirms: Confirms | None = None

    @property
    def lowest_first(self) -> bool:
        """True if the broker is Redis, where 0 is the highest priority."""
        return bool(self._app.connection_for_write().transport.driver_type == REDIS)

    def connect(self) -> None:
        """Connect, unless connected; raise `BrokerUnavailable` if the broker does not answer."""
        try:
            self._ready()
        except DatabaseUnavailable:
            raise
        except Exception as error:
            if self._is_outage(error):
                raise self._unavailable((), error) from error
            raise

    def publish(self, messages: Sequence[DueMessage]) -> Published:
        """Publish what the broker takes; raise `BrokerUnavailable` if it does not answer."""
        together = self._publish_together(messages)
        published = published_of(messages, together)
        sent, refused, full = [*published.sent], dict(published.refused), dict(published.full)
        for message in messages:
            if message.id in together.again and message.queue not in full:
                alone = self._publish_alone(message, sent)
                sent += alone.sent
                refused |= alone.refused
                full |= alone.full
        return Published(sent, refused, full)

    def _publish_together(self, messages: Sequence[DueMessage]) -> Answers:
        try:
            answers = self._publish_batch(messages)
        except (BrokerUnavailable, DatabaseUnavailable):
            raise
        except Exception as error:
            if self._is_outage(error):
                taken = self._confirms.take().sent if self._confirms else ()
                raise self._unavailable(taken, error) from error
            # The error names no row: publishing one by one finds the bad one.
            self._drop()
            return Answers(again=dict.fromkeys([message.id for message in messages], ""))
        if answers.again:
            self._drop()  # the next connection declares their queues anew
        return answers

    def _publish_alone(self, message: DueMessage, before: Sequence[int]) -> Published:
        """Publish a message that failed in its batch; `before` are the rows taken so far."""
        try:
            answers = self._publish_batch([message])
        except BrokerUnavailable as error:
            raise BrokerUnavailable([*before, *error.sent], error.why) from error
        except DatabaseUnavailable:
            raise
        except Exception as error:
            if self._is_outage(error):
                raise self._unavailable(before, error) from error
            why = f"{type(error).__name__}: {error}"
            # Neither a bad row nor a bad queue may block the others.
            full = {message.queue: why} if message.queue and self._is_of_queue(error) else {}
            self._drop()  # a channel that raised is closed
            return Published((), {message.id: why}, full)
        published = published_of([message], answers)
        return Published(published.sent, {**published.refused, **answers.again}, published.full)

    def _unavailable(self, taken: Sequence[int], error: Exception) -> BrokerUnavailable:
        """Leave a broker that fails, but not a blocked one: it confirms later what it has got."""
        if not isinstance(error, Blocked) and self._connection is not None:
            self._drop()
            self._brokers.pass_over()
        return BrokerUnavailable(taken, error)

    def _publish_batch(self, messages: Sequence[DueMessage]) -> Answers:
        producer = self._ready()
        earlier = self._sent_while_blocked()
        batch = getattr(producer, "batch", None)
        with batch(len(messages)) if batch else nullcontext():
            for message in messages:
                if message.id in earlier:
                    continue
                if self._confirms is not None:
                    self._confirms.expect(message.id)
                try:
                    self._send(producer, message)
                except Exception as error:
                    if self._confirms is None or not is_timeout(error):
                        raise
                    return self._declaration_timed_out(self._confirms, messages, message)
        if self._confirms is None:
            return Answers([message.id for message in messages])
        return self._wait_for_confirms(self._confirms, [m.id for m in messages if m.id in earlier])

    def _sent_while_blocked(self) -> frozenset[int]:
        """Return the rows that were published while the broker was blocked, and taken since."""
        if self._confirms is None or not (self._confirms.waiting or self._confirms.is_blocked):
            return frozenset()
        self._confirms.wait(self._connection, brokers.CONFIRM_TIMEOUT)
        return frozenset(self._confirms.take().sent)

    def _wait_for_confirms(self, confirms: Confirms, earlier: Sequence[int]) -> Answers:
        """Wait for the confirms; hold the rows that lack one, unless the broker itself is away."""
        try:
            confirms.wait(self._connection, brokers.CONFIRM_TIMEOUT)
            unanswered: Mapping[int, str] = {}
        except Unconfirmed as error:
            unanswered = dict.fromkeys(confirms.waiting, str(error))
        answers = confirms.take()
        sent = [*earlier, *answers.sent]
        if unanswered:
            self._connect_anew(sent)
        return Answers(sent, {**answers.held, **unanswered}, answers.again)

    def _declaration_timed_out(
        self, confirms: Confirms, messages: Sequence[DueMessage], mute: DueMessage
    ) -> Answers:
        """Hold the message whose queue could not be declared; each after it is published alone."""
        answers = confirms.take()
        self._connect_anew(answers.sent)
        held = {**answers.held, mute.id: f"it was not declared in {brokers.CONFIRM_TIMEOUT} s"}
        rest = [m.id for m in messages if m.id not in held and m.id not in answers.sent]
        return Answers(answers.sent, held, {**dict.fromkeys(rest, ""), **answers.again})

    def _connect_anew(self, sent: Sequence[int]) -> None:
        """Connect anew after a missing answer; raise `BrokerUnavailable` if the broker is away.

        Else the queue has caused it, such as a quorum queue without its majority.
        """
        self._drop()
        try:
            self._ready()
        except OperationalError as error:
            raise BrokerUnavailable(sent, error) from error

    def _send(self, producer: Any, message: DueMessage) -> None:
        options = dict(message.options)
        if self._origin is not None and message.task in (ADVANCE, COMPENSATE):
            options["headers"] = {**options.get("headers", {}), ORIGIN_HEADER: self._origin}
        self._app.send_task(
            message.task,
            args=message.args,
            kwargs=message.kwargs,
            producer=producer,
            retry=False,
            ignore_result=True,
            serializer=self._serializer,
            **options,
        )

    def _ready(self) -> Any:
        if self._producer is None:
            self._origin = self._origin or self._ask_origin()
            self._connection = self._brokers.connect()
            self._producer = self._app.amqp.Producer(self._connection, auto_declare=False)
            if is_amqp(self._connection):
                self._confirms = Confirms(self._producer.channel)
        return self._producer

    def _is_outage(self, error: Exception) -> bool:
        """Return True if the broker is away; False if a row or a queue is the cause."""
        known = self._connection.connection_errors if self._connection else ()
        is_lost = isinstance(error.__cause__ or error, tuple(known))
        return (is_lost or isinstance(error, OperationalError)) and not is_of_redis_key(error)

    def _is_of_queue(self, error: Exception) -> bool:
        """Return True if the broker refuses the queue, whatever the message."""
        known = self._connection.channel_errors if self._connection else ()
        return isinstance(error, tuple(known)) or is_of_redis_key(error)

    def _drop(self) -> None:
        """Drop the connection without telling the broker, which might not answer."""
        connection, self._connection = self._connection, None
        self._producer = self._confirms = None
        if connection is not None:
            connection.collect()

    def close(self) -> None:
        """Close the connection; the next call makes a new one."""
        if self._confirms is not None and self._confirms.is_blocked:
            self._drop()
        connection, self._connection = self._connection, None
        self._producer = self._confirms = None
        if connection is not None:
            connection.release()


def origin_of(database: Database) -> str | None:
    """Return the origin of the hints of this schema; None until it has one."""
    with database.autocommit() as connection:
        return origin.find(connection)


def published_of(messages: Sequence[DueMessage], answers: Answers) -> Published:
    """Attribute each held message to its queue, or to its row if it names no queue."""
    refused: dict[int, str] = {}
    full: dict[str, str] = {}
    for message in messages:
        why = answers.held.get(message.id)
        if why is not None and message.queue is not None:
            full[message.queue] = why
        elif why is not None:
            refused[message.id] = why
    return Published(answers.sent, refused, full)


def is_timeout(error: Exception) -> bool:
    """Return True if an answer did not come in time, though the connection held."""
    return isinstance(error.__cause__ or error, TimeoutError)


def is_of_redis_key(error: Exception) -> bool:
    """Return True if Redis refuses one key, which is a queue.

    Any other refusal concerns all keys: Redis is out of memory, a read-only replica, without its
    replicas, or unable to save.
    """
    cause = error.__cause__ or error
    return "WRONGTYPE" in str(cause) or type(cause).__name__ == "NoPermissionError"

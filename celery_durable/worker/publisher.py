"""Outbox rows -> the broker, through kombu.

With RabbitMQ a row counts as sent when a queue has it and the broker has confirmed it; a batch is
published first and its confirms are waited for together. With Redis the reply to the push is the
confirm; kombu 5.7 pushes a batch in one round trip. Other transports are published to one by one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from celery_durable.errors import BrokerUnavailable
from celery_durable.relay import Published
from celery_durable.store.outbox import Message
from celery_durable.worker.configuration import serializer_of

CONFIRM_TIMEOUT = 10.0
"""Seconds a batch waits for RabbitMQ's confirms, and a new connection for the broker."""

REPLY_TIMEOUT = 5.0
"""Seconds another broker has for a reply. The client of Redis connects anew and waits once more."""


class KombuPublisher:
    """A connection and a producer of the relay's own, made when needed and after a failure."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._serializer = serializer_of(app.conf) or "json"
        self._connection: Any = None
        self._producer: Any = None
        self._confirms: Confirms | None = None

    def publish(self, messages: Sequence[Message]) -> Published:
        """Publish what can be published; `BrokerUnavailable` when the broker does not answer."""
        together = self._publish_together(messages)
        sent, refused = [*together.sent], dict(together.refused)
        for message in messages:
            if message.id in together.again:
                alone = self._publish_alone(message, sent)
                sent += alone.sent
                refused |= alone.refused
        return Published(sent, refused)

    def _publish_together(self, messages: Sequence[Message]) -> Answers:
        try:
            answers = self._answers(messages)
        except self._outages() as error:
            taken = self._confirms.take().sent if self._confirms else ()
            raise self._away(taken, error) from error
        except Exception:  # noqa: BLE001 - it names no row: which one is bad is found one by one
            self._drop()
            return Answers(again=dict.fromkeys([message.id for message in messages], ""))
        if answers.again:
            self._drop()  # the next connection declares their queues anew
        return answers

    def _publish_alone(self, message: Message, before: Sequence[int]) -> Published:
        """Publish what did not go in its batch; `before` is what the broker has taken by now."""
        try:
            answers = self._answers([message])
        except self._outages() as error:
            raise self._away(before, error) from error
        except Exception as error:  # noqa: BLE001 - one bad row must not block the others
            self._drop()  # a channel that raised is closed
            return Published((), {message.id: f"{type(error).__name__}: {error}"})
        return Published(answers.sent, {**answers.refused, **answers.again})

    def _away(self, taken: Sequence[int], error: Exception) -> BrokerUnavailable:
        self._drop()
        return BrokerUnavailable(taken, error)

    def _answers(self, messages: Sequence[Message]) -> Answers:
        producer = self._ready()
        batch = getattr(producer, "batch", None)
        with batch(len(messages)) if batch else nullcontext():
            for message in messages:
                if self._confirms is not None:
                    self._confirms.expect(message.id)
                self._send(producer, message)
        if self._confirms is None:
            return Answers([message.id for message in messages])
        self._confirms.wait(self._connection, CONFIRM_TIMEOUT)
        return self._confirms.take()

    def _send(self, producer: Any, message: Message) -> None:
        self._app.send_task(
            message.task,
            args=message.args,
            kwargs=message.kwargs,
            producer=producer,
            retry=False,
            ignore_result=True,
            serializer=self._serializer,
            **message.options,
        )

    def _ready(self) -> Any:
        if self._producer is None:
            self._connection = self._app.connection_for_write()
            options = dict(self._connection.transport_options or {})
            is_amqp = self._connection.transport_cls in ("amqp", "pyamqp", "amqps")
            if is_amqp:
                # Confirms are counted here, a batch at a time, not waited for one by one.
                options["confirm_publish"] = False
                options.setdefault("write_timeout", CONFIRM_TIMEOUT)
                options.setdefault("read_timeout", CONFIRM_TIMEOUT)  # of a declaration's answer
            else:
                options.setdefault("socket_timeout", REPLY_TIMEOUT)
            self._connection.transport_options = options
            self._connection.ensure_connection(max_retries=0, timeout=CONFIRM_TIMEOUT)
            self._producer = self._app.amqp.Producer(self._connection, auto_declare=False)
            self._confirms = Confirms(self._producer.channel) if is_amqp else None
        return self._producer

    def _outages(self) -> tuple[type[Exception], ...]:
        """What is raised when the broker is away, and not for a message."""
        known = self._connection.connection_errors if self._connection else ()
        return (OperationalError, *known)

    def _drop(self) -> None:
        """Forget the connection without a word to the broker, which might not answer."""
        connection, self._connection = self._connection, None
        self._producer = self._confirms = None
        if connection is not None:
            connection.collect()

    def close(self) -> None:
        """Close the connection; the next call makes a new one."""
        connection, self._connection = self._connection, None
        self._producer = self._confirms = None
        if connection is not None:
            connection.release()


@dataclass(frozen=True, slots=True)
class Answers:
    """What the broker said: taken, refused and why, to be tried again alone and why."""

    sent: Sequence[int] = ()
    refused: Mapping[int, str] = field(default_factory=dict)
    again: Mapping[int, str] = field(default_factory=dict)


class Confirms:
    """Publisher confirms of one RabbitMQ channel: delivery tags count its publishes from 1.

    A message that no queue takes is confirmed too. It is published as mandatory, so that it is
    returned, and that before its confirm.

    https://www.rabbitmq.com/docs/confirms#publisher-confirms
    https://www.rabbitmq.com/docs/publishers#unroutable
    """

    def __init__(self, channel: Any) -> None:
        self._waiting: dict[int, int] = {}
        self._tag = 0
        self._ids: dict[str, int] = {}
        self._acked: list[int] = []
        self._nacked: list[int] = []
        self._returned: dict[int, str] = {}
        # Celery may publish events of its own on this channel, and each publish takes a tag.
        self._publish = channel.basic_publish
        channel.basic_publish = self._counted
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)

    def expect(self, message_id: int) -> None:
        """The next publish is this message."""
        self._waiting[self._tag + 1] = message_id

    def _counted(self, message: Any, *args: Any, **options: Any) -> Any:
        self._tag += 1
        if self._tag in self._waiting:
            name = message.properties.setdefault("message_id", str(self._waiting[self._tag]))
            self._ids[name] = self._waiting[self._tag]
            options["mandatory"] = True
        return self._publish(message, *args, **options)

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._acked += self._settled(tag, multiple)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self._nacked += self._settled(tag, multiple)

    def _on_return(self, error: Exception, exchange: str, key: str, message: Any) -> None:
        row = self._ids.get(message.properties.get("message_id"))
        if row is not None:
            self._returned[row] = f"no queue takes it (exchange {exchange!r}, routing key {key!r})"

    def _settled(self, tag: int, multiple: bool) -> list[int]:
        tags = [one for one in self._waiting if one <= tag] if multiple else [tag]
        return [self._waiting.pop(one) for one in tags if one in self._waiting]

    def wait(self, connection: Any, seconds: float) -> None:
        """Until every message is confirmed or refused; `OperationalError` after `seconds`."""
        until = time.monotonic() + seconds
        while self._waiting:
            left = until - time.monotonic()
            if left <= 0:
                raise OperationalError(
                    f"{len(self._waiting)} messages were not confirmed in {seconds} s"
                )
            try:
                connection.drain_events(timeout=left)
            except TimeoutError:
                continue

    def take(self) -> Answers:
        """What has been answered since the last time; a message that came back is to go again."""
        sent = [row for row in self._acked if row not in self._returned]
        refused = dict.fromkeys(self._nacked, "the broker refused it (nack)")
        answers = Answers(sent, refused, self._returned)
        self._acked, self._nacked, self._returned, self._ids = [], [], {}, {}
        return answers

"""Outbox rows -> the broker, through kombu.

With RabbitMQ a row counts as sent when the broker has confirmed it; a batch is published first and
its confirms are waited for together. With Redis the reply to the push is the confirm; kombu 5.7
pushes a batch in one round trip. Other transports are published to one by one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from celery_durable.errors import BrokerUnavailable
from celery_durable.relay import Published
from celery_durable.store.outbox import Message

CONFIRM_TIMEOUT = 10.0
"""Seconds a batch waits for RabbitMQ's confirms, and any broker has to answer."""


class KombuPublisher:
    """A connection and a producer of the relay's own, made when needed and after a failure."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection: Any = None
        self._producer: Any = None
        self._confirms: Confirms | None = None

    def publish(self, messages: Sequence[Message]) -> Published:
        """Publish what can be published; `BrokerUnavailable` when the broker does not answer."""
        try:
            self._publish_together(self._ready(), messages)
            return self._confirmed(messages)
        except self._outages() as error:
            taken = self._confirms.take()[0] if self._confirms else ()
            raise BrokerUnavailable(taken, error) from error
        except Exception:  # noqa: BLE001 - it names no row: which one is bad is found one by one
            self.close()
        sent: list[int] = []
        refused: dict[int, str] = {}
        for message in messages:
            self._publish_alone(message, sent, refused)
        return Published(sent, refused)

    def _publish_together(self, producer: Any, messages: Sequence[Message]) -> None:
        batch = getattr(producer, "batch", None)
        with batch(len(messages)) if batch else nullcontext():
            for message in messages:
                if self._confirms is not None:
                    self._confirms.expect(message.id)
                self._send(producer, message)

    def _confirmed(self, messages: Sequence[Message]) -> Published:
        if self._confirms is None:
            return Published([message.id for message in messages])
        self._confirms.wait(self._connection, CONFIRM_TIMEOUT)
        sent, nacked = self._confirms.take()
        return Published(sent, dict.fromkeys(nacked, "the broker refused it (nack)"))

    def _publish_alone(self, message: Message, sent: list[int], refused: dict[int, str]) -> None:
        try:
            self._publish_together(self._ready(), [message])
            alone = self._confirmed([message])
            sent += alone.sent
            refused |= alone.refused
        except self._outages() as error:
            raise BrokerUnavailable(sent, error) from error
        except Exception as error:  # noqa: BLE001 - one bad row must not block the others
            refused[message.id] = f"{type(error).__name__}: {error}"
            self.close()  # a channel that raised is closed

    def _send(self, producer: Any, message: Message) -> None:
        self._app.send_task(
            message.task,
            args=message.args,
            kwargs=message.kwargs,
            producer=producer,
            retry=False,
            ignore_result=True,
            serializer="json",
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
            else:
                options.setdefault("socket_timeout", CONFIRM_TIMEOUT)
            self._connection.transport_options = options
            self._connection.ensure_connection(max_retries=0, timeout=CONFIRM_TIMEOUT)
            self._producer = self._app.amqp.Producer(self._connection, auto_declare=False)
            self._confirms = Confirms(self._producer.channel) if is_amqp else None
        return self._producer

    def _outages(self) -> tuple[type[Exception], ...]:
        """What is raised when the broker is away, and not for a message."""
        known = self._connection.connection_errors if self._connection else ()
        return (OperationalError, *known)

    def close(self) -> None:
        """Drop the connection; the next call makes a new one."""
        connection, self._connection = self._connection, None
        self._producer = self._confirms = None
        if connection is not None:
            connection.collapse() if hasattr(connection, "collapse") else connection.release()


class Confirms:
    """Publisher confirms of one RabbitMQ channel: delivery tags count its publishes from 1.

    https://www.rabbitmq.com/docs/confirms#publisher-confirms
    """

    def __init__(self, channel: Any) -> None:
        self._waiting: dict[int, int] = {}
        self._tag = 0
        self._acked: list[int] = []
        self._nacked: list[int] = []
        # Celery may publish events of its own on this channel, and each publish takes a tag.
        self._publish = channel.basic_publish
        channel.basic_publish = self._counted
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)

    def expect(self, message_id: int) -> None:
        """The next publish is this message."""
        self._waiting[self._tag + 1] = message_id

    def _counted(self, *args: Any, **options: Any) -> Any:
        self._tag += 1
        return self._publish(*args, **options)

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._acked += self._settled(tag, multiple)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self._nacked += self._settled(tag, multiple)

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

    def take(self) -> tuple[list[int], list[int]]:
        """The messages that were confirmed, and those that were refused, since the last time."""
        acked, nacked, self._acked, self._nacked = self._acked, self._nacked, [], []
        return acked, nacked

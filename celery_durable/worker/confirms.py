"""What RabbitMQ says of the messages it was given: taken, refused, returned, or nothing yet."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kombu.exceptions import OperationalError

LOOK = 0.01
"""Seconds to read what a blocked connection has been sent meanwhile."""


class Blocked(OperationalError):
    """The broker reads no more of what is published to it until it has room again.

    https://www.rabbitmq.com/docs/connection-blocked
    """

    def __init__(self) -> None:
        super().__init__("it is short of memory or disk and takes no messages (connection.blocked)")


class Unconfirmed(OperationalError):
    """Messages were neither taken nor refused in time."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What the broker said of each row: taken, not taken now and why, to be tried alone and why."""

    sent: Sequence[int] = ()
    held: Mapping[int, str] = field(default_factory=dict)
    again: Mapping[int, str] = field(default_factory=dict)


class Confirms:
    """Publisher confirms of one RabbitMQ channel: delivery tags count its publishes from 1.

    A message that no queue takes is confirmed too. It is published as mandatory, so that it is
    returned, and that before its confirm. A queue that is full refuses (`reject-publish`).

    https://www.rabbitmq.com/docs/confirms#publisher-confirms
    https://www.rabbitmq.com/docs/publishers#unroutable
    https://www.rabbitmq.com/docs/maxlength#overflow-behaviour
    """

    def __init__(self, channel: Any) -> None:
        self._waiting: dict[int, int] = {}
        self._tag = 0
        self._ids: dict[str, int] = {}
        self._acked: list[int] = []
        self._nacked: list[int] = []
        self._returned: dict[int, str] = {}
        self.is_blocked = False
        # Celery may publish events of its own on this channel, and each publish takes a tag.
        self._publish = channel.basic_publish
        channel.basic_publish = self._counted
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        channel.connection.on_blocked = self._on_blocked
        channel.connection.on_unblocked = self._on_unblocked

    def expect(self, message_id: int) -> None:
        """The next publish is this message."""
        self._waiting[self._tag + 1] = message_id

    @property
    def waiting(self) -> Sequence[int]:
        """The rows whose messages have not been answered."""
        return [*self._waiting.values()]

    def _counted(self, message: Any, *args: Any, **options: Any) -> Any:
        if self.is_blocked:
            self._waiting.pop(self._tag + 1, None)
            raise Blocked
        self._tag += 1
        if self._tag in self._waiting:
            name = message.properties.setdefault("message_id", str(self._waiting[self._tag]))
            self._ids[name] = self._waiting[self._tag]
            options["mandatory"] = True
        return self._publish(message, *args, **options)

    def _on_blocked(self, _: Any) -> None:
        self.is_blocked = True

    def _on_unblocked(self) -> None:
        self.is_blocked = False

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
        """Until every message is answered; `Unconfirmed` after `seconds`, `Blocked` at once."""
        until = time.monotonic() + seconds
        while self._waiting or self.is_blocked:
            left = LOOK if self.is_blocked else until - time.monotonic()
            if left <= 0:
                raise Unconfirmed(
                    f"{len(self._waiting)} messages were not confirmed in {seconds} s"
                )
            try:
                connection.drain_events(timeout=left)
            except TimeoutError:
                if self.is_blocked:
                    raise Blocked from None

    def take(self) -> Answers:
        """What has been answered since the last time; a message that came back is to go again."""
        sent = [row for row in self._acked if row not in self._returned]
        held = dict.fromkeys(self._nacked, "the broker refused it (nack)")
        answers = Answers(sent, held, self._returned)
        self._acked, self._nacked, self._returned = [], [], {}
        unanswered = set(self._waiting.values())
        self._ids = {name: row for name, row in self._ids.items() if row in unanswered}
        return answers

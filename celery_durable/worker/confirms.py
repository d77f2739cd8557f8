"""Collects RabbitMQ's answers to published messages: confirmed, refused, returned, none yet."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kombu.exceptions import OperationalError

READ_BLOCKED = 0.01
"""Seconds to read what the broker has sent meanwhile on a blocked connection."""


class Blocked(OperationalError):
    """The broker reads no further messages until it has memory and disk again.

    https://www.rabbitmq.com/docs/connection-blocked
    """

    def __init__(self) -> None:
        super().__init__("it is short of memory or disk and takes no messages (connection.blocked)")


class Unconfirmed(OperationalError):
    """Messages were neither confirmed nor refused in time."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The broker's answer to each row, by id.

    `sent` were taken. `held`, with why, were not taken now. `again`, with why, are to be published
    again, each alone.
    """

    sent: Sequence[int] = ()
    held: Mapping[int, str] = field(default_factory=dict)
    again: Mapping[int, str] = field(default_factory=dict)


class Confirms:
    """Collects the publisher confirms of one RabbitMQ channel, whose tags count publishes from 1.

    RabbitMQ confirms a message that no queue takes too. So messages are published as mandatory:
    such a one is then returned, before its confirm. A full queue refuses (`reject-publish`).

    https://www.rabbitmq.com/docs/confirms#publisher-confirms
    https://www.rabbitmq.com/docs/publishers#unroutable
    https://www.rabbitmq.com/docs/maxlength#overflow-behaviour
    """

    def __init__(self, channel: Any) -> None:
        self._waiting: dict[int, int] = {}
        self._tag = 0
        self._rows: dict[str, int] = {}
        self._acked: list[int] = []
        self._nacked: list[int] = []
        self._returned: dict[int, str] = {}
        self.is_blocked = False
        # Celery may publish its events on this channel too, and each publish takes a tag.
        self._publish = channel.basic_publish
        channel.basic_publish = self._publish_counted
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        channel.connection.on_blocked = self._on_blocked
        channel.connection.on_unblocked = self._on_unblocked

    def expect(self, message_id: int) -> None:
        """Expect this message to be the next publish."""
        self._waiting[self._tag + 1] = message_id

    @property
    def waiting(self) -> Sequence[int]:
        """The rows without an answer yet."""
        return [*self._waiting.values()]

    def _publish_counted(self, message: Any, *args: Any, **options: Any) -> Any:
        if self.is_blocked:
            self._waiting.pop(self._tag + 1, None)
            raise Blocked
        self._tag += 1
        if self._tag in self._waiting:
            name = message.properties.setdefault("message_id", str(self._waiting[self._tag]))
            self._rows[name] = self._waiting[self._tag]
            options["mandatory"] = True
        return self._publish(message, *args, **options)

    def _on_blocked(self, _: Any) -> None:
        self.is_blocked = True

    def _on_unblocked(self) -> None:
        self.is_blocked = False

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._acked += self._answered(tag, multiple)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self._nacked += self._answered(tag, multiple)

    def _on_return(self, error: Exception, exchange: str, key: str, message: Any) -> None:
        row = self._rows.get(message.properties.get("message_id"))
        if row is not None:
            self._returned[row] = f"no queue takes it (exchange {exchange!r}, routing key {key!r})"

    def _answered(self, tag: int, multiple: bool) -> list[int]:
        tags = [one for one in self._waiting if one <= tag] if multiple else [tag]
        return [self._waiting.pop(one) for one in tags if one in self._waiting]

    def wait(self, connection: Any, seconds: float) -> None:
        """Wait for all answers; raise `Unconfirmed` after `seconds`, and `Blocked` at once."""
        until = time.monotonic() + seconds
        while self._waiting or self.is_blocked:
            left = READ_BLOCKED if self.is_blocked else until - time.monotonic()
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
        """Return the answers since the last call; a returned message is to be published again."""
        sent = [row for row in self._acked if row not in self._returned]
        held = dict.fromkeys(self._nacked, "the broker refused it (nack)")
        answers = Answers(sent, held, self._returned)
        self._acked, self._nacked, self._returned = [], [], {}
        unanswered = set(self._waiting.values())
        self._rows = {name: row for name, row in self._rows.items() if row in unanswered}
        return answers

"""Looking into the broker, and losing what is in it.

The demo has a queue of its own, and on Redis a key prefix; when it ends, both are removed.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu import Connection
from kombu.exceptions import OperationalError

from examples.demo import ledger

CONNECT_SECONDS = 5


class Broker:
    """Any broker, as kombu sees it."""

    def __init__(self, app: Celery, queue: str) -> None:
        self.queue = queue
        self._connection: Connection = app.connection_for_write(connect_timeout=CONNECT_SECONDS)

    def check(self) -> None:
        """`OperationalError` when the broker does not answer."""
        self._connection.ensure_connection(max_retries=1, timeout=CONNECT_SECONDS)

    @property
    def _channel(self) -> Any:
        return self._connection.default_channel

    def waiting(self) -> int:
        """How many messages wait to be delivered."""
        return int(self._channel.queue_declare(self.queue, passive=True).message_count)

    def flush(self) -> int:
        """Lose every message; returns how many of them were waiting."""
        return int(self._channel.queue_purge(self.queue) or 0)

    def close(self) -> None:
        """Leave nothing of ours in the broker."""
        try:
            self._channel.queue_delete(self.queue)
            self._channel.exchange_delete(self.queue)
        except (OperationalError, *self._connection.recoverable_connection_errors):
            return  # gone, and with it what was ours
        finally:
            self._connection.release()


class Redis(Broker):
    """Redis: what workers hold unacknowledged is lost too."""

    def __init__(self, app: Celery, queue: str, prefix: str) -> None:
        super().__init__(app, queue)
        self._prefix = prefix
        self._url = app.conf.broker_url

    def waiting(self) -> int:
        # Not passive: kombu looks for the queue without the prefix, and does not find it.
        return int(self._channel.queue_declare(self.queue).message_count)

    def flush(self) -> int:
        waiting = super().flush()
        self._delete(f"{self._prefix}unacked*")
        return waiting

    def close(self) -> None:
        self._connection.release()
        self._delete(f"{self._prefix}*")

    def _delete(self, pattern: str) -> None:
        from redis import Redis as Client  # noqa: PLC0415 - there only where the broker is Redis

        with Client.from_url(self._url) as client:
            for key in client.scan_iter(match=pattern):
                client.delete(key)


class Pgmq(Broker):
    """kombu's Postgres transport, in a database that goes away with the demo."""

    def __init__(self, app: Celery, queue: str, url: str) -> None:
        super().__init__(app, queue)
        self._postgres = ledger.connect(url)

    # A message that was delivered stays in the table, hidden until `vt`, for as long as its worker
    # has not acknowledged it.
    def waiting(self) -> int:
        text = f"SELECT count(*) FROM pgmq.q_{self.queue} WHERE vt <= clock_timestamp()"
        row = self._postgres.execute(text).fetchone()
        return int(row[0]) if row else 0

    def flush(self) -> int:
        text = f"DELETE FROM pgmq.q_{self.queue} RETURNING vt <= clock_timestamp()"
        return sum(was_waiting for (was_waiting,) in self._postgres.execute(text))

    def close(self) -> None:
        self._postgres.close()
        self._connection.release()

"""The brokers as one test sees them: Redis, RabbitMQ and kombu's pgmq, isolated by queue names.

A test names its queues through `Broker.queue`, gives `Broker.env` to its worker processes, and may
lose messages with `purge`.
"""

import json
import os
import signal
from abc import ABC, abstractmethod
from typing import Any

import pytest
from celery import Celery
from kombu.connection import Connection
from pytest_celery import CeleryTestBroker
from redis import Redis

from celery_durable.testing.embedded import install_pgmq
from tests import apps
from tests.addresses import conninfo
from tests.cluster import RedisNode
from tests.cluster.rabbitmq import RabbitMQServer
from tests.services import unique


class Broker:
    """A broker with room of its own for one test."""

    name: str
    node: CeleryTestBroker | None = None
    """The process that runs it, if it is ours to kill."""

    def __init__(self, url: str, transport_options: dict[str, Any]) -> None:
        self.url = url
        self.transport_options = transport_options
        self._suffix = unique("")
        self._queues: set[str] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    def queue(self, role: str = "durable") -> str:
        """This test's own queue for a role. It is deleted at the end of the test."""
        name = role + self._suffix
        self._queues.add(name)
        return name

    def env(self) -> dict[str, str]:
        """What a worker process needs to know; `tests.apps.configure` reads it there."""
        return {
            "CELERY_BROKER_URL": self.url,
            apps.TRANSPORT_OPTIONS: json.dumps(self.transport_options),
            apps.QUEUE: self.queue(),
        }

    def configure(self, app: Celery) -> Celery:
        """Give an app of the test's own process this broker, as its workers get it."""
        app.conf.broker_url = self.url
        return apps.configure(app, self.env())

    def connection(self) -> Connection:
        """A connection of one's own, to look into the broker."""
        return Connection(self.url, transport_options=self.transport_options)

    def size(self, queue: str) -> int:
        """How many messages wait in a queue; 0 for a queue that does not exist."""
        with self.connection() as connection:
            channel = connection.default_channel
            try:
                return int(channel.queue_declare(queue, passive=True).message_count)
            except connection.channel_errors:
                return 0

    def purge(self, queue: str) -> None:
        """Lose the messages of a queue.

        On RabbitMQ those that a consumer holds stay its own while it lives; elsewhere they go too.
        """
        with self.connection() as connection:
            connection.default_channel.queue_purge(queue)

    def close(self) -> None:
        """Leave nothing behind in a broker that others use."""
        with self.connection() as connection:
            for queue in sorted(self._queues):
                connection.default_channel.queue_delete(queue)


class BreakableBroker(Broker, ABC):
    """One that may have a server of its own, for a test to break."""

    @property
    @abstractmethod
    def is_ours(self) -> bool:
        """Whether what follows may be done to it."""

    @abstractmethod
    def stop(self) -> None:
        """Kill the server: clients see the connection break, then that nobody listens."""

    @abstractmethod
    def start(self) -> None:
        """Bring the server back on the same port."""

    @abstractmethod
    def forget(self) -> None:
        """Lose every message and every queue."""

    @abstractmethod
    def pause(self) -> None:
        """It accepts connections and does not answer."""

    @abstractmethod
    def go_on(self) -> None:
        """The end of `pause`."""


class RedisBroker(BreakableBroker):
    """Redis as kombu sets it up by default."""

    name = "redis"

    def __init__(self, url: str, node: RedisNode | None = None) -> None:
        super().__init__(url, {})
        self.node: RedisNode | None = node

    @property
    def is_ours(self) -> bool:
        return self.node is not None

    def purge(self, queue: str) -> None:
        """Lose those too that workers hold unacknowledged, which kombu keeps in `unacked`."""
        super().purge(queue)
        with Redis.from_url(self.url) as client:
            for tag, held in client.hgetall("unacked").items():
                _message, _exchange, routing_key = json.loads(held)
                if routing_key == queue:
                    client.hdel("unacked", tag)
                    client.zrem("unacked_index", tag)

    def stop(self) -> None:
        """Kill the server: every message is lost as well."""
        self._own().kill()

    def start(self) -> None:
        self._own().start()

    def forget(self) -> None:
        with Redis.from_url(self.url) as client:
            client.flushall()

    def pause(self) -> None:
        os.kill(self._own().pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._own().pid, signal.SIGCONT)

    def close(self) -> None:
        if self.node is not None and not self.node.is_running:
            self.node.start()
        for queue in self._queues:
            self.purge(queue)
        with Redis.from_url(self.url) as client:
            for key in client.scan_iter(f"*{self._suffix}*"):
                client.delete(key)

    def _own(self) -> RedisNode:
        assert self.node is not None, "a Redis given as REDIS_URL is not ours to stop"
        return self.node


class RabbitMQBroker(BreakableBroker):
    """RabbitMQ with publisher confirms."""

    name = "rabbitmq"

    def __init__(self, url: str, server: RabbitMQServer | None = None) -> None:
        super().__init__(url, {"confirm_publish": True})
        self._server = server

    @property
    def is_ours(self) -> bool:
        return self._server is not None

    def stop(self) -> None:
        """Kill the server: durable queues keep their messages."""
        self._own().kill()

    def start(self) -> None:
        self._own().start()

    def forget(self) -> None:
        """Kill the server and start it with nothing."""
        self.stop()
        self._own().empty()
        self.start()

    def pause(self) -> None:
        self._own().pause()

    def go_on(self) -> None:
        self._own().go_on()

    def _own(self) -> RabbitMQServer:
        assert self._server is not None, "a RabbitMQ that others use is not ours to stop"
        return self._server


class PgmqBroker(Broker):
    """kombu's Postgres transport in the database of the test, which is dropped with its queues."""

    name = "pgmq"

    def __init__(self, database_url: str) -> None:
        # The transport's own URL cannot name a socket directory, so the libpq form goes along.
        # wait_time_seconds is a poll inside the server that blocks the worker's loop: off.
        options = {"conn_string": conninfo(database_url), "init_extension": False}
        super().__init__(
            "pgmq://", {**options, "wait_time_seconds": 0, "polling_interval": 0.02, "pool_size": 2}
        )

    def close(self) -> None:
        """Leave it to the end of the database."""


def pgmq_in(database_url: str) -> PgmqBroker:
    """pgmq, installed into a database; the test is skipped where there is none to install."""
    pytest.importorskip("pgmq", reason="the pgmq extra is not installed")
    install_pgmq(database_url)
    return PgmqBroker(database_url)

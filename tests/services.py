"""The services that tests talk to: where they come from, and what happens when one is missing.

Postgres is ``DATABASE_URL`` or an embedded server. Redis is ``REDIS_URL`` or a ``redis-server`` of
our own. RabbitMQ is ``AMQP_URL`` or the local default. Nothing is mocked: a service that is not
there skips its tests and says how to get it, or fails them under ``--require-services``.

Databases are named ``durable_test_...``, with the worker of pytest-xdist and a random part.
"""

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
from kombu.connection import Connection

from celery_durable.testing.databases import PostgresServer, embedded_postgres, migrate, unique
from tests.cluster import LocalProcess, RedisNode
from tests.cluster.nodes import LocalRedisContainer

__all__ = ["PostgresServer", "embedded_postgres", "migrate", "unique"]

TEMPLATE = "DURABLE_TEST_TEMPLATE"
"""The environment variable that names a migrated database, for test runs that share one."""

SERVERS = range(20_000, 32_000)
"""Linux gives outgoing connections the ports from 32,768 on, others from 49,152 on."""

RABBITMQ_DEFAULT = "amqp://guest:guest@127.0.0.1:5672//"


def missing(config: pytest.Config, service: str, remedy: str) -> NoReturn:
    """End the test for want of a service: skipped, or failed under ``--require-services``."""
    told = f"no {service}: {remedy}"
    if config.getoption("--require-services"):
        pytest.fail(told, pytrace=False)
    pytest.skip(told)


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A Redis, and the process that runs it if it is ours to kill."""

    url: str
    node: RedisNode | None = None


@contextmanager
def own_redis(directory: Path) -> Iterator[RedisNode]:
    """A ``redis-server`` from PATH, on a free port."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
    command += ["--save", "", "--appendonly", "no"]
    node = RedisNode(
        LocalRedisContainer(LocalProcess(command, name="redis", directory=directory), port)
    )
    try:
        node.start()
        yield node
    finally:
        node.teardown()


def rabbitmq_url() -> str | None:
    """``AMQP_URL``, else the local default if somebody listens there."""
    if url := os.environ.get("AMQP_URL"):
        return url
    with Connection(RABBITMQ_DEFAULT, connect_timeout=2) as connection:
        try:
            connection.connect()
        except connection.connection_errors:
            return None
    return RABBITMQ_DEFAULT


def free_port() -> int:
    """A port that nobody listens on, below those that outgoing connections are given.

    A server that is stopped finds it free again: nobody who tries to reach it in between is given
    its own port, and so connected to itself.
    """
    while True:
        port = secrets.choice(SERVERS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port

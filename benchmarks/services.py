"""The servers that contenders talk to, with room of its own for each.

Postgres is `DATABASE_URL`, else an embedded server; each contender has a database. RabbitMQ is
`AMQP_URL`, else the local default; each contender has a virtual host where `rabbitmqctl` may make
one, else queues of its own names. Redis is a `redis-server` from the PATH, started here, so that
its processor time is nobody else's.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import uuid4

import psutil
import psycopg
import sqlalchemy as sa
from psycopg import sql

from benchmarks.processes import ContenderFailed, Process
from benchmarks.processor import parent_of
from celery_durable.testing.embedded import EmbeddedPostgres

AMQP_DEFAULT = "amqp://guest:guest@127.0.0.1:5672//"
PREFIX = "bench"
REDIS_DATABASES = 64


class Services:
    """Servers for as long as it is open; each is started when it is first asked for."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._numbers = count(1)
        self._redis_databases = iter(range(0, REDIS_DATABASES, 2))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    @cached_property
    def folder(self) -> Path:
        """A folder for logs."""
        return Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))

    @cached_property
    def postgres(self) -> Postgres:
        if given := os.environ.get("DATABASE_URL"):
            return Postgres(sa.make_url(given), is_ours=False)
        server = self._open.enter_context(EmbeddedPostgres())
        return Postgres(sa.make_url(server.url()), is_ours=True)

    @cached_property
    def redis(self) -> Redis:
        return self._open.enter_context(running_redis(self.folder))

    @cached_property
    def rabbitmq(self) -> RabbitMQ:
        return self._open.enter_context(rabbitmq(os.environ.get("AMQP_URL", AMQP_DEFAULT)))

    def next_number(self) -> int:
        """A number for the name of a file."""
        return next(self._numbers)

    def redis_databases(self) -> tuple[str, str]:
        """URLs of two databases of a contender's own: for messages, and for results."""
        first = next(self._redis_databases, None)
        if first is None:
            raise ContenderFailed("Redis has no databases left")
        return self.redis.url(first), self.redis.url(first + 1)


class Postgres:
    """A server on which databases are made and dropped."""

    def __init__(self, admin: sa.URL, *, is_ours: bool) -> None:
        self._admin = admin
        self.is_ours = is_ours

    def url(self, database: str) -> str:
        """The URL of a database as libpq takes it, and SQLAlchemy too."""
        url = self._admin.set(drivername="postgresql", database=database)
        return url.render_as_string(hide_password=False)

    @cached_property
    def pid(self) -> int | None:
        """The postmaster, if it is a process of this machine."""
        with self.connect() as connection:
            backend = connection.info.backend_pid
            with suppress(OSError):
                command = Path(f"/proc/{backend}/cmdline").read_text()
                return parent_of(backend) if "postgres" in command else None
        return None

    @property
    def version(self) -> str:
        """Which one it is."""
        with self.connect() as connection:
            number = _one(connection, "SHOW server_version")
            waits = ("fsync", "synchronous_commit")
            off = [name for name in waits if _one(connection, f"SHOW {name}") == "off"]
        origin = "our own" if self.is_ours else "of DATABASE_URL"
        return f"PostgreSQL {number}, {origin}" + "".join(f", {name} off" for name in off)

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """The name of a new database, a copy of another, which is dropped at the end."""
        name = f"{PREFIX}_{uuid4().hex[:10]}"
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with self.connect() as connection:
            connection.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
        try:
            yield name
        finally:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            with self.connect() as connection:
                connection.execute(drop.format(sql.Identifier(name)))

    def connect(self, database: str | None = None) -> psycopg.Connection:
        return psycopg.connect(self.url(database or self._admin.database or ""), autocommit=True)


class Redis:
    """A redis-server of our own."""

    def __init__(self, process: Process, port: int) -> None:
        self.pid = process.pid
        self._port = port

    def url(self, database: int) -> str:
        return f"redis://127.0.0.1:{self._port}/{database}"


@contextmanager
def running_redis(folder: Path) -> Iterator[Redis]:
    if shutil.which("redis-server") is None:
        raise ContenderFailed("there is no redis-server on the PATH: install Redis")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    command += ["--save", "", "--appendonly", "no", "--databases", str(REDIS_DATABASES)]
    process = Process(command, folder / "redis.log")
    try:
        process.wait_ready("Ready to accept connections")
        yield Redis(process, port)
    finally:
        process.end()


class RabbitMQ:
    """A server that others may use too."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._hosts: list[str] = []

    @cached_property
    def pid(self) -> int | None:
        """The process that listens, if it is one of this machine and we may know."""
        with suppress(psutil.AccessDenied):
            for connection in psutil.net_connections("tcp"):
                is_ours = connection.laddr and connection.laddr.port == (self._url.port or 5672)
                if is_ours and connection.status == psutil.CONN_LISTEN:
                    return connection.pid
        return None

    def new_host(self) -> str:
        """The URL of a new virtual host; of the given one where none may be made."""
        name = f"{PREFIX}_{uuid4().hex[:10]}"
        user = self._url.username or "guest"
        if not _rabbitmqctl("add_vhost", name):
            return urlunsplit(self._url)
        self._hosts.append(name)
        _rabbitmqctl("set_permissions", "-p", name, user, ".*", ".*", ".*")
        return urlunsplit(self._url._replace(path=f"/{quote(name)}"))

    def close(self) -> None:
        """Delete the virtual hosts."""
        for name in self._hosts:
            _rabbitmqctl("delete_vhost", name)


@contextmanager
def rabbitmq(url: str) -> Iterator[RabbitMQ]:
    parts = urlsplit(url)
    try:
        address = parts.hostname or "127.0.0.1", parts.port or 5672
        socket.create_connection(address, timeout=2).close()
    except OSError:
        raise ContenderFailed(f"no RabbitMQ answers at {address[0]}: set AMQP_URL") from None
    server = RabbitMQ(url)
    try:
        yield server
    finally:
        server.close()


def _rabbitmqctl(*words: str) -> bool:
    """Whether the command did it."""
    command = shutil.which("rabbitmqctl") or shutil.which("rabbitmqctl", path="/usr/sbin")
    if command is None:
        return False
    with suppress(subprocess.TimeoutExpired):
        ended = subprocess.run(
            [command, "-q", *words], capture_output=True, timeout=60, check=False
        )
        return ended.returncode == 0
    return False


def _one(connection: psycopg.Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]

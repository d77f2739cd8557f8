"""Databases that tests create and drop: on a server of yours, or on one that is started for them.

Their names have a prefix and a random part, so that any number of test runs share a server.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import NullPool, create_engine, make_url

from celery_durable.database import schema
from celery_durable.database.address import parameters_of
from celery_durable.testing.embedded import EmbeddedPostgres

POSTGRES_15 = 150000

MEMORY, ROOM = Path("/dev/shm"), 4 * 2**30  # noqa: S108 - a folder of its own is made in it
"""Where files are in memory, and how many bytes must be free: a container has 64 MB by default."""


def unique(prefix: str) -> str:
    """A name nobody else has, valid as a database, a queue or a key."""
    return f"{prefix}_{uuid.uuid4().hex[:10]}"


def migrate(url: str) -> None:
    """Bring an empty database to the newest schema of the library."""
    engine = create_engine(url, poolclass=NullPool)  # nobody may be connected to a template
    schema.migrate(engine, schema="public")


class PostgresServer:
    """A server on which tests create and drop databases of their own."""

    def __init__(self, admin_url: str) -> None:
        self.admin_url = admin_url

    def url(self, database: str) -> str:
        """The SQLAlchemy URL (psycopg 3) of a database on this server."""
        url = make_url(self.admin_url).set(drivername="postgresql+psycopg", database=database)
        return url.render_as_string(hide_password=False)

    def create(self, database: str, template: str = "template1") -> None:
        """Create a database as a copy of another, which nobody may be connected to."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(database), sql.Identifier(template)
        )
        with self._connect() as connection:
            connection.execute(statement + _quickest_copy(connection))

    def drop(self, database: str) -> None:
        """Drop a database and whatever is still connected to it."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        with self._connect() as connection:
            connection.execute(statement.format(sql.Identifier(database)))

    @contextmanager
    def database(self, prefix: str, template: str = "template1") -> Iterator[str]:
        """The name of a new database that is dropped at the end."""
        name = unique(prefix)
        self.create(name, template)
        try:
            yield name
        finally:
            self.drop(name)

    @contextmanager
    def migrated(self, prefix: str) -> Iterator[str]:
        """The same, with the library's schema: a template, which nobody connects to."""
        with self.database(prefix) as name:
            migrate(self.url(name))
            yield name

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            **parameters_of("the URL of the tests' server", self.admin_url), autocommit=True
        )


def _quickest_copy(connection: psycopg.Connection) -> sql.SQL:
    """How CREATE DATABASE copies. Files need two checkpoints, which wait for the disk, or do not.

    See "STRATEGY" in the documentation of CREATE DATABASE.
    """
    (fsync,) = connection.execute("SHOW fsync").fetchone() or ("on",)
    has_choice = connection.info.server_version >= POSTGRES_15
    return sql.SQL(" STRATEGY FILE_COPY" if has_choice and fsync == "off" else "")


@contextmanager
def embedded_postgres() -> Iterator[PostgresServer]:
    """A throw-away server. Raises `ConfigurationError` where the wheel that has it is missing."""
    with _in_memory() as directory, EmbeddedPostgres(directory, durable=False) as server:
        yield PostgresServer(server.url("postgres"))


@contextmanager
def _in_memory() -> Iterator[Path | None]:
    """A folder in memory, where there is room: creating a database is mostly creating files."""
    try:
        is_roomy = shutil.disk_usage(MEMORY).free >= ROOM
    except OSError:  # not every system has it
        is_roomy = False
    if not is_roomy:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="durable-test-", dir=MEMORY) as directory:
        Path(directory).chmod(0o711)  # the server's user passes through
        yield Path(directory, "postgres")

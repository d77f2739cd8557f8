"""Migrates the schema, and checks that it is of this release.

The migrations run beside a user's own: their version table is `durable_alembic_version`, in the
same schema as the tables.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from io import StringIO
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from celery_durable.database import rights
from celery_durable.errors import SchemaOutOfDate
from celery_durable.store.connection import SCHEMA, SqlAlchemyConnection
from celery_durable.store.sqlstates import INSUFFICIENT_PRIVILEGE, raise_known
from celery_durable.store.tables import metadata

if TYPE_CHECKING:
    from alembic.config import Config

VERSION_TABLE = "durable_alembic_version"

MIGRATION_LOCK = 0x64757261
"""Key of the advisory lock ("dura") under which one process at a time migrates."""

MIGRATIONS = "celery_durable.database:migrations"

HEAD = "0003"
"""The revision that this release needs: the last in `MIGRATIONS`."""


def migrate(engine: sa.Engine, schema: str, revision: str = "head") -> None:
    """Bring the tables to this release, in one transaction; does nothing if they are current.

    Tables that are at `revision`, or past it, stay as they are. Raises `SchemaOutOfDate` for those
    of a newer release.
    """
    # Only migrating needs Alembic; importing it at the top would cost every worker and client.
    from alembic import command  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = _config()
    try:
        with _transaction(engine) as connection:
            connection.execution_options(schema_translate_map={SCHEMA: schema})
            # Wait for as long as another process migrates: then nothing is left to do here.
            connection.execute(sa.select(sa.func.set_config("lock_timeout", "0", True)))  # noqa: FBT003
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            if not sa.inspect(connection).has_schema(schema):
                # Not IF NOT EXISTS: that needs the right to create, even if the schema exists.
                connection.execute(sa.schema.CreateSchema(schema))
            config.attributes["connection"] = connection
            config.attributes["schema"] = schema
            command.upgrade(config, revision)
    except CommandError as error:
        with engine.connect() as connection:
            found = current(connection, schema)
        raise SchemaOutOfDate(schema, found, HEAD) from error
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == INSUFFICIENT_PRIVILEGE:
            with engine.connect() as connection:
                rights.check_may_create(SqlAlchemyConnection(connection, schema))
        raise_known(error.orig, schema)
        raise


def take_back(engine: sa.Engine, schema: str, revision: str) -> None:
    """Undo the migration `revision` and those after it. What is in their tables is lost."""
    from alembic import command  # noqa: PLC0415

    config = _config()
    with _transaction(engine) as connection:
        connection.execution_options(schema_translate_map={SCHEMA: schema})
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        config.attributes["schema"] = schema
        command.downgrade(config, _before(revision))


def sql_of(schema: str, revision: str) -> str:
    """Return what the migration `revision` executes, to be read."""
    from alembic import command  # noqa: PLC0415

    config = _config()
    config.output_buffer = written = StringIO()
    config.attributes["schema"] = schema
    command.upgrade(config, f"{_before(revision)}:{revision}", sql=True)
    quoted = schema.replace('"', '""')
    return re.sub(rf"\b{SCHEMA}\.(?=durable_)", f'"{quoted}".', written.getvalue())


def empty(engine: sa.Engine, schema: str) -> None:
    """Delete all rows of all tables: runs, journals, workers, definitions."""
    with _transaction(engine) as connection:
        connection.execution_options(schema_translate_map={SCHEMA: schema})
        for table in reversed(metadata.sorted_tables):
            connection.execute(sa.delete(table))


def revisions() -> Sequence[str]:
    """Return the names of all migrations, the first one first."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    found = ScriptDirectory.from_config(_config()).walk_revisions()
    return [script.revision for script in found][::-1]


def _transaction(engine: sa.Engine) -> AbstractContextManager[sa.Connection]:
    """Begin a transaction on a connection of `engine`, also where that is one of autocommit."""
    return engine.execution_options(isolation_level="READ COMMITTED").begin()


def _before(revision: str) -> str:
    names = ["base", *revisions()]
    return names[names.index(revision) - 1]


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    return config


_versions = sa.Table(VERSION_TABLE, sa.MetaData(schema=SCHEMA), sa.Column("version_num", sa.Text))


def current(connection: sa.Connection, schema: str) -> str | None:
    """Return the revision of the tables; None if there are none."""
    if not sa.inspect(connection).has_table(VERSION_TABLE, schema=schema):
        return None
    translated = connection.execution_options(schema_translate_map={SCHEMA: schema})
    return translated.execute(sa.select(_versions.c.version_num)).scalar()


def check(engine: sa.Engine, schema: str) -> None:
    """Raise `SchemaOutOfDate` unless the tables are of this release.

    Raises `ConfigurationError` if the role lacks rights on them.
    """
    try:
        with engine.connect() as connection:
            rights.check(SqlAlchemyConnection(connection, schema), VERSION_TABLE)
            found = current(connection, schema)
    except DBAPIError as error:
        raise_known(error.orig, schema)
        raise
    if found != HEAD:
        raise SchemaOutOfDate(schema, found, HEAD)

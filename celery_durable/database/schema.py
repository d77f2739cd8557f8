"""Migrates the schema, and checks that it is of this release.

The migrations run beside a user's own: their version table is `durable_alembic_version`, in the
same schema as the tables.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from celery_durable.database import rights
from celery_durable.errors import SchemaOutOfDate
from celery_durable.store.connection import SCHEMA, SqlAlchemyConnection
from celery_durable.store.sqlstates import raise_known

VERSION_TABLE = "durable_alembic_version"

MIGRATION_LOCK = 0x64757261
"""Key of the advisory lock ("dura") under which one process at a time migrates."""

MIGRATIONS = "celery_durable.database:migrations"

HEAD = "0001"
"""The revision that this release needs: the last in `MIGRATIONS`."""


def migrate(engine: sa.Engine, schema: str) -> None:
    """Bring the tables to this release, in one transaction; does nothing if they are current."""
    # Only migrating needs Alembic; importing it at the top would cost every worker and client.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    try:
        with engine.begin() as connection:
            connection.execution_options(schema_translate_map={SCHEMA: schema})
            # Wait for as long as another process migrates: then nothing is left to do here.
            connection.execute(sa.select(sa.func.set_config("lock_timeout", "0", True)))  # noqa: FBT003
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            if not sa.inspect(connection).has_schema(schema):
                # Not IF NOT EXISTS: that needs the right to create, even if the schema exists.
                connection.execute(sa.schema.CreateSchema(schema))
            config.attributes["connection"] = connection
            config.attributes["schema"] = schema
            command.upgrade(config, "head")
    except DBAPIError as error:
        raise_known(error.orig, schema)
        raise


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

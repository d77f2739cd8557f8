"""Migrating the schema, and checking that it is current.

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
    """Bring the tables to this release, in one transaction; harmless when they are current."""
    # Only who migrates needs Alembic; every worker and client would pay for importing it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    try:
        with engine.begin() as connection:
            connection.execution_options(schema_translate_map={SCHEMA: schema})
            # However long another takes that migrates: then there is nothing left to do.
            connection.execute(sa.select(sa.func.set_config("lock_timeout", "0", True)))  # noqa: FBT003
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            if not sa.inspect(connection).has_schema(schema):
                # Not IF NOT EXISTS, for which a role needs the right though it is there.
                connection.execute(sa.schema.CreateSchema(schema))
            config.attributes["connection"] = connection
            config.attributes["schema"] = schema
            command.upgrade(config, "head")
    except DBAPIError as error:
        raise_known(error.orig, schema)
        raise


_versions = sa.Table(VERSION_TABLE, sa.MetaData(schema=SCHEMA), sa.Column("version_num", sa.Text))


def current(connection: sa.Connection, schema: str) -> str | None:
    """The revision of the tables, None where there are none."""
    if not sa.inspect(connection).has_table(VERSION_TABLE, schema=schema):
        return None
    translated = connection.execution_options(schema_translate_map={SCHEMA: schema})
    return translated.execute(sa.select(_versions.c.version_num)).scalar()


def check(engine: sa.Engine, schema: str) -> None:
    """Raise `SchemaOutOfDate` unless the tables are of this release, and `ConfigurationError` where
    the role may not use them.
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

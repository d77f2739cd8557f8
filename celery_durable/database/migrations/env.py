"""Alembic's entry point: migrates over the connection that `schema.migrate` hands over.

Without a connection it writes the SQL down.
"""

from alembic import context

from celery_durable.database.schema import VERSION_TABLE
from celery_durable.store.tables import metadata

attributes = context.config.attributes
connection = attributes.get("connection")
context.configure(
    connection=connection,
    dialect_name=None if connection else "postgresql",
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    version_table_schema=attributes["schema"],
)
with context.begin_transaction():
    context.run_migrations()

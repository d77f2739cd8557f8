"""SQL as it is written, for migrations that Alembic has no operations for."""

from __future__ import annotations

from alembic import op

from celery_durable.database.notify import channel


def execute(statements: str) -> None:
    """Execute text as it is: neither SQLAlchemy nor the driver looks for parameters in it.

    `{schema}` stands for the schema of the tables, `{channel}` for the channel on which its relays
    listen.
    """
    schema = op.get_context().opts["version_table_schema"]
    names = {
        "{schema}": '"' + schema.replace('"', '""') + '"',
        "{channel}": "'" + channel(schema).replace("'", "''") + "'",
    }
    for name, value in names.items():
        statements = statements.replace(name, value)
    context = op.get_context()
    if context.as_sql:
        context.impl.static_output(statements)
    else:
        op.get_bind().exec_driver_sql(statements, execution_options={"no_parameters": True})

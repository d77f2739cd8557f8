"""`Revision`, the operation of a migration that executes one of the library's own."""

from __future__ import annotations

from typing import Any

from django.db.migrations.operations.base import Operation

from celery_durable.contrib.django.project import alias_of_project, get_durable
from celery_durable.database import schema
from celery_durable.durable import Durable


class Revision(Operation):
    """Executes a migration of the library, in the database that has the tables and in no other.

    It has a transaction of its own, on a connection of its own, and does nothing where the tables
    are at that revision already, or past it. Taken back, it drops its tables with all runs.
    """

    reduces_to_sql = True
    reversible = True

    def __init__(self, revision: str) -> None:
        self.revision = revision

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        """Return how the operation is written in a migration."""
        return type(self).__name__, [self.revision], {}

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Called when Django works out what models there are: this makes none."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Called by `migrate`, and by `sqlmigrate`, which collects what would be executed."""
        durable = _durable_of(schema_editor)
        if durable is None:
            return
        if schema_editor.collect_sql:
            schema_editor.collected_sql.append(
                schema.sql_of(durable.settings.schema, self.revision)
            )
            return
        schema.migrate(durable.database.engine, durable.settings.schema, self.revision)

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Called when the migration is taken back."""
        durable = _durable_of(schema_editor)
        if durable is not None and not schema_editor.collect_sql:
            schema.take_back(durable.database.engine, durable.settings.schema, self.revision)

    def describe(self) -> str:
        """Return what `migrate --plan` shows."""
        return f"Tables of celery_durable, revision {self.revision}"


def _durable_of(schema_editor: Any) -> Durable | None:
    """Return the Durable, if its tables are in the database that is migrated."""
    return get_durable() if schema_editor.connection.alias == alias_of_project() else None

"""What a context reads of its run's past: one row when it is asked for, nothing before (P11)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from celery_durable.store import codec, journal
from celery_durable.store.database import Database


class Past:
    """The journal of one run."""

    def __init__(self, database: Database, run_id: UUID) -> None:
        self._database = database
        self._run_id = run_id

    def decode(self, text: str) -> Any:
        """A stored value as it was."""
        return codec.loads(text)

    def result(self, unit: str) -> tuple[Any] | None:
        """The result of a completed unit, in a tuple; None when it has not completed."""
        with self._database.autocommit() as connection:
            found = journal.result(connection, self._run_id, unit)
        return (codec.loads(found[0]),) if found else None

    def completed_nodes(self) -> tuple[str, ...]:
        """The nodes that have completed, in order."""
        with self._database.autocommit() as connection:
            return tuple(journal.completed_nodes(connection, self._run_id))

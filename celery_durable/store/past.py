"""What a context reads of its run's past: what is asked for, when it is asked for (P11)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from celery_durable.core.claim import Claim
from celery_durable.store import codec, journal, pulse, results, signals
from celery_durable.store.database import Database
from celery_durable.store.pulse import Pulse

NOTE_LIMIT = 10_000
"""Bytes of JSON that a unit may note of its progress."""


class Past:
    """The journal and the inbox of one run."""

    def __init__(self, database: Database, run_id: UUID) -> None:
        self._database = database
        self._run_id = run_id

    def decode(self, text: str) -> Any:
        """A stored value as it was."""
        return codec.loads(text)

    def result(self, unit: str) -> tuple[Any] | None:
        """The result of a completed unit, in a tuple; None when it has not completed."""
        with self._database.autocommit() as connection:
            return results.of_unit(connection, self._run_id, unit)

    def completed_nodes(self) -> tuple[str, ...]:
        """The nodes that have completed, in order."""
        with self._database.autocommit() as connection:
            return tuple(journal.completed_nodes(connection, self._run_id))

    def input(self, unit: str) -> str | None:
        """JSON text of the item or iteration input of a completed unit that can be undone."""
        with self._database.autocommit() as connection:
            return journal.input_of(connection, self._run_id, unit)

    def signal(self, name: str) -> str | None:
        """JSON text of the newest signal of this name that the run has consumed."""
        with self._database.autocommit() as connection:
            return signals.last_consumed(connection, self._run_id, name)

    def beat(self, claim: Claim, note: dict[str, Any] | None) -> Pulse:
        """Note something about the unit in hand, and see what is asked of it."""
        what = f"the progress of {claim.token.unit}"
        text = None if note is None else codec.dumps(note, what=what, limit=NOTE_LIMIT)
        with self._database.autocommit() as connection:
            return pulse.beat(connection, claim, text)

"""What a context reads of its run when it is asked for, and the note that a unit leaves.

A handler that asks while Postgres is away waits for the answer: that is no failure of its step.
"""

from __future__ import annotations

from typing import Any

from celery_durable.core.claim import Claim
from celery_durable.engine.retrying import Retrying
from celery_durable.errors import DatabaseUnavailable
from celery_durable.store import codec, heartbeat, journal, signals
from celery_durable.store.heartbeat import Heartbeat
from celery_durable.store.read import results

NOTE_LIMIT = 10_000
"""Most bytes of JSON in a note of progress."""


class RunHistory:
    """The journal and the inbox of one run."""

    def __init__(self, retrying: Retrying, claim: Claim) -> None:
        self._retrying = retrying
        self._database = retrying.database
        self._run_id = claim.run.id
        self._heartbeat = Heartbeat(claim.token.flags)

    def decode(self, text: str) -> Any:
        """A stored value as it was."""
        return codec.loads(text)

    def result(self, unit: str) -> tuple[Any] | None:
        """The result of a completed unit, in a tuple; None when it has not completed."""
        return self._retrying.ask(
            lambda connection: results.of_unit(connection, self._run_id, unit)
        )

    def completed_nodes(self) -> tuple[str, ...]:
        """The nodes that have completed, in order."""
        return tuple(
            self._retrying.ask(lambda connection: journal.completed_nodes(connection, self._run_id))
        )

    def input(self, unit: str) -> str | None:
        """JSON text of the item or iteration input of a completed unit that can be undone."""
        return self._retrying.ask(
            lambda connection: journal.input_of(connection, self._run_id, unit)
        )

    def signal(self, name: str) -> str | None:
        """JSON text of the newest signal of this name that the run has consumed."""
        return self._retrying.ask(
            lambda connection: signals.last_consumed(connection, self._run_id, name)
        )

    def beat(self, claim: Claim, note: dict[str, Any] | None) -> Heartbeat:
        """Write the note, if there is one; return the flags of the token, and whether it is ours.

        While Postgres is away this returns the last answer again: the work goes on, and the commit
        is refused if it must be.
        """
        text = None
        if note is not None:
            what = f"the progress of {claim.token.unit}"
            text = codec.dumps(note, what=what, limit=NOTE_LIMIT, setting=None)
        try:
            with self._database.autocommit() as connection:
                self._heartbeat = heartbeat.beat(connection, claim, text)
        except DatabaseUnavailable as error:
            self._database.outage.notice(error)
        else:
            self._database.outage.is_over()
        return self._heartbeat

"""What became of a run: its status, and its result or error, in as few statements as can be.

Waiting for the end of a run reads this again and again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.status import Status
from celery_durable.errors import ErrorRecord
from celery_durable.store import codec, sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.read.listing import error_of_run
from celery_durable.store.read.position import STATUS
from celery_durable.store.read.results import Tree, children_of, entries_of


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The status of a run; the result if it completed, the error if it failed or was cancelled."""

    status: Status
    result: Any
    error: ErrorRecord | None


_entry = entries_of(
    t.run.c.id,
    t.run.c.status == sa.literal_column(f"'{Status.COMPLETED}'"),
    t.run.c.result.is_(None),
)

_OUTCOME = Statement(
    sa.select(
        STATUS,
        sql.json_text(t.run.c.error, "why"),
        t.run.c.cancel_reason,
        sql.json_text(t.run.c.result, "made"),
        *_entry.c,
    )
    .join_from(t.run, _entry, sa.true(), isouter=True)
    .where(t.run.c.id == sql.uuid("run_id"))
    .order_by(_entry.c.position, _entry.c.seq)
)


def outcome(connection: Connection, run_id: UUID) -> RunOutcome | None:
    """Read what became of the run; None if there is no such run.

    That is one statement, and one more if a completed run has results of child runs.
    """
    rows = connection.rows(_OUTCOME, {"run_id": run_id})
    if not rows:
        return None
    status, made = Status(rows[0]["status"]), rows[0]["made"]
    result = None
    if status is Status.COMPLETED and made is None:
        entries = [row for row in rows if row["unit"] is not None]
        tree = Tree(connection, entries)
        if not tree.made.keys() >= {*children_of(entries)}:
            return None  # pruned, with its children, between the two statements
        result = tree.results(run_id)
    elif status is Status.COMPLETED:
        result = codec.loads(made)
    error = error_of_run(rows[0]["why"], status, rows[0]["cancel_reason"])
    return RunOutcome(status, result, error)

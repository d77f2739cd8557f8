"""The journal of a run: the units that ended, in order of completion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.decision import Outcome
from celery_durable.core.failure import FailedAttempt
from celery_durable.errors import ErrorRecord
from celery_durable.store import codec, sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement, one
from celery_durable.store.inheriting import of_origin
from celery_durable.store.rows import error_of, failures_of


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One unit that ended; times are the database's.

    `result` is None unless the unit completed. It is None too where it is made of others' (a
    parallel, map or loop node, a child run): `RunSnapshot.results` has it put together; and where
    results were left out. `size` is how many bytes Postgres keeps of it, compressed. `branch` is
    the name of a branch or a case, `position` the number of an item or an iteration.
    """

    unit: str
    node: str
    outcome: Outcome
    attempt: int
    result: Any
    error: ErrorRecord | None
    failures: tuple[FailedAttempt, ...]
    worker: UUID | None
    started_at: datetime
    finished_at: datetime
    branch: str | None = None
    position: int | None = None
    child_run_id: UUID | None = None
    size: int | None = None


ENTRY = (
    t.journal.c.unit,
    t.journal.c.node,
    t.journal.c.part,
    t.journal.c.position,
    t.journal.c.child_run_id,
    t.journal.c.outcome,
    t.journal.c.attempt,
    sql.json_text(t.journal.c.error),
    sql.json_text(t.journal.c.failures),
    t.journal.c.worker,
    t.journal.c.started_at,
    t.journal.c.finished_at,
    sa.func.pg_column_size(of_origin(t.journal, "result")).label("size"),
)
"""The columns of a `JournalEntry`, without its result."""

_entry = t.journal.alias("entry")
_last = t.journal.alias("last")
_after = (
    sa.select(_last.c.seq)
    .where(_last.c.run_id == sql.uuid("run_id"), _last.c.unit == sql.text("after"))
    .scalar_subquery()
)

# The page is found before anything large is read.
_page = (
    sa.select(_entry.c.unit)
    .where(
        _entry.c.run_id == sql.uuid("run_id"),
        sa.or_(sql.text("after").is_(None), _entry.c.seq > _after),
    )
    .order_by(_entry.c.seq)
    .limit(sql.integer("limit"))
)

_JOURNAL = Statement(
    sa.select(
        *ENTRY,
        sql.json_text(sa.case((sql.boolean("results"), of_origin(t.journal, "result"))), "result"),
    )
    .where(t.journal.c.run_id == sql.uuid("run_id"), t.journal.c.unit.in_(_page))
    .order_by(t.journal.c.seq)
)


def entries(
    connection: Connection,
    run_id: UUID,
    *,
    limit: int | None = None,
    after: str | None = None,
    results: bool = True,
) -> Sequence[JournalEntry]:
    """The units of the run that ended after the unit `after`, in order of completion."""
    parameters = {"run_id": run_id, "after": after, "limit": limit, "results": results}
    return [entry_of(row) for row in connection.rows(_JOURNAL, parameters)]


def entry_of(row: Row) -> JournalEntry:
    """The entry in a row of the journal; its result is None if it was not read."""
    return JournalEntry(
        unit=row["unit"],
        node=row["node"],
        outcome=Outcome(row["outcome"]),
        attempt=row["attempt"],
        result=codec.loads(row["result"]) if "result" in row else None,
        error=error_of(row["error"]),
        failures=failures_of(row["failures"]),
        worker=row["worker"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        branch=row["part"],
        position=row["position"],
        child_run_id=row["child_run_id"],
        size=row["size"],
    )


_HAS_ENDED = Statement(
    sa.select(t.journal.c.unit).where(
        t.journal.c.run_id == sql.uuid("run_id"), t.journal.c.unit == sql.text("unit")
    )
)


def has_ended(connection: Connection, run_id: UUID, unit: str) -> bool:
    """Return True if the unit is in the run's journal."""
    return one(connection, _HAS_ENDED, {"run_id": run_id, "unit": unit}) is not None

"""Reads the journal. Writing it is part of a commit (`commit.statement`)."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.compatibility import Passed
from celery_durable.core.decision import JournalRecord, Outcome, Undo
from celery_durable.core.names import COMPENSATE, SEPARATOR, compensated_by
from celery_durable.core.nodes import Gathers
from celery_durable.core.token import Token
from celery_durable.errors import ErrorRecord
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one
from celery_durable.store.inheriting import of_origin
from celery_durable.store.rows import error_of

_after = t.journal.alias("in_hand")
_undone = t.journal.alias("undone")

_UNDO = Statement(
    sa.select(t.journal.c.unit, t.journal.c.node, t.journal.c.part, t.journal.c.position)
    .where(
        t.journal.c.run_id == sql.uuid("run_id"),
        t.journal.c.undoable,
        # Only where compensations are tried again are there any before it.
        sa.not_(
            sql.there_is(
                _undone.c.run_id == t.journal.c.run_id,
                _undone.c.unit == t.journal.c.unit + sql.word(f"{SEPARATOR}{COMPENSATE}"),
            )
        ),
        t.journal.c.seq
        < sa.func.coalesce(
            sa.select(_after.c.seq)
            .where(
                _after.c.run_id == sql.uuid("run_id"),
                _after.c.unit == sql.text("after"),
            )
            .scalar_subquery(),
            sa.literal_column("9223372036854775807"),
        ),
    )
    .order_by(t.journal.c.seq.desc())
    .limit(sa.literal_column("1"))
)


def next_undo(connection: Connection, token: Token) -> Undo | None:
    """The newest completed unit of the run that is still to be compensated.

    In a rollback it is the unit that completed before the one which is being compensated. A worker
    that has no compensator for it leaves the run to a worker that has.
    """
    after = compensated_by(token.unit) if token.rollback else None
    parameters = {"run_id": token.run_id, "after": after}
    row = one(connection, _UNDO, parameters)
    return Undo(**row) if row else None


_FIRST_FAILED = Statement(
    sa.select(sql.json_text(t.journal.c.error))
    .where(
        t.journal.c.run_id == sql.uuid("run_id"),
        t.journal.c.node == sql.text("node"),
        t.journal.c.outcome == sql.text("outcome"),
    )
    .order_by(t.journal.c.seq)
    .limit(sa.literal_column("1"))
)


def first_failure(connection: Connection, run_id: UUID, node: str) -> ErrorRecord | None:
    """The error of the first unit of the node that has failed for good."""
    parameters = {"run_id": run_id, "node": node, "outcome": Outcome.FAILED}
    row = one(connection, _FIRST_FAILED, parameters)
    return error_of(row["error"]) if row else None


_IS_RECORDED = Statement(
    sa.select(t.journal.c.seq).where(
        t.journal.c.run_id == sql.uuid("run_id"),
        t.journal.c.unit == sql.text("unit"),
        t.journal.c.worker == sql.uuid("worker"),
        t.journal.c.attempt == sql.integer("attempt"),
        t.journal.c.outcome == sql.text("outcome"),
        t.journal.c.error["type"].as_string().is_not_distinct_from(sql.text("error_type")),
    )
)


def is_recorded(connection: Connection, run_id: UUID, worker: UUID, entry: JournalRecord) -> bool:
    """Return True if this worker has recorded `entry`.

    A thread that is late may have another one to say of an attempt than the worker has recorded.
    """
    parameters = {
        "run_id": run_id,
        "unit": entry.unit,
        "worker": worker,
        "attempt": entry.attempt,
        "outcome": entry.outcome,
        "error_type": entry.error and entry.error.type,
    }
    return one(connection, _IS_RECORDED, parameters) is not None


_CHILD = Statement(
    sa.select(t.journal.c.child_run_id).where(
        t.journal.c.run_id == sql.uuid("run_id"), t.journal.c.unit == sql.text("unit")
    )
)


def child_of(connection: Connection, run_id: UUID, unit: str) -> UUID | None:
    """The child run that a unit has recorded."""
    row = one(connection, _CHILD, {"run_id": run_id, "unit": unit})
    return row["child_run_id"] if row else None


_INPUT = Statement(
    sa.select(sql.json_text(of_origin(t.journal, "input"), "input")).where(
        t.journal.c.run_id == sql.uuid("run_id"), t.journal.c.unit == sql.text("unit")
    )
)


def input_of(connection: Connection, run_id: UUID, unit: str) -> str | None:
    """The input of an item or iteration that can be compensated, as JSON text."""
    row = one(connection, _INPUT, {"run_id": run_id, "unit": unit})
    return row["input"] if row else None


_COMPLETED = Statement(
    sa.select(t.journal.c.unit)
    .where(
        t.journal.c.run_id == sql.uuid("run_id"),
        t.journal.c.unit == t.journal.c.node,
        t.journal.c.outcome == sql.text("outcome"),
    )
    .order_by(t.journal.c.seq)
)


def completed_nodes(connection: Connection, run_id: UUID) -> Sequence[str]:
    """The names of the nodes that have completed, in order of completion."""
    parameters = {"run_id": run_id, "outcome": Outcome.COMPLETED}
    return [row["unit"] for row in connection.rows(_COMPLETED, parameters)]


_PASSED = Statement(
    sa.select(t.journal.c.unit, t.journal.c.gathers)
    .where(
        t.journal.c.run_id == sql.uuid("run_id"),
        sa.or_(
            sa.and_(
                t.journal.c.unit == t.journal.c.node,
                t.journal.c.outcome == sql.text("outcome"),
            ),
            t.journal.c.unit == sql.text("unit"),
        ),
    )
    .order_by(t.journal.c.seq)
)


def passed(connection: Connection, token: Token) -> Passed | None:
    """The nodes that the token's run has completed; None if the token's unit is recorded too."""
    parameters = {"run_id": token.run_id, "outcome": Outcome.COMPLETED, "unit": token.unit}
    rows = connection.rows(_PASSED, parameters)
    if any(row["unit"] == token.unit for row in rows):
        return None
    return [(row["unit"], row["gathers"] and Gathers(row["gathers"])) for row in rows]

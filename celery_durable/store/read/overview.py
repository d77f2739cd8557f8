"""A run as it is drawn: its plan, and its journal with items and iterations counted, not listed.

No result is read here, and only the counting costs more the more items there are.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.decision import Outcome
from celery_durable.core.names import COMPENSATE, ROUTE
from celery_durable.core.status import Status
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one
from celery_durable.store.read.history import ENTRY, JournalEntry, entry_of
from celery_durable.store.read.position import STATUS, RunPosition, position


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of a node's items or iterations that have ended; `undone` are the compensated ones."""

    completed: int
    failed: int
    cancelled: int
    undone: int
    undo_failed: int
    started_at: datetime
    finished_at: datetime

    @property
    def ended(self) -> int:
        """How many have ended, however."""
        return self.completed + self.failed + self.cancelled


@dataclass(frozen=True, slots=True)
class Glimpse:
    """Facts of a run of which one changes whenever the drawing does; cheap to read."""

    status: Status
    created_at: datetime
    updated_at: datetime
    journaled: int
    position: RunPosition
    children: Mapping[Status, int]


_PLAN = Statement(
    sa.select(sql.json_text(t.definition.c.plan))
    .where(
        t.definition.c.workflow == sql.text("workflow"),
        sa.or_(sql.integer("version").is_(None), t.definition.c.version == sql.integer("version")),
    )
    .order_by(t.definition.c.version.desc())
    .limit(sa.literal_column("1"))
)


def plan(connection: Connection, workflow: str, version: int | None) -> Mapping[str, Any] | None:
    """The stored plan as data, of the highest version if None is given; None if there is none."""
    row = one(connection, _PLAN, {"workflow": workflow, "version": version})
    found: Mapping[str, Any] | None = json.loads(row["plan"]) if row else None
    return found


_counted = sa.func.json_array_elements_text(sql.json("counted")).table_valued("value")
IS_OF_COUNTED = t.journal.c.node.in_(sa.select(_counted.c.value))
IS_OWN = sa.or_(
    t.journal.c.unit == t.journal.c.node,
    t.journal.c.unit == t.journal.c.node + sql.word(f"#{COMPENSATE}"),
    t.journal.c.unit == t.journal.c.node + sql.word(f"#{ROUTE}"),
)
IS_MINE = t.journal.c.run_id == sql.uuid("run_id")

_ENTRIES = Statement(
    sa.select(*ENTRY)
    .where(IS_MINE, sa.or_(sa.not_(IS_OF_COUNTED), IS_OWN))
    .order_by(t.journal.c.seq)
)


def entries(
    connection: Connection, run_id: UUID, counted: Collection[str]
) -> Sequence[JournalEntry]:
    """The units that have ended, without results, and without items and iterations of `counted`."""
    parameters = {"run_id": run_id, "counted": json.dumps(list(counted))}
    return [entry_of(row) for row in connection.rows(_ENTRIES, parameters)]


IS_UNDO = t.journal.c.unit.like(sa.literal_column(f"'%#{COMPENSATE}'"))


def _count(outcome: Outcome, is_undo: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    ended_so = t.journal.c.outcome == sql.word(outcome)
    return sa.func.count().filter(ended_so, is_undo)


_TALLIES = Statement(
    sa.select(
        t.journal.c.node,
        _count(Outcome.COMPLETED, sa.not_(IS_UNDO)).label("completed"),
        _count(Outcome.FAILED, sa.not_(IS_UNDO)).label("failed"),
        _count(Outcome.CANCELLED, sa.not_(IS_UNDO)).label("cancelled"),
        _count(Outcome.COMPLETED, IS_UNDO).label("undone"),
        _count(Outcome.FAILED, IS_UNDO).label("undo_failed"),
        sa.func.min(t.journal.c.started_at).label("started_at"),
        sa.func.max(t.journal.c.finished_at).filter(sa.not_(IS_UNDO)).label("finished_at"),
    )
    .where(IS_MINE, IS_OF_COUNTED, sa.not_(IS_OWN))
    .group_by(t.journal.c.node)
)


def tallies(connection: Connection, run_id: UUID, counted: Collection[str]) -> Mapping[str, Tally]:
    """The counted items or iterations, by the nodes in `counted`."""
    parameters = {"run_id": run_id, "counted": json.dumps(list(counted))}
    rows = connection.rows(_TALLIES, parameters) if counted else []
    return {row["node"]: Tally(**{k: v for k, v in row.items() if k != "node"}) for row in rows}


_CHILDREN = Statement(
    sa.select(STATUS, sa.func.count().label("runs"))
    .where(t.run.c.parent_run_id == sql.uuid("run_id"))
    .group_by(STATUS)
)


def children(connection: Connection, run_id: UUID) -> Mapping[Status, int]:
    """How many runs this one has started, by status."""
    rows = connection.rows(_CHILDREN, {"run_id": run_id})
    found = {Status(row["status"]): row["runs"] for row in rows}
    return {status: found[status] for status in Status if status in found}


_GLIMPSE = Statement(
    sa.select(
        STATUS,
        t.run.c.created_at,
        t.run.c.updated_at,
        sa.select(sa.func.count())
        .where(t.journal.c.run_id == t.run.c.id)
        .scalar_subquery()
        .label("journaled"),
    ).where(t.run.c.id == sql.uuid("run_id"))
)


def glimpse(connection: Connection, run_id: UUID) -> Glimpse | None:
    """The facts by which two looks at a run are compared; None if there is no such run."""
    row = one(connection, _GLIMPSE, {"run_id": run_id})
    if row is None:
        return None
    return Glimpse(
        Status(row["status"]),
        row["created_at"],
        row["updated_at"],
        row["journaled"],
        position(connection, run_id),
        children(connection, run_id),
    )

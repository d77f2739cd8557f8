"""The journal of a run for people: the items and iterations of a node are counted in one line.

No result is read here, and the rows that are read do not grow with the number of items.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from celery_durable.core.decision import Outcome
from celery_durable.core.failure import FailedAttempt
from celery_durable.errors import ErrorRecord
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement
from celery_durable.store.read.history import ENTRY, JournalEntry, entry_of
from celery_durable.store.read.overview import IS_MINE, IS_OF_COUNTED, IS_OWN, IS_UNDO
from celery_durable.store.read.units import max_attempts
from celery_durable.store.rows import error_of, failures_of


@dataclass(frozen=True, slots=True)
class Group:
    """The items or iterations of a node that have ended, or their compensations.

    `attempt` is the highest; `started_at` and `error` are the first, `finished_at` is the last.
    """

    node: str
    is_undo: bool
    outcomes: Mapping[Outcome, int]
    attempt: int
    workers: int
    started_at: datetime
    finished_at: datetime
    error: ErrorRecord | None

    @property
    def size(self) -> int:
        """How many there are."""
        return sum(self.outcomes.values())


Line = JournalEntry | Group


def _first_unit(*conditions: Any) -> sa.ColumnElement[Any]:
    units = sa.func.array_agg(
        aggregate_order_by(t.journal.c.unit, t.journal.c.seq), type_=ARRAY(sa.Text)
    )
    # Column of a FILTER clause: it can be indexed only in parentheses.
    return sa.type_coerce(units.filter(*conditions), ARRAY(sa.Text))


_grouped = (
    sa.select(
        t.journal.c.node,
        IS_UNDO.label("is_undo"),
        *(
            sa.func.count().filter(t.journal.c.outcome == sql.word(outcome)).label(outcome.value)
            for outcome in Outcome
        ),
        sa.func.max(t.journal.c.attempt).label("attempt"),
        sa.func.count(sa.distinct(t.journal.c.worker)).label("workers"),
        sa.func.min(t.journal.c.started_at).label("started_at"),
        sa.func.max(t.journal.c.finished_at).label("finished_at"),
        sa.func.min(t.journal.c.seq).label("seq"),
        _first_unit(sa.true()).label("units"),
        _first_unit(t.journal.c.error.is_not(None)).label("failed_units"),
    )
    .where(IS_MINE, IS_OF_COUNTED, sa.not_(IS_OWN))
    .group_by(t.journal.c.node, IS_UNDO)
    .subquery()
)

_failed = t.journal.alias("first_failed")

_GROUPS = Statement(
    sa.select(
        *(column for column in _grouped.c if column.key not in ("units", "failed_units")),
        _grouped.c.units[1].label("first_unit"),
        sql.json_text(_failed.c.error),
    ).join_from(
        _grouped,
        _failed,
        sa.and_(
            _failed.c.run_id == sql.uuid("run_id"), _failed.c.unit == _grouped.c.failed_units[1]
        ),
        isouter=True,
    )
)

_alone = sa.func.json_array_elements_text(sql.json("alone")).table_valued("value")

_ENTRIES = Statement(
    sa.select(*ENTRY, t.journal.c.seq).where(
        IS_MINE,
        sa.or_(sa.not_(IS_OF_COUNTED), IS_OWN, t.journal.c.unit.in_(sa.select(_alone.c.value))),
    )
)


def lines(connection: Connection, run_id: UUID, counted: Collection[str]) -> Sequence[Line]:
    """The journal in order; the items and iterations of each node in `counted` are one line."""
    parameters = {"run_id": run_id, "counted": json.dumps(list(counted))}
    rows = connection.rows(_GROUPS, parameters) if counted else []
    found: list[tuple[int, Line]] = []
    alone = []
    for row in rows:
        group = _group(row)
        if group.size > 1:
            found.append((row["seq"], group))
        else:
            alone.append(row["first_unit"])
    entries = connection.rows(_ENTRIES, {**parameters, "alone": json.dumps(alone)})
    found += [(row["seq"], entry_of(row)) for row in entries]
    return [line for _, line in sorted(found, key=lambda one: one[0])]


def _group(row: Row) -> Group:
    return Group(
        node=row["node"],
        is_undo=row["is_undo"],
        outcomes={outcome: row[outcome.value] for outcome in Outcome},
        attempt=row["attempt"],
        workers=row["workers"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        error=error_of(row["error"]),
    )


@dataclass(frozen=True, slots=True)
class Trying:
    """A unit that has failed, and is executed again or will be."""

    unit: str
    attempt: int
    failures: tuple[FailedAttempt, ...]
    worker: UUID | None
    since: datetime
    wake_at: datetime | None
    max_attempts: int | None


_TRYING = Statement(
    sa.select(
        t.token.c.unit,
        t.token.c.attempt,
        sql.json_text(t.token.c.failures),
        t.token.c.claimed_by.label("worker"),
        t.token.c.since,
        sql.ahead(t.token.c.wake_at).label("wake_at"),
        max_attempts(t.token).label("max_attempts"),
    )
    .where(
        t.token.c.run_id == sql.uuid("run_id"),
        t.token.c.failures.is_not(None),
        sa.or_(sql.text("unit").is_(None), t.token.c.unit == sql.text("unit")),
    )
    .order_by(t.token.c.position, t.token.c.unit)
    .limit(sql.integer("limit"))
)


def trying(
    connection: Connection, run_id: UUID, limit: int, *, unit: str | None = None
) -> Sequence[Trying]:
    """The units of the run that have failed and may yet complete: all, or the one that is named."""
    rows = connection.rows(_TRYING, {"run_id": run_id, "limit": limit, "unit": unit})
    return [Trying(**{**row, "failures": failures_of(row["failures"])}) for row in rows]

"""The signals that have come to a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one

SHOWN = 300
"""The most characters of a signal's data that are read."""


@dataclass(frozen=True, slots=True)
class Received:
    """A signal that has come; `data` is the beginning of its JSON text, None for none."""

    id: int
    name: str
    key: str | None
    at: datetime
    is_consumed: bool
    data: str | None
    size: int


_data = sa.cast(t.inbox.c.payload, sa.Text)

_SIGNALS = Statement(
    sa.select(
        t.inbox.c.id,
        t.inbox.c.name,
        t.inbox.c.key,
        t.inbox.c.created_at.label("at"),
        t.inbox.c.consumed_by.is_not(None).label("is_consumed"),
        sa.func.left(_data, sa.literal_column(str(SHOWN))).label("data"),
        sa.func.coalesce(sa.func.octet_length(_data), sa.literal_column("0")).label("size"),
    )
    .where(t.inbox.c.run_id == sql.uuid("run_id"), t.inbox.c.kind == sql.word("signal"))
    .order_by(t.inbox.c.id.desc())
    .limit(sql.integer("limit"))
)


def signals(connection: Connection, run_id: UUID, limit: int) -> Sequence[Received]:
    """The signals of the run, the last first."""
    rows = connection.rows(_SIGNALS, {"run_id": run_id, "limit": limit})
    return [Received(**row) for row in rows]


_ONE = Statement(
    sa.select(_data.label("data")).where(
        t.inbox.c.run_id == sql.uuid("run_id"),
        t.inbox.c.id == sql.big("number"),
        t.inbox.c.kind == sql.word("signal"),
    )
)


def data(connection: Connection, run_id: UUID, number: int) -> str | None:
    """The data of a signal of the run, as JSON text; None if there is no such signal."""
    row = one(connection, _ONE, {"run_id": run_id, "number": number})
    return None if row is None else row["data"] or "null"


_LAST = Statement(
    sa.select(
        sa.select(sa.func.max(t.inbox.c.id))
        .where(t.inbox.c.run_id == sql.uuid("run_id"))
        .scalar_subquery()
        .label("message"),
        sa.select(sa.func.max(t.action.c.id))
        .where(t.action.c.run_id == sql.uuid("run_id"))
        .scalar_subquery()
        .label("action"),
    )
)


@dataclass(frozen=True, slots=True)
class Last:
    """The numbers of the last signal or command for a run, and of what was last done to it."""

    message: int | None
    action: int | None


def last(connection: Connection, run_id: UUID) -> Last:
    """By these two looks at a run are compared."""
    return Last(**connection.rows(_LAST, {"run_id": run_id})[0])

"""Lets time pass without waiting: everything that is stored becomes older.

Postgres' own clock cannot be moved, so the rows are. After `pass_time` by an hour, whatever was
written, or is due, is so an hour earlier than before. Handlers that ask their own clock see nothing
of it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.status import Status
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement

AGEING: tuple[sa.Table, ...] = (t.run, t.token, t.journal, t.outbox, t.inbox, t.pause)
"""Tables whose times pass. Those of workers and relays are signs of life, and stay."""

_by = sql.interval("by")

_failure: Any = (
    sa.func.json_array_elements(t.token.c.failures).table_valued("value").alias("failed")
)


def _moved(field: str) -> sa.ColumnElement[Any]:
    """The time of a failed attempt, moved back."""
    at = sa.cast(_failure.c.value.op("->>")(sql.word(field)), sa.DateTime(timezone=True))
    return sa.func.to_json(at - _by)


# `RetryPolicy.max_elapsed` counts from the first failed attempt.
_failures = (
    sa.select(
        sa.func.json_agg(
            sa.func.json_build_object(
                *(
                    part
                    for field in ("attempt", "error")
                    for part in (sql.word(field), _failure.c.value.op("->")(sql.word(field)))
                ),
                *(
                    part
                    for field in ("started_at", "failed_at")
                    for part in (sql.word(field), _moved(field))
                ),
            )
        )
    )
    .select_from(_failure)
    .scalar_subquery()
)


def _ageing(table: sa.Table) -> Statement:
    older = {
        column.name: column - _by for column in table.c if isinstance(column.type, sa.DateTime)
    }
    if table is t.token:
        older["failures"] = sa.case((t.token.c.failures.is_not(None), _failures))
    return Statement(sa.update(table).values(older))


_AGE = tuple(map(_ageing, AGEING))


def pass_time(connection: Connection, by: timedelta) -> None:
    """Have `by` pass for everything that is stored."""
    for statement in _AGE:
        connection.rows(statement, {"by": by})


_ahead = sa.func.min(t.outbox.c.available_at).filter(t.outbox.c.available_at > sql.clock)
_deadline = sa.func.min(t.run_deadline).filter(
    t.run.c.finished_at.is_(None),
    t.run.c.cancel_requested_at.is_(None),
    t.run.c.status != sql.word(Status.COMPENSATING),
    t.run_deadline > sql.clock,
)
_NEXT = Statement(
    sa.select(
        sql.seconds(
            sa.func.least(
                sa.select(_ahead).scalar_subquery(), sa.select(_deadline).scalar_subquery()
            )
            - sql.clock
        ).label("seconds")
    )
)


def seconds_to_next(connection: Connection) -> float | None:
    """Return the seconds until the next message or deadline is due; None if none will be."""
    return _seconds(connection, _NEXT)


Try = tuple[UUID, int]
"""A token that is tried again, and which attempt that is."""

_NEXT_TRIES = Statement(
    sa.select(
        t.token.c.id, t.token.c.attempt, sql.seconds(t.token.c.wake_at - sql.clock).label("seconds")
    )
    .where(
        t.token.c.failures.is_not(None),
        t.token.c.wait.is_(None),
        t.token.c.claimed_by.is_(None),
        t.token.c.wake_at > sql.clock,
    )
    .order_by(t.token.c.wake_at, t.token.c.id)
)


def next_try(connection: Connection, seen: Collection[Try]) -> tuple[Try, float] | None:
    """Return the next attempt of a unit that has failed, and the seconds until then.

    Attempts that were `seen` are passed over. None if no other waits so.
    """
    for row in connection.rows(_NEXT_TRIES):
        if (found := (row["id"], row["attempt"])) not in seen:
            return found, max(float(row["seconds"]), 0.0)
    return None


def _seconds(connection: Connection, statement: Statement) -> float | None:
    (row,) = connection.rows(statement)
    return None if row["seconds"] is None else max(float(row["seconds"]), 0.0)

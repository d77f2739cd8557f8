"""Finding claimable tokens that nothing is about to move: their hints got lost."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.outbox import put_hints
from celery_durable.store.tokens import IS_CLAIMABLE

_doublings = sa.func.power(
    sa.literal_column("2"), sa.func.least(t.token.c.hints, sa.literal_column("30"))
)

_seconds = sa.func.least(sql.number("first_after") * _doublings, sql.number("at_most"))

_patience: Any = sa.literal_column("interval '1 second'") * _seconds

# What is asked or waited for may have come at any time; what is only due was due from its time on.
_is_only_due = sa.and_(t.token.c.flags == sa.literal_column("0"), t.token.c.wake_at <= sql.clock)
_due_since: Any = sa.func.greatest(t.token.c.hinted_at, t.token.c.wake_at)

_hinted_already = sa.exists().where(
    t.outbox.c.token_id == t.token.c.id,
    t.outbox.c.fence == t.token.c.fence,
    t.outbox.c.available_at <= sql.clock,
)

# One recovery at a time does this: it looks at every unfinished token.
_mine = sa.select(
    sa.func.pg_try_advisory_xact_lock(
        sa.func.hashtext(sql.text("lock_space")), sa.literal_column("0")
    )
).scalar_subquery()

_stalled = (
    sa.select(t.token.c.id)
    .where(
        _mine,
        t.token.c.claimed_by.is_(None),
        IS_CLAIMABLE,
        sa.case((_is_only_due, _due_since), else_=t.token.c.hinted_at) + _patience < sql.clock,
        sa.not_(_hinted_already),
    )
    .limit(sql.integer("batch"))
    .with_for_update(skip_locked=True)
)

_again = (
    sa.update(t.token)
    .where(t.token.c.id.in_(_stalled))
    .values(hinted_at=sql.clock, hints=t.token.c.hints + 1)
    .returning(*t.token.c)
    .cte("again")
)

_HINT_AGAIN = Statement(
    sa.select(_again.c.id).add_cte(put_hints(_again, at=sql.clock).cte("hinted"))
)


def hint_again(
    connection: Connection, batch: int, first_after: timedelta, at_most: timedelta
) -> int:
    """Put a hint for claimable tokens whose last one must be lost; returns how many.

    A hint is taken for lost after `first_after`, then after twice as long each time, never longer
    than `at_most`: a hint that waits in a long broker queue is not lost, and the queue must not be
    flooded.
    """
    parameters = {
        "lock_space": f"durable_recover.{connection.schema}",
        "batch": batch,
        "first_after": first_after.total_seconds(),
        "at_most": at_most.total_seconds(),
    }
    return len(connection.rows(_HINT_AGAIN, parameters))

"""Reaps claims: takes them away from dead workers, and from units that take too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.token import Flags
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one
from celery_durable.store.outbox import HARD_LIMIT_AFTER, LOOK_AT, put_hints


@dataclass(frozen=True, slots=True)
class Claimed:
    """A token that `worker` has claimed.

    `counts`: reaping it counts as a crash of its unit. `timed_out`: its unit has taken longer than
    its time limit, which is a failed attempt and no crash.
    """

    token_id: UUID
    run_id: UUID
    unit: str
    fence: UUID
    worker: UUID
    counts: bool
    timed_out: bool = False


# A pool without time limits of its own does not end a unit that takes too long, so the claim is
# reaped at the limit. The prefork pool ends it, and gives its process time to clean up.
_cleanup = sa.case(
    (t.worker.c.pool == sql.word("prefork"), sa.literal_column(str(2 * HARD_LIMIT_AFTER))),
    else_=sa.literal_column("0"),
)
# A dead worker had time until it died, not until it was declared dead.
_has_timed_out: Any = sa.func.coalesce(
    t.token.c.deadline_at <= sa.func.coalesce(t.worker.c.ended_at, sql.clock), sa.false()
)
_is_gone = sa.or_(t.worker.c.id.is_(None), t.worker.c.ended_at.is_not(None))

_claimed = sa.select(
    t.token.c.id.label("token_id"),
    t.token.c.run_id,
    t.token.c.unit,
    t.token.c.fence,
    t.token.c.claimed_by.label("worker"),
)

ORPHANED = (
    _claimed.add_columns(
        sa.and_(
            sa.func.coalesce(sa.not_(t.worker.c.draining), sa.true()), sa.not_(_has_timed_out)
        ).label("counts"),
        _has_timed_out.label("timed_out"),
    )
    .join_from(t.token, t.worker, t.worker.c.id == t.token.c.claimed_by, isouter=True)
    .where(t.token.c.claimed_by.is_not(None), _is_gone)
    .limit(sql.integer("batch"))
)
"""The columns of a `Claimed`, in their order, of tokens whose workers have ended or have no row."""

_FIND = Statement(ORPHANED)


def find(connection: Connection, batch: int) -> Sequence[Claimed]:
    """Tokens whose workers have ended or have no row: a level, not an edge."""
    return [Claimed(**row) for row in connection.rows(_FIND, {"batch": batch})]


LIMITED = (
    _claimed.add_columns(
        sa.false().label("counts"),
        sa.true().label("timed_out"),
        (t.token.c.time_limit + _cleanup).label("limit"),
    )
    .join_from(t.token, t.worker, t.worker.c.id == t.token.c.claimed_by)
    .where(
        t.token.c.claimed_by.is_not(None),
        t.token.c.deadline_at.is_not(None),
        t.worker.c.ended_at.is_(None),
    )
)
"""The same of tokens that live workers have claimed, and for how many seconds they may execute
them."""


_CLAIMED_BY = Statement(
    _claimed.add_columns(sa.false().label("counts")).where(
        t.token.c.claimed_by == sql.uuid("worker")
    )
)


def claimed_by(connection: Connection, worker: UUID) -> Sequence[Claimed]:
    """Tokens that the worker has claimed according to Postgres, for its audit."""
    return [Claimed(**row) for row in connection.rows(_CLAIMED_BY, {"worker": worker})]


_still_claimed = sa.select(t.token.c.id).where(
    t.token.c.id == sql.uuid("token_id"),
    t.token.c.fence == sql.uuid("old_fence"),
    t.token.c.claimed_by == sql.uuid("holder"),
)

_TIMED_OUT: Any = sa.literal_column(str(int(Flags.TIMED_OUT)))


def _reaping(still_claimed: Any) -> Statement:
    reaped = (
        sa.update(t.token)
        .where(t.token.c.id == still_claimed.scalar_subquery())
        .values(
            claimed_by=sa.null(),
            fence=sql.uuid("new_fence"),
            since=sql.clock,
            crashes=t.token.c.crashes + sa.cast(sql.boolean("counts"), sa.Integer),
            flags=t.token.c.flags.op("|")(
                sa.case(
                    # A parked token is only checked, which is no unit that took too long.
                    (sa.and_(sql.boolean("timed_out"), t.token.c.wait.is_(None)), _TIMED_OUT),
                    else_=sa.literal_column("0"),
                )
            ),
            deadline_at=sa.null(),
            wake_at=sa.case(
                (t.token.c.wait.is_(None), sql.ahead(t.token.c.wake_at)), else_=t.token.c.wake_at
            ),
            hinted_at=sql.clock,
            look_at=LOOK_AT,
            hints=sa.literal_column("0"),
        )
        .returning(*t.token.c)
        .cte("freed")
    )
    return Statement(sa.select(reaped.c.id).add_cte(put_hints(reaped).cte("hinted")))


_REAP = _reaping(_still_claimed.with_for_update())
_REAP_IF_UNLOCKED = _reaping(_still_claimed.with_for_update(skip_locked=True))


def reap(connection: Connection, claimed: Claimed, new_fence: UUID, *, waits: bool = False) -> bool:
    """Take the claim away, and put a hint for the token.

    Returns False if the token has moved on, or if its row is locked: somebody works on it.
    `waits`: wait for a locked row instead; for the holder itself, which does not try again.
    """
    parameters = {
        "token_id": claimed.token_id,
        "old_fence": claimed.fence,
        "holder": claimed.worker,
        "new_fence": new_fence,
        "counts": claimed.counts,
        "timed_out": claimed.timed_out,
    }
    statement = _REAP if waits else _REAP_IF_UNLOCKED
    return one(connection, statement, parameters) is not None

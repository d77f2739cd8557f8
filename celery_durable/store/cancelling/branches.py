"""Ends idle branches, and counts them down at the gates of their parents."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.token import Flags
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.cancelling.selecting import (
    COMPENSATE,
    FLAGS,
    IS_FLAGGED,
    IS_OF_RUNS,
    NONE,
    SKIP,
    listing,
)
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.outbox import LOOK_AT, clear_hints

# An unclaimed branch ends at once. One that waits for a child stays until the child has ended. One
# that is claimed gets the flags. This must agree with `core.rollback`: a branch that is cancelled
# while it waits or is ready leaves, and nothing is recorded.
_locked = (
    sa.select(t.token.c.id, t.token.c.claimed_by, t.token.c.wait, t.token.c.flags)
    .where(IS_OF_RUNS, t.token.c.parent_id.is_not(None))
    .order_by(t.token.c.id)
    .with_for_update(skip_locked=True)
    .cte("locked")
)
_idle = sa.select(_locked.c.id).where(
    _locked.c.claimed_by.is_(None),
    sa.or_(_locked.c.wait.is_(None), _locked.c.wait != sql.word("child")),
    # What was recorded by hand counts, where what counts is undone.
    sa.or_(_locked.c.flags.op("&")(SKIP) == NONE, FLAGS.op("&")(COMPENSATE) == NONE),
)
_ended = (
    sa.delete(t.token)
    .where(t.token.c.id.in_(_idle))
    .returning(t.token.c.id, t.token.c.parent_id)
    .cte("ended")
)
_others = (
    sa.update(t.token)
    .where(
        t.token.c.id.in_(sa.select(_locked.c.id).where(_locked.c.id.not_in(_idle))),
        sa.not_(IS_FLAGGED),
    )
    .values(flags=t.token.c.flags.op("|")(FLAGS), look_at=LOOK_AT)
    .cte("others")
)
_END_BRANCHES = Statement(
    sa.select(_ended.c.parent_id.label("token_id"), sa.func.count().label("ended"))
    .group_by(_ended.c.parent_id)
    .add_cte(_others, clear_hints(_ended).cte("cleared"))
)

_counts: Any = (
    sa.func.json_to_recordset(sql.json("counts"))
    .table_valued(sa.column("token_id", sa.Uuid), sa.column("ended", sa.Integer), name="counts")
    .render_derived(name="counts", with_types=True)
)
_LOCK_PARENTS = Statement(
    sa.select(t.token.c.id)
    .where(
        IS_OF_RUNS,
        t.token.c.wait == sql.word("branches"),
        sa.or_(t.token.c.id.in_(sa.select(_counts.c.token_id)), t.token.c.opened < t.token.c.total),
    )
    .order_by(t.token.c.id)
    .with_for_update()
)
_DROP_ITEMS = Statement(
    sa.delete(t.item).where(
        t.item.c.token_id.in_(
            sa.select(t.token.c.id).where(
                IS_OF_RUNS,
                t.token.c.wait == sql.word("branches"),
                t.token.c.opened < t.token.c.total,
            )
        )
    )
)
_left_now = sa.func.coalesce(
    sa.select(_counts.c.ended).where(_counts.c.token_id == t.token.c.id).scalar_subquery(), NONE
)
_COUNT_DOWN = Statement(
    sa.update(t.token)
    .where(
        IS_OF_RUNS,
        t.token.c.wait == sql.word("branches"),
        sa.or_(t.token.c.id.in_(sa.select(_counts.c.token_id)), t.token.c.opened < t.token.c.total),
    )
    .values(
        remaining=t.token.c.remaining - _left_now - (t.token.c.total - t.token.c.opened),
        opened=t.token.c.total,
        look_at=LOOK_AT,
    )
)


_LEFT = Statement(
    sa.select(
        sa.func.count().label("branches"),
        sa.func.coalesce(sa.func.bool_or(sa.not_(IS_FLAGGED)), sa.false()).label("untold"),
    ).where(IS_OF_RUNS, t.token.c.parent_id.is_not(None))
)


@dataclass(frozen=True, slots=True)
class Left:
    """How many branches are left; `is_any_unflagged`: one was locked, and has no flags yet."""

    branches: int
    is_any_unflagged: bool


def end_branches(connection: Connection, runs: Sequence[UUID], flags: Flags) -> Left:
    """End the idle branches of runs whose flags are raised, and raise the flags of the others.

    Skips branches that are locked.
    """
    parameters = {"runs": listing(runs), "flags": int(flags)}
    rows = connection.rows(_END_BRANCHES, parameters)
    count_down(connection, runs, {row["token_id"]: row["ended"] for row in rows})
    (left,) = connection.rows(_LEFT, parameters)
    return Left(left["branches"], left["untold"])


def count_down(connection: Connection, runs: Sequence[UUID], ended: Mapping[UUID, int]) -> None:
    """Count branches that have ended down at the gates of their parents, and waiting items too.

    `ended` is how many branches of each parent have ended.
    """
    counts = [{"token_id": str(token_id), "ended": n} for token_id, n in ended.items()]
    parameters = {"runs": listing(runs), "counts": json.dumps(counts)}
    if connection.rows(_LOCK_PARENTS, parameters):
        connection.rows(_DROP_ITEMS, {"runs": parameters["runs"]})
        connection.rows(_COUNT_DOWN, parameters)

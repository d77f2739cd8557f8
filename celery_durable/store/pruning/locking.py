"""Locks trees of runs, and says what they hold and who needs them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.pruning.finding import children_of

_tops = (
    sa.select(t.run.c.id.label("top"), t.run.c.id, t.run.c.finished_at)
    .where(t.run.c.id == sa.any_(sql.uuids("ids")))
    .cte("tree", recursive=True)
)
_below = children_of(_tops)
_tree = _tops.union_all(
    sa.select(_tops.c.top, _below.c.id, _below.c.finished_at).join_from(_tops, _below, sa.true())
)
# A recursion computes no more rows than are asked for.
_walked = sa.select(_tree).limit(sql.integer("limit")).subquery("walked")
_locked = (
    sa.select(t.run.c.id)
    .where(t.run.c.id == _walked.c.id)
    .with_for_update(skip_locked=True)
    .offset(sa.literal_column("0"))
    .lateral("locked")
)

_LOCK = Statement(
    sa.select(
        _walked.c.top,
        _walked.c.id,
        _walked.c.finished_at,
        _locked.c.id.is_not(None).label("is_locked"),
    ).join_from(_walked, _locked, sa.true(), isouter=True)
)


@dataclass(frozen=True, slots=True)
class Member:
    """A run of the tree of `top`, as it was before it was locked.

    `is_locked` is False if another transaction has locked it, or deleted it.
    """

    top: UUID
    id: UUID
    finished_at: datetime | None
    is_locked: bool


def lock_trees(connection: Connection, tops: Iterable[UUID], limit: int) -> Sequence[Member]:
    """Lock runs and all runs below them, `limit` rows at most; skip those that others have locked.

    Trees are whole unless there are `limit` rows: a run that has ended starts no other.
    """
    parameters = {"ids": sql.array(tops), "limit": limit}
    return [Member(**row) for row in connection.rows(_LOCK, parameters)]


_fork = t.run.alias("fork")
_forks = (
    sa.select(sa.func.json_agg(_fork.c.id))
    .where(_fork.c.forked_from == t.run.c.id)
    .scalar_subquery()
)
_some_units = (
    sa.select(sa.literal_column("1"))
    .where(t.journal.c.run_id == t.run.c.id)
    .correlate(t.run)
    .limit(sql.integer("limit"))
    .subquery("some_units")
)
_units = sa.select(sa.func.count()).select_from(_some_units).scalar_subquery()

_HOLD = Statement(
    sa.select(
        t.run.c.id,
        t.run.c.finished_at,
        sql.json_text(_forks, "forks"),
        _units.label("units"),
    ).where(t.run.c.id == sa.any_(sql.uuids("ids")))
)


@dataclass(frozen=True, slots=True)
class Holding:
    """A run as it is now, while it is locked.

    `forks` are the runs that read its results; `units` is how many rows of the journal it has, or
    the limit if there are as many.
    """

    id: UUID
    finished_at: datetime | None
    forks: frozenset[UUID]
    units: int


def look(connection: Connection, runs: Iterable[UUID], limit: int) -> Sequence[Holding]:
    """Look at locked runs anew: what was committed before they were locked is seen.

    A fork locks the run that it reads from (FOR KEY SHARE), so none can come after this look.
    """
    rows = connection.rows(_HOLD, {"ids": sql.array(runs), "limit": limit})
    return [
        Holding(
            row["id"],
            row["finished_at"],
            frozenset(map(UUID, json.loads(row["forks"] or "[]"))),
            row["units"],
        )
        for row in rows
    ]

"""Finds runs that may go: tops of trees by their age, and children of runs that are deleted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.status import Status
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one


class Candidate(NamedTuple):
    """A run that may go with all runs below it; `finished_at` is None for an unfinished one."""

    finished_at: datetime | None
    id: UUID


FIRST = Candidate(datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))
"""It is before every candidate."""

IS_TOP: sa.ColumnElement[bool] = t.run.c.parent_run_id.is_(None)

_is_after = sa.tuple_(t.run.c.finished_at, t.run.c.id) > sa.tuple_(
    sql.time("after_time"), sql.uuid("after_id")
)

_fork = t.run.alias("fork")

# Below `now()`, not `clock_timestamp()`: no index finds a time that may change from row to row.
_old_tops = (
    sa.select(t.run.c.finished_at, t.run.c.id)
    .where(
        IS_TOP,
        t.run.c.status == sql.text("status"),
        t.run.c.finished_at <= sa.func.now() - sql.interval("age"),
        _is_after,
    )
    .order_by(t.run.c.finished_at, t.run.c.id)
    .limit(sql.integer("limit"))
)
_has_fork_elsewhere = sql.there_is(
    _fork.c.forked_from == t.run.c.id,
    sa.func.coalesce(_fork.c.root_run_id, _fork.c.id) != t.run.c.id,
)
_TOPS = Statement(_old_tops.where(sa.not_(_has_fork_elsewhere)))
_WITH_FORKED = Statement(_old_tops)


def tops(
    connection: Connection,
    status: Status,
    age: timedelta,
    after: Candidate,
    limit: int,
    *,
    with_forked: bool = False,
) -> Sequence[Candidate]:
    """Runs at the top of a tree that ended so long ago, the oldest first; at most `limit`.

    Those that have a fork are among them only `with_forked`.
    """
    parameters = {
        "status": status.value,
        "age": age,
        "after_time": after.finished_at,
        "after_id": after.id,
        "limit": limit,
    }
    statement = _WITH_FORKED if with_forked else _TOPS
    return [Candidate(**row) for row in connection.rows(statement, parameters)]


_HOW_MANY = Statement(
    sa.select(sa.func.count().label("n")).where(
        IS_TOP,
        t.run.c.status == sql.text("status"),
        t.run.c.finished_at <= sa.func.now() - sql.interval("age"),
    )
)


def how_many(connection: Connection, status: Status, age: timedelta) -> int:
    """How many runs `tops` finds in all, and those that have a fork; read from its index alone."""
    row = one(connection, _HOW_MANY, {"status": status.value, "age": age})
    return int(row["n"]) if row else 0


_CHILDREN = Statement(
    sa.select(t.run.c.finished_at, t.run.c.id)
    .where(t.run.c.parent_run_id == sql.uuid("parent"), t.run.c.id > sql.uuid("after_id"))
    .order_by(t.run.c.id)
    .limit(sql.integer("limit"))
)


def children(
    connection: Connection, parent: UUID, after: Candidate, limit: int
) -> Sequence[Candidate]:
    """Child runs of a deleted run, in the order of their ids; at most `limit`."""
    parameters = {"parent": parent, "after_id": after.id, "limit": limit}
    return [Candidate(**row) for row in connection.rows(_CHILDREN, parameters)]


_THERE = Statement(sa.select(t.run.c.id).where(t.run.c.id == sa.any_(sql.uuids("ids"))))


def still_there(connection: Connection, runs: Iterable[UUID]) -> set[UUID]:
    """Those of the runs that nobody has deleted."""
    return {row["id"] for row in connection.rows(_THERE, {"ids": sql.array(runs)})}


_LEFTOVERS = Statement(
    sa.select(t.leftover.c.run_id)
    .where(t.leftover.c.run_id > sql.uuid("after_id"))
    .order_by(t.leftover.c.run_id)
    .limit(sa.literal_column("1"))
)


def next_leftover(connection: Connection, after: UUID) -> UUID | None:
    """The next deleted run of which rows may be left, in the order of ids."""
    row = one(connection, _LEFTOVERS, {"after_id": after})
    return row["run_id"] if row else None


_top = (
    sa.select(t.run.c.id, sa.func.coalesce(t.run.c.root_run_id, t.run.c.id).label("root"))
    .where(t.run.c.id == sql.uuid("run_id"))
    .cte("tree", recursive=True)
)


def children_of(parent: Any, *more: sa.ColumnElement[Any]) -> Any:
    """The child runs of a row of a tree, looked up for each: the OFFSET keeps Postgres from joining
    the whole table.
    """
    child = t.run.alias("child")
    return (
        sa.select(child.c.id, child.c.finished_at, *more)
        .where(child.c.parent_run_id == parent.c.id)
        .offset(sa.literal_column("0"))
        .lateral("children")
    )


_below = children_of(_top)
_tree = _top.union_all(sa.select(_below.c.id, _top.c.root).join_from(_top, _below, sa.true()))

_member = t.run.alias("member")

_NEEDED = Statement(
    sa.select(_tree.c.id)
    .join_from(_tree, _member, _member.c.id == _tree.c.id)
    .where(
        sa.or_(
            _member.c.finished_at.is_(None),
            sql.there_is(
                _fork.c.forked_from == _tree.c.id,
                sa.func.coalesce(_fork.c.root_run_id, _fork.c.id) != _tree.c.root,
            ),
        )
    )
    .limit(sa.literal_column("1"))
)


def is_needed(connection: Connection, run_id: UUID) -> bool:
    """Return True if the run or one below it is unfinished, or a run elsewhere is its fork.

    Reads the whole tree, and locks nothing: for trees that are too large to be locked.
    """
    return one(connection, _NEEDED, {"run_id": run_id}) is not None

"""Counts what would go: for a dry run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.status import FINISHED, Status
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement

# Whoever would be in the way: the runs of the tree, and the trees of those that were forked from
# them. `is_own` is True for the runs of the tree itself.
_tops = (
    sa.select(t.run.c.id.label("top"), t.run.c.id, sa.true().label("is_own"))
    .where(t.run.c.id == sa.any_(sql.uuids("ids")))
    .cte("around", recursive=True)
)
_child, _fork = t.run.alias("child"), t.run.alias("fork")
_next = (
    sa.union_all(
        sa.select(_child.c.id, _tops.c.is_own.label("is_own"))
        .where(_child.c.parent_run_id == _tops.c.id)
        .correlate(_tops),
        sa.select(sa.func.coalesce(_fork.c.root_run_id, _fork.c.id), sa.false())
        .where(_fork.c.forked_from == _tops.c.id)
        .correlate(_tops),
    )
    .offset(sa.literal_column("0"))
    .lateral("next")
)
_around = _tops.union(
    sa.select(_tops.c.top, _next.c.id, _next.c.is_own).join_from(_tops, _next, sa.true())
)

AGE: Any = sa.case(
    *((t.run.c.status == sql.word(status), sql.interval(status)) for status in sorted(FINISHED))
)
_may_go = sa.func.coalesce(
    sa.case(
        (t.run.c.parent_run_id.is_not(None), t.run.c.finished_at.is_not(None)),
        else_=t.run.c.finished_at <= sa.func.now() - AGE,
    ),
    sa.false(),
)
_run = (
    sa.select(t.run.c.workflow, t.run.c.status, _may_go.label("may_go"))
    .where(t.run.c.id == _around.c.id)
    .offset(sa.literal_column("0"))
    .lateral("run")
)
_judged = (
    sa.select(_around.c.top, _around.c.is_own, *_run.c)
    .join_from(_around, _run, sa.true())
    .cte("judged")
)
_gone = sa.select(_judged.c.top).group_by(_judged.c.top).having(sa.func.bool_and(_judged.c.may_go))

_COUNT = Statement(
    sa.select(_judged.c.workflow, _judged.c.status, sa.func.count().label("runs"))
    .where(_judged.c.is_own, _judged.c.top.in_(_gone))
    .group_by(_judged.c.workflow, _judged.c.status)
)


def count(
    connection: Connection, tops: Iterable[UUID], ages: Mapping[Status, timedelta]
) -> Counter[tuple[str, Status]]:
    """How many runs would go with these tops of trees, by workflow and status.

    A run stays that a fork reads from which would stay itself.
    """
    found: Counter[tuple[str, Status]] = Counter()
    parameters = {"ids": sql.array(tops), **{status.value: ages.get(status) for status in FINISHED}}
    for row in connection.rows(_COUNT, parameters):
        found[row["workflow"], Status(row["status"])] = row["runs"]
    return found

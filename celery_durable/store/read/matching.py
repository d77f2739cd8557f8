"""The runs that a bulk action is about: those of a filter that stand so that it can be done.

What has been done to a run, a second time it does not match: so an action that was interrupted goes
on where it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.status import Status
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.inbox import IS_TO_BE_ASKED
from celery_durable.store.pauses import IS_ITSELF_PAUSED
from celery_durable.store.pruning.counting import AGE
from celery_durable.store.pruning.finding import IS_TOP, Candidate
from celery_durable.store.read import filters
from celery_durable.store.read.filters import RunFilter
from celery_durable.store.read.position import STATUS
from celery_durable.store.signals import HAS_ARRIVED
from celery_durable.store.steering import MAY_BE_TRIED_NOW

_is_unfinished = t.run.c.finished_at.is_(None)

STANDING: Mapping[str, tuple[sa.ColumnElement[bool], ...]] = {
    "to be cancelled": (_is_unfinished, IS_TO_BE_ASKED),
    # The last of a chain of tries is tried again, and those before it are not.
    "not tried again": (t.run.c.retried_as.is_(None),),
    # A retry of a run starts its children anew.
    "nobody's child": (IS_TOP,),
    "between tries": (
        _is_unfinished,
        sql.there_is(t.token.c.run_id == t.run.c.id, MAY_BE_TRIED_NOW),
    ),
    "unfinished": (_is_unfinished,),
    "signal is new": (sa.not_(HAS_ARRIVED),),
    "not paused": (_is_unfinished, sa.not_(IS_ITSELF_PAUSED)),
    "paused": (IS_ITSELF_PAUSED,),
    "compensation failed": filters.CONDITIONS["compensation failed"],
    # By the time alone: a clock that is ahead may have made its id.
    "started before": (t.run.c.created_at < sql.time("began"),),
    "old": (IS_TOP, t.run.c.finished_at <= sa.func.now() - AGE),
}
"""How runs stand, by the names that `Matching` has for it."""


@dataclass(frozen=True, slots=True)
class Matching:
    """The runs of a filter that stand so; `parameters` are those of how they stand."""

    found: RunFilter
    standing: frozenset[str] = frozenset()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    oldest_first: bool = True

    def before(self, began: datetime) -> Matching:
        """The same, without runs that are started at `began` or later."""
        standing = self.standing | {"started before"}
        return replace(self, standing=standing, parameters={**self.parameters, "began": began})

    def all_parameters(self) -> dict[str, Any]:
        """The parameters of all conditions."""
        return {**self.found.parameters(), **self.parameters}


@dataclass(frozen=True, slots=True)
class Match:
    """A run that matches."""

    id: UUID
    workflow: str
    version: int
    finished_at: datetime | None

    @property
    def candidate(self) -> Candidate:
        """The run as one that is to be deleted."""
        return Candidate(self.finished_at, self.id)


_NOW = Statement(sa.select(sql.clock.label("now")))


def now(connection: Connection) -> datetime:
    """The database's time."""
    (row,) = connection.rows(_NOW)
    found: datetime = row["now"]
    return found


@lru_cache(maxsize=256)
def _page_of(
    conditions: frozenset[str],
    standing: frozenset[str],
    columns: tuple[sa.ColumnElement[Any], ...],
    *,
    has_error: bool,
    oldest_first: bool,
) -> Statement:
    others = [one for name in sorted(standing) for one in STANDING[name]]
    page = filters.page(conditions, *others, has_error=has_error, oldest_first=oldest_first)
    order = t.run.c.id if oldest_first else t.run.c.id.desc()
    found = sql.any_of(t.run.c.id, sa.select(page.c.id))
    return Statement(sa.select(*columns).where(found).order_by(order))


_MATCH = (t.run.c.id, t.run.c.workflow, t.run.c.version, t.run.c.finished_at)


def page(
    connection: Connection, these: Matching, limit: int, after: UUID | None = None
) -> Sequence[Match]:
    """The next of the runs, in the order of their ids; `after` is the last of the page before."""
    place = () if after is None else ("after",) if these.oldest_first else ("before",)
    statement = _page_of(
        these.found.conditions().union(place),
        these.standing,
        _MATCH,
        has_error=these.found.error is not None,
        oldest_first=these.oldest_first,
    )
    parameters = {**these.all_parameters(), "limit": limit, "after": after, "before": after}
    return [Match(**row) for row in connection.rows(statement, parameters)]


@dataclass(frozen=True, slots=True)
class Example:
    """One of the runs that match, as a preview shows it."""

    run_id: UUID
    workflow: str
    version: int
    status: Status
    key: str | None


_EXAMPLE = (t.run.c.id.label("run_id"), t.run.c.workflow, t.run.c.version, STATUS, t.run.c.key)


def examples(connection: Connection, these: Matching, limit: int) -> Sequence[Example]:
    """The first of the runs."""
    statement = _page_of(
        these.found.conditions(),
        these.standing,
        _EXAMPLE,
        has_error=these.found.error is not None,
        oldest_first=these.oldest_first,
    )
    rows = connection.rows(statement, {**these.all_parameters(), "limit": limit})
    return [Example(**{**row, "status": Status(row["status"])}) for row in rows]


@lru_cache(maxsize=256)
def _count_of(
    conditions: frozenset[str], standing: frozenset[str], *, has_error: bool
) -> Statement:
    these = [one for name in sorted(conditions) for one in filters.CONDITIONS[name]]
    these += [one for name in sorted(standing) for one in STANDING[name]]
    errors = (filters.ERROR_OF_RUN, filters.ERROR_OF_UNIT) if has_error else ((),)
    arms = [
        sa.select(t.run.c.workflow, STATUS)
        .where(*these, *error)
        .limit(sql.integer("most"))
        .subquery()
        for error in errors
    ]
    found = sa.union_all(*(sa.select(arm) for arm in arms)).limit(sql.integer("most")).subquery()
    return Statement(
        sa.select(found.c.workflow, found.c.status, sa.func.count().label("runs")).group_by(
            found.c.workflow, found.c.status
        )
    )


def count(connection: Connection, these: Matching, most: int | None) -> Counter[tuple[str, Status]]:
    """Count the runs by workflow and status, `most` at most; all of them if that is None."""
    statement = _count_of(
        these.found.conditions(), these.standing, has_error=these.found.error is not None
    )
    rows = connection.rows(statement, {**these.all_parameters(), "most": most})
    return Counter({(row["workflow"], Status(row["status"])): row["runs"] for row in rows})

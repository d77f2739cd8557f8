"""Counts runs by status and by what they stand at, and what has begun, ended and failed lately.

However many runs there are, a count stops at its bound, and says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from celery_durable.core.status import FINISHED, READ_FROM_TOKENS, Status
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement
from celery_durable.store.read.filters import first_id
from celery_durable.store.read.listing import SHOWN
from celery_durable.store.read.position import status_by
from celery_durable.store.read.standstill import kind

MOST_UNFINISHED = 20_000
"""Where the count of unfinished runs of one stored status stops, the oldest first."""

MOST_ENDED = 100_000
"""Where the count of the runs that have ended with one status stops."""

MOST_LATELY = 10_000
"""The most runs that are looked at for what has begun, or ended with one status, lately."""

MOST_FAILURES, MOST_GROUPS = 2_000, 20
"""The most failed runs that are grouped, and groups that are shown."""

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Standing:
    """Unfinished runs of one status that stand at the same kind of thing, and the one that has
    stood longest. `kind` is as in `standstill`.
    """

    status: Status
    kind: str
    runs: int
    since: datetime
    oldest: UUID


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The unfinished runs, counted. `is_all` is False if there are more than were counted."""

    standing: Sequence[Standing]
    is_all: bool

    def by_status(self) -> Mapping[Status, int]:
        """How many there are of each status."""
        found = dict.fromkeys((status for status in Status if status not in FINISHED), 0)
        for one in self.standing:
            found[one.status] += one.runs
        return found


_first = t.token.alias("first")


def _arm(status: Status) -> Any:
    """The oldest unfinished runs of a stored status, each with where its first token stands."""
    is_first = sa.and_(_first.c.run_id == t.run.c.id, _first.c.parent_id.is_(None))
    return (
        sa.select(
            t.run.c.id,
            status_by(_first),
            kind(_first).label("kind"),
            sa.func.coalesce(_first.c.waiting_since, _first.c.since).label("since"),
        )
        .select_from(t.run)
        .join(_first, is_first)
        .where(t.run.c.status == sql.word(status))
        .order_by(t.run.c.id)
        .limit(sa.literal_column(str(MOST_UNFINISHED)))
        .subquery()
    )


_arms = [_arm(one) for one in Status if one not in FINISHED | READ_FROM_TOKENS]
_standing = sa.union_all(*(sa.select(arm) for arm in _arms)).subquery("standing")
_oldest: Any = sa.type_coerce(
    sa.func.array_agg(aggregate_order_by(_standing.c.id, _standing.c.since)), ARRAY(sa.Uuid)
)

_UNFINISHED = Statement(
    sa.select(
        _standing.c.status,
        _standing.c.kind,
        sa.func.count().label("runs"),
        sa.func.min(_standing.c.since).label("since"),
        _oldest[1].label("oldest"),
    )
    .group_by(_standing.c.status, _standing.c.kind)
    .order_by(sa.func.min(_standing.c.since))
)


def unfinished(connection: Connection) -> Unfinished:
    """Count the unfinished runs, by status and by what their first token stands at."""
    rows = connection.rows(_UNFINISHED)
    found = [Standing(**{**row, "status": Status(row["status"])}) for row in rows]
    counts = Counter[Status]()
    for one in found:
        counts[Status.RUNNING if one.status in READ_FROM_TOKENS else one.status] += one.runs
    return Unfinished(found, is_all=max(counts.values(), default=0) < MOST_UNFINISHED)


def _of_status(status: Status) -> Any:
    """The runs that have ended so, up to the bound: of an index alone."""
    return (
        sa.select(t.run.c.status)
        .where(t.run.c.status == sql.word(status))
        .limit(sa.literal_column(str(MOST_ENDED)))
        .subquery()
    )


_ended = sa.union_all(
    *(sa.select(_of_status(status)) for status in Status if status in FINISHED)
).subquery("ended")
_ENDED = Statement(
    sa.select(_ended.c.status, sa.func.count().label("runs")).group_by(_ended.c.status)
)


def ended(connection: Connection) -> Mapping[Status, int]:
    """How many runs have ended with each status; `MOST_ENDED` stands for that many or more."""
    found = {Status(row["status"]): row["runs"] for row in connection.rows(_ENDED)}
    return {status: found.get(status, 0) for status in Status if status in FINISHED}


@dataclass(frozen=True, slots=True)
class Lately:
    """How many runs have begun, or ended so, within the last hour and the last day.

    `oldest` is when the oldest of those began or ended that were looked at; with `is_all` there
    were no more. Runs that are children are not counted.
    """

    hour: int
    day: int
    is_all: bool
    oldest: datetime | None

    def has_hour(self, at: datetime) -> bool:
        """True if all of the hour before `at` were looked at."""
        return self.is_all or (self.oldest is not None and self.oldest <= at - HOUR)

    def pace(self, at: datetime) -> int | None:
        """How many there are in an hour, by those that were looked at; None if these are all."""
        if self.is_all or self.oldest is None or self.oldest >= at:
            return None
        return round(self.day / ((at - self.oldest) / HOUR))


NOTHING = Lately(0, 0, is_all=True, oldest=None)

_newest = (
    sa.select(t.run.c.created_at.label("at"), t.run.c.parent_run_id)
    .where(t.run.c.id >= sql.uuid("first_id"))
    .order_by(t.run.c.id.desc())
    .limit(sa.literal_column(str(MOST_LATELY)))
    .subquery("newest")
)


def _counts(found: Any, *conditions: sa.ColumnElement[bool]) -> tuple[sa.ColumnElement[Any], ...]:
    return (
        sa.func.count().filter(found.c.at >= sql.time("hour"), *conditions).label("hour"),
        sa.func.count().filter(found.c.at >= sql.time("day"), *conditions).label("day"),
        sa.func.count().label("looked_at"),
        sa.func.min(found.c.at).label("oldest"),
    )


_STARTED = Statement(sa.select(*_counts(_newest, _newest.c.parent_run_id.is_(None))))


def _ended_lately(status: Status) -> Any:
    """The runs that have ended so, the last first, by the index that retention reads too."""
    return (
        sa.select(t.run.c.status, t.run.c.finished_at.label("at"))
        .where(
            t.run.c.parent_run_id.is_(None),
            t.run.c.finished_at.is_not(None),
            t.run.c.status == sql.word(status),
            t.run.c.finished_at >= sql.time("day"),
        )
        .order_by(t.run.c.finished_at.desc())
        .limit(sa.literal_column(str(MOST_LATELY)))
        .subquery()
    )


_lately = sa.union_all(
    *(sa.select(_ended_lately(status)) for status in Status if status in FINISHED)
).subquery("lately")
_ENDED_LATELY = Statement(sa.select(_lately.c.status, *_counts(_lately)).group_by(_lately.c.status))

_NOW = Statement(sa.select(sql.clock.label("now")))


def now(connection: Connection) -> datetime:
    """The database's time."""
    found: datetime = connection.rows(_NOW)[0]["now"]
    return found


def started_lately(connection: Connection, at: datetime) -> Lately:
    """How many runs were created lately, as seen at `at`."""
    parameters = {"hour": at - HOUR, "day": at - DAY, "first_id": first_id(at - DAY)}
    (row,) = connection.rows(_STARTED, parameters)
    return _of_lately(row)


def ended_lately(connection: Connection, at: datetime) -> Mapping[Status, Lately]:
    """How many runs have ended lately, as seen at `at`, by status."""
    rows = connection.rows(_ENDED_LATELY, {"hour": at - HOUR, "day": at - DAY})
    found = {Status(row["status"]): _of_lately(row) for row in rows}
    return {s: found.get(s, NOTHING) for s in Status if s in FINISHED}


def _of_lately(row: Row) -> Lately:
    return Lately(row["hour"], row["day"], row["looked_at"] < MOST_LATELY, row["oldest"])


@dataclass(frozen=True, slots=True)
class Failures:
    """Runs of one workflow that have failed with errors of one type.

    `run_id`, `at` and `message` are those of the last; the message is cut.
    """

    workflow: str
    error: str
    runs: int
    run_id: UUID
    at: datetime
    message: str


_failed = (
    sa.select(
        t.run.c.id,
        t.run.c.workflow,
        t.run.c.finished_at,
        t.run.c.error.op("->>")(sql.word("type")).label("type"),
        sa.func.left(
            t.run.c.error.op("->>")(sql.word("message")), sa.literal_column(str(SHOWN))
        ).label("message"),
    )
    .where(
        t.run.c.parent_run_id.is_(None),
        t.run.c.finished_at.is_not(None),
        t.run.c.status == sql.word(Status.FAILED),
        t.run.c.finished_at >= sql.time("day"),
    )
    .order_by(t.run.c.finished_at.desc())
    .limit(sa.literal_column(str(MOST_FAILURES)))
    .subquery("failed")
)


def _of_the_last(column: sa.ColumnElement[Any], type_: Any) -> sa.ColumnElement[Any]:
    found = sa.func.array_agg(aggregate_order_by(column, _failed.c.finished_at.desc()))
    last: sa.ColumnElement[Any] = sa.type_coerce(found, ARRAY(type_))[1]
    return last


_FAILURES = Statement(
    sa.select(
        _failed.c.workflow,
        _failed.c.type.label("error"),
        sa.func.count().label("runs"),
        _of_the_last(_failed.c.id, sa.Uuid).label("run_id"),
        sa.func.max(_failed.c.finished_at).label("at"),
        sa.func.coalesce(_of_the_last(_failed.c.message, sa.Text), sql.word("")).label("message"),
    )
    .group_by(_failed.c.workflow, _failed.c.type)
    .order_by(sa.func.count().desc(), sa.func.max(_failed.c.finished_at).desc())
    .limit(sa.literal_column(str(MOST_GROUPS)))
)


def failures(connection: Connection, at: datetime) -> Sequence[Failures]:
    """The failures of the day before `at`, the most frequent first."""
    return [Failures(**row) for row in connection.rows(_FAILURES, {"day": at - DAY})]

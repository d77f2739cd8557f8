"""Which runs a list has, and in which order Postgres finds them.

A statement has only the conditions that are asked for: what is left out must not keep Postgres from
an index. Each finds runs newest first, by the key of the runs or by an index that ends with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from celery_durable.arguments import (
    checked_ended_since,
    checked_error,
    checked_flag,
    checked_key,
    checked_run_id,
    checked_status,
    checked_tags,
    checked_time,
    checked_workflow,
)
from celery_durable.core.decision import Outcome
from celery_durable.core.names import COMPENSATE
from celery_durable.core.status import FINISHED, READ_FROM_TOKENS, Status
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.read.position import STATUS
from celery_durable.store.read.units import last_failure

CLOCKS_DIFFER = 3_600_000
"""Milliseconds by which the clock of who starts a run may differ from the database's.

A run's id has the first, `created_at` the second.
"""


@dataclass(frozen=True, slots=True)
class ErrorFilter:
    """The type of an error, with its module or without, and a part of its message, or nothing."""

    type: str
    words: str = ""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """What the runs of a list have in common; None, and no tags, for all of them.

    They were created at `since` or later, and before `until`. They are no children, and have ended
    at `ended_since` or later, with `status`. They have not ended, and nothing of them has moved at
    `standing_since` or later.
    """

    status: Status | None = None
    workflow: str | None = None
    parent: UUID | None = None
    tags: Mapping[str, str] | None = None
    key: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    error: ErrorFilter | None = None
    compensation_failed: bool | None = None
    ended_since: datetime | None = None
    standing_since: datetime | None = None

    def with_status(self, status: Status) -> RunFilter:
        """The same filter, for runs of this status."""
        return replace(self, status=status)

    def parameters(self) -> dict[str, Any]:
        """The parameters of the conditions."""
        return {
            "status": self.status,
            "workflow": self.workflow,
            "parent": self.parent,
            "tags": json.dumps(dict(self.tags or {})),
            "key": self.key,
            "since": self.since,
            "until": self.until,
            "first_id": None if self.since is None else first_id(self.since),
            "last_id": None if self.until is None else last_id(self.until),
            "error_type": self.error.type if self.error else None,
            "error_name": self.error.type.rpartition(".")[2] if self.error else None,
            "error_words": self.error.words if self.error else None,
            "ended_since": self.ended_since,
            "standing_since": self.standing_since,
            "last_standing": None if self.standing_since is None else last_id(self.standing_since),
        }

    def conditions(self) -> frozenset[str]:
        """The names of the conditions that hold for the runs, without that on their error."""
        asked = {
            "workflow": self.workflow is not None,
            "parent": self.parent is not None,
            "tags": bool(self.tags),
            "key": self.key is not None,
            "key of any workflow": self.key is not None and self.workflow is None,
            "since": self.since is not None,
            "until": self.until is not None,
            "status": self.status is not None and self.status not in READ_FROM_TOKENS,
            "running": self.status is Status.RUNNING,
            "status read from tokens": self.status in READ_FROM_TOKENS,
            "compensation failed": self.compensation_failed is True,
            "compensation not failed": self.compensation_failed is False,
            "ended since": self.ended_since is not None,
            "standing since": self.standing_since is not None,
            "unfinished": self.standing_since is not None and self.status is None,
        }
        return frozenset(name for name, is_asked in asked.items() if is_asked)


def checked_filter(
    *,
    status: str | None = None,
    workflow: str | None = None,
    parent: UUID | str | None = None,
    tags: Mapping[str, str] | None = None,
    key: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    error: str | None = None,
    compensation_failed: bool | None = None,
    ended_since: datetime | None = None,
    standing_since: datetime | None = None,
) -> RunFilter:
    """The filter that a caller's arguments describe. Raises `ConfigurationError`."""
    kind_and_words = checked_error(error)
    if compensation_failed is not None:
        checked_flag("compensation_failed", compensation_failed)
    return RunFilter(
        status=checked_status(status),
        workflow=None if workflow is None else checked_workflow(workflow),
        parent=checked_run_id(parent) if parent else None,
        tags=checked_tags(tags),
        key=checked_key(key),
        since=checked_time("since", since),
        until=checked_time("until", until),
        error=None if kind_and_words is None else ErrorFilter(*kind_and_words),
        compensation_failed=compensation_failed,
        ended_since=checked_ended_since(ended_since, status),
        standing_since=checked_time("standing_since", standing_since),
    )


def first_id(since: datetime) -> UUID:
    """The lowest id that a run may have which was created at `since` or later."""
    return UUID(int=max(_milliseconds(since) - CLOCKS_DIFFER, 0) << 80)


def last_id(until: datetime) -> UUID:
    """The first id that is higher than that of every run which was created before `until`."""
    return UUID(int=max(_milliseconds(until) + CLOCKS_DIFFER, 0) + 1 << 80)


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _ids(found: sa.Select[Any]) -> sa.ColumnElement[Any]:
    """The ids that a query finds: an array, so that Postgres looks each up by its key."""
    return sa.func.array(found.scalar_subquery(), type_=ARRAY(sa.Uuid))


COMPENSATION_FAILED: tuple[sa.ColumnElement[bool], ...] = (
    t.journal.c.outcome == sql.word(Outcome.FAILED),
    t.journal.c.position.is_(None),
    t.journal.c.unit.like(sql.word(f"%#{COMPENSATE}")),
)
"""True of the entry of a compensation that has failed for good, as in `durable_journal`'s index."""

MOST_ENDED = 10_000
"""Where `ended_since` stops: at so many runs, those that have ended last."""

_ended = t.run.alias("ended")
_ended_since = (
    sa.select(_ended.c.id)
    .where(
        _ended.c.parent_run_id.is_(None),
        _ended.c.finished_at.is_not(None),
        _ended.c.status == sql.text("status"),
        _ended.c.finished_at >= sql.time("ended_since"),
    )
    .order_by(_ended.c.finished_at.desc(), _ended.c.id.desc())
    .limit(sa.literal_column(str(MOST_ENDED)))
)

_UNFINISHED = [sql.word(one) for one in Status if one not in FINISHED | READ_FROM_TOKENS]

_has_key = sa.select(t.definition.c.workflow).distinct()

CONDITIONS: Mapping[str, tuple[sa.ColumnElement[bool], ...]] = {
    "workflow": (t.run.c.workflow == sql.text("workflow"),),
    "parent": (t.run.c.parent_run_id == sql.uuid("parent"),),
    "tags": (t.run.c.tags.contains(sa.cast(sql.text("tags"), JSONB)),),
    "key": (t.run.c.key == sql.text("key"),),
    # A key is unique per workflow, and its index begins with the workflow.
    "key of any workflow": (t.run.c.workflow.in_(_has_key),),
    "since": (t.run.c.created_at >= sql.time("since"), t.run.c.id >= sql.uuid("first_id")),
    "until": (t.run.c.created_at < sql.time("until"), t.run.c.id < sql.uuid("last_id")),
    "before": (t.run.c.id < sql.uuid("before"),),
    "after": (t.run.c.id > sql.uuid("after"),),
    "status": (t.run.c.status == sql.text("status"),),
    "running": (t.run.c.status == sql.word(Status.RUNNING), sql.word(Status.RUNNING) == STATUS),
    "status read from tokens": (
        t.run.c.status == sql.word(Status.RUNNING),
        sql.text("status") == STATUS,
    ),
    "compensation failed": (
        t.run.c.id == sa.any_(_ids(sa.select(t.journal.c.run_id).where(*COMPENSATION_FAILED))),
    ),
    "compensation not failed": (
        sa.not_(sql.there_is(t.journal.c.run_id == t.run.c.id, *COMPENSATION_FAILED)),
    ),
    "ended since": (t.run.c.id == sa.any_(_ids(_ended_since)),),
    "unfinished": (t.run.c.status.in_(_UNFINISHED),),
    "standing since": (
        t.run.c.finished_at.is_(None),
        t.run.c.created_at < sql.time("standing_since"),
        t.run.c.id < sql.uuid("last_standing"),
        sa.not_(
            sql.there_is(
                t.token.c.run_id == t.run.c.id, t.token.c.since >= sql.time("standing_since")
            )
        ),
    ),
}


def _is_asked_for(error: Any) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions on an error that is JSON; the first, on the class's own name, is of an index."""
    kind = error.op("->>")(sql.word("type"))
    asked = sql.word(".") + sql.text("error_type")
    words = sa.func.coalesce(error.op("->>")(sql.word("message")), sql.word(""))
    return (
        sa.func.regexp_replace(kind, sql.word("^.*[.]"), sql.word("")) == sql.text("error_name"),
        sa.func.right(sql.word(".") + kind, sa.func.length(asked)) == asked,
        sa.func.strpos(words, sql.text("error_words")) > sa.literal_column("0"),
    )


ERROR_OF_RUN = _is_asked_for(t.run.c.error)
"""The run has failed, or is compensating, with this error."""

ERROR_OF_UNIT = (
    t.run.c.error.is_(None),
    t.run.c.id
    == sa.any_(
        _ids(
            sa.select(t.token.c.run_id).where(
                t.token.c.failures.is_not(None),
                *_is_asked_for(last_failure(t.token).op("->")(sql.word("error"))),
            )
        )
    ),
)
"""The last attempt of a unit has failed with it, and the unit is tried again."""


def page(
    conditions: frozenset[str],
    *others: sa.ColumnElement[bool],
    has_error: bool,
    oldest_first: bool = False,
) -> Any:
    """The ids of the newest runs, or the oldest, of which all conditions are true, as a subquery.

    `others` are conditions besides those of a filter.
    """
    these = [*(one for name in sorted(conditions) for one in CONDITIONS[name]), *others]
    if not has_error:
        return _first(t.run.c.id, *these, oldest_first=oldest_first).subquery("page")
    arms = [
        _first(t.run.c.id, *these, *error, oldest_first=oldest_first).subquery()
        for error in (ERROR_OF_RUN, ERROR_OF_UNIT)
    ]
    found = sa.union_all(*(sa.select(arm.c.id) for arm in arms)).subquery("found")
    return _first(found.c.id, oldest_first=oldest_first).subquery("page")


def _first(
    run_id: sa.ColumnElement[Any], *conditions: sa.ColumnElement[bool], oldest_first: bool
) -> sa.Select[Any]:
    order = run_id if oldest_first else run_id.desc()
    return sa.select(run_id).where(*conditions).order_by(order).limit(sql.integer("limit"))

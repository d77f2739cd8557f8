"""The workflows of which plans are stored, and how many runs of each there are.

However many runs there are, a count stops at its bound, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from celery_durable.core.status import FINISHED, READ_FROM_TOKENS, Status
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.read.position import STATUS

MOST_UNFINISHED = 5_000
"""Where the count of unfinished runs of one stored status stops, the newest first."""

MOST_ENDED = 10_000
"""Where the count of runs that have ended with one status lately stops, the last first."""


@dataclass(frozen=True, slots=True)
class StoredWorkflow:
    """A version of a workflow; `nodes` are how many it has, `stored_at` when it was last stored."""

    workflow: str
    version: int
    nodes: int
    stored_at: datetime


_STORED = Statement(
    sa.select(
        t.definition.c.workflow,
        t.definition.c.version,
        sa.func.jsonb_array_length(t.definition.c.plan["nodes"]).label("nodes"),
        t.definition.c.stored_at,
    ).order_by(t.definition.c.workflow, t.definition.c.version.desc())
)


def stored(connection: Connection) -> Sequence[StoredWorkflow]:
    """All versions of all workflows, by name, the highest version first."""
    return [StoredWorkflow(**row) for row in connection.rows(_STORED)]


@dataclass(frozen=True, slots=True)
class Count:
    """How many runs of one version have a status. Of ended ones those of the last day count."""

    workflow: str
    version: int
    status: Status
    runs: int


def _unfinished(status: Status) -> Any:
    newest = (
        sa.select(t.run.c.id)
        .where(t.run.c.status == sql.word(status))
        .order_by(t.run.c.id.desc())
        .limit(sa.literal_column(str(MOST_UNFINISHED)))
        .subquery()
    )
    return sa.select(t.run.c.workflow, t.run.c.version, STATUS).select_from(
        sa.join(newest, t.run, t.run.c.id == newest.c.id)
    )


def _ended(status: Status) -> Any:
    lately = (
        sa.select(t.run.c.workflow, t.run.c.version, t.run.c.status)
        .where(
            t.run.c.parent_run_id.is_(None),
            t.run.c.finished_at.is_not(None),
            t.run.c.status == sql.word(status),
            t.run.c.finished_at >= sa.func.now() - sa.cast(sql.word("1 day"), sa.Interval),
        )
        .order_by(t.run.c.finished_at.desc())
        .limit(sa.literal_column(str(MOST_ENDED)))
        .subquery()
    )
    return sa.select(lately)


_stored_statuses = [one for one in Status if one not in FINISHED | READ_FROM_TOKENS]
_found = sa.union_all(
    *(sa.select(_unfinished(status).subquery()) for status in _stored_statuses),
    *(_ended(status) for status in Status if status in FINISHED),
).subquery("found")

_COUNTS = Statement(
    sa.select(
        _found.c.workflow, _found.c.version, _found.c.status, sa.func.count().label("runs")
    ).group_by(_found.c.workflow, _found.c.version, _found.c.status)
)


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of all workflows. `is_all` is False if there are more runs than were counted."""

    counts: Sequence[Count]
    is_all: bool


def counts(connection: Connection) -> Counts:
    """Count the unfinished runs, and those that have ended within a day; children count, too,
    until they end.
    """
    rows = connection.rows(_COUNTS)
    found = [Count(**{**row, "status": Status(row["status"])}) for row in rows]
    unfinished = sum(one.runs for one in found if one.status not in FINISHED)
    ended = max((one.runs for one in found if one.status in FINISHED), default=0)
    return Counts(found, is_all=unfinished < MOST_UNFINISHED and ended < MOST_ENDED)

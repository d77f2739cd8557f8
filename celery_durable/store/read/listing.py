"""Lists of runs: each a page, read in one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.status import Status
from celery_durable.errors import ErrorRecord
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement
from celery_durable.store.read import filters
from celery_durable.store.read.filters import RunFilter
from celery_durable.store.read.position import STATUS
from celery_durable.store.read.units import UnitInHand, last_failure, unit_columns, unit_of
from celery_durable.store.rows import error_of


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of a list of runs.

    `error` is why it failed or was cancelled, or the last error of a unit that is tried again,
    without the traceback; its message is cut at 200 characters. `standing` is where an unfinished
    run stands: of a run that has forked, the node that has; its `failure` is cut in the same way.
    """

    run_id: UUID
    workflow: str
    version: int
    status: Status
    key: str | None
    tags: Mapping[str, str]
    parent_run_id: UUID | None
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    error: ErrorRecord | None = None
    standing: UnitInHand | None = None


CHILDREN_SHOWN = 100

SHOWN = 200
"""The most characters of an error's message in a list of runs."""

FACTS = (
    t.run.c.id.label("run_id"),
    t.run.c.workflow,
    t.run.c.version,
    STATUS,
    t.run.c.key,
    t.run.c.tags,
    t.run.c.parent_run_id,
    t.run.c.created_at,
    t.run.c.started_at,
    t.run.c.updated_at,
    t.run.c.finished_at,
)
"""What lists and snapshots say of a run alike."""


def _in_short(error: Any) -> sa.ColumnElement[Any]:
    """The error without its traceback, its message cut; NULL for none."""
    kind, message, unit = (error.op("->>")(sql.word(key)) for key in ("type", "message", "unit"))
    short = sa.func.left(message, sa.literal_column(str(SHOWN)))
    return sa.case(
        (error.is_not(None), _object({"type": kind, "message": short, "unit": unit})),
    )


def _object(fields: Mapping[str, Any]) -> sa.ColumnElement[Any]:
    pairs = [part for key, value in fields.items() for part in (sql.word(key), value)]
    return sa.func.json_build_object(*pairs)


def _failure_in_short(failure: Any) -> sa.ColumnElement[Any]:
    """The failed attempt, its error in short; NULL for none."""
    fields = {
        key: failure.op("->")(sql.word(key)) for key in ("attempt", "started_at", "failed_at")
    }
    fields["error"] = _in_short(failure.op("->")(sql.word("error")))
    return sa.case((failure.is_not(None), _object(fields)))


_first = t.token.alias("first")
"""The token of a run that is no branch."""

_branch = t.token.alias("branch")
_failure_of_a_branch = (
    sa.select(_in_short(last_failure(_branch).op("->")(sql.word("error"))))
    .where(_branch.c.run_id == t.run.c.id, _branch.c.failures.is_not(None))
    .limit(sa.literal_column("1"))
    .scalar_subquery()
)

_last_error: Any = last_failure(_first).op("->")(sql.word("error"))
_error = sa.case(
    (t.run.c.error.is_not(None), _in_short(t.run.c.error)),
    (_first.c.failures.is_not(None), _in_short(_last_error)),
    (_first.c.wait == sql.word("branches"), _failure_of_a_branch),
)


@lru_cache(maxsize=1024)
def _list(conditions: frozenset[str], *, has_error: bool) -> Statement:
    """The statement for a page of the runs of which the conditions are true."""
    page = filters.page(conditions, has_error=has_error)
    is_first = sa.and_(_first.c.run_id == t.run.c.id, _first.c.parent_id.is_(None))
    return Statement(
        sa.select(
            *FACTS,
            sql.json_text(_error, "error"),
            t.run.c.cancel_reason,
            *unit_columns(_first, _failure_in_short(last_failure(_first))),
        )
        .select_from(page)
        .join(t.run, t.run.c.id == page.c.id)
        .join(_first, is_first, isouter=True)
        .join(t.worker, t.worker.c.id == _first.c.claimed_by, isouter=True)
        .order_by(t.run.c.id.desc())
    )


def statement_for(found: RunFilter, before: UUID | None) -> Statement:
    """The statement that reads a page of these runs."""
    conditions = found.conditions() | ({"before"} if before else set())
    return _list(conditions, has_error=found.error is not None)


def list_runs(
    connection: Connection, found: RunFilter, *, limit: int, before: UUID | None = None
) -> Sequence[RunSummary]:
    """The newest of the runs first; `before` is the last run id of the page before."""
    parameters = {**found.parameters(), "limit": limit, "before": before}
    return [_summary(row) for row in connection.rows(statement_for(found, before), parameters)]


def children(connection: Connection, run_id: UUID) -> Sequence[RunSummary]:
    """The runs that this one started, the newest first, at most `CHILDREN_SHOWN`."""
    return list_runs(connection, RunFilter(parent=run_id), limit=CHILDREN_SHOWN)


def _summary(row: Row) -> RunSummary:
    status = Status(row["status"])
    facts = {column.key: row[column.key] for column in FACTS}
    error = error_of_run(row["error"], status, row["cancel_reason"])
    standing = None if row["unit"] is None else unit_of(row)
    return RunSummary(**{**facts, "status": status, "error": error, "standing": standing})


def error_of_run(text: str | None, status: Status, reason: str | None) -> ErrorRecord | None:
    """The error of a run, from its JSON text; that of a cancelled run is why it was cancelled."""
    if status is Status.CANCELLED and text is None:
        return ErrorRecord("RunCancelled", reason or "")
    return error_of(text)

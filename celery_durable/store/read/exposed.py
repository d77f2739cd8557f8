"""The views that users' own queries read: runs, and the units that they have recorded.

The migrations create them; a test holds the two equal. They say what `status()` and `history()`
say, and change with them: then a migration replaces the view.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from celery_durable.core.status import Status
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import SCHEMA
from celery_durable.store.inheriting import of_origin
from celery_durable.store.read.position import STATUS

RUN_VIEW, UNIT_VIEW = "durable_workflow_run", "durable_workflow_unit"

# Not `clock_timestamp`: Postgres pulls no view up that calls a volatile function.
_now = sa.func.statement_timestamp()

_mine = t.token.c.run_id == t.run.c.id
_is_first = t.token.c.parent_id.is_(None)


def _of_tokens(value: sa.ColumnElement[Any], *conditions: sa.ColumnElement[bool]) -> Any:
    """A value that is read of the tokens of a run, for each run."""
    return sa.select(value).where(_mine, *conditions).correlate(t.run).scalar_subquery()


def _names(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The names that tokens of a run have in a column, each once, the longest wait first."""
    found = (
        sa.select(column.label("name"), sa.func.min(t.token.c.waiting_since).label("since"))
        .where(_mine, column.is_not(None))
        .correlate(t.run)
        .group_by(column)
        .subquery("found")
    )
    listed = sa.func.json_agg(aggregate_order_by(found.c.name, found.c.since, found.c.name))
    nothing = sa.literal_column("'[]'::json", sa.JSON())
    return sa.func.coalesce(sa.select(listed).scalar_subquery(), nothing)


def _of_command(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """What a cancel says that is committed and not applied yet."""
    return (
        sa.select(column)
        .where(
            t.inbox.c.run_id == t.run.c.id,
            t.inbox.c.kind == sql.word("command"),
            t.inbox.c.name == sql.word("cancel"),
        )
        .correlate(t.run)
        .order_by(t.inbox.c.id)
        .limit(sa.literal_column("1"))
        .scalar_subquery()
    )


_cancelled = sa.func.json_build_object(
    *(sql.word("type"), sql.word("RunCancelled")),
    *(sql.word("message"), sa.func.coalesce(t.run.c.cancel_reason, sql.word(""))),
    *(sql.word("traceback"), sql.word("")),
    *(sql.word("unit"), sql.word("")),
)
_has_not_begun = sql.there_is(_mine, _is_first, sa.not_(t.token.c.begun))
_reason = t.inbox.c.payload.op("->>")(sql.word("reason"))
_made = getattr(sa.func, SCHEMA).durable_result(t.run.c.id)


_COLUMNS: dict[str, sa.ColumnElement[Any]] = {
    "id": t.run.c.id,
    "workflow": t.run.c.workflow,
    "version": t.run.c.version,
    "status": STATUS,
    "stored_status": t.run.c.status,
    "key": t.run.c.key,
    "tags": t.run.c.tags,
    "current": _names(t.token.c.node),
    "since": _of_tokens(t.token.c.since, _is_first),
    "awaiting": _names(t.token.c.awaits),
    "wake_at": _of_tokens(sa.func.min(t.token.c.wake_at), t.token.c.wake_at > _now),
    "input": t.run.c.input,
    "result": sa.case((t.run.c.status == sql.word(Status.COMPLETED), _made)),
    "error": sa.case(
        (t.run.c.error.is_not(None), t.run.c.error),
        (t.run.c.status == sql.word(Status.CANCELLED), _cancelled),
    ),
    "parent_run_id": t.run.c.parent_run_id,
    "forked_from": t.run.c.forked_from,
    "retried_as": t.run.c.retried_as,
    "cancel_requested_at": sa.func.coalesce(
        t.run.c.cancel_requested_at, _of_command(t.inbox.c.created_at)
    ),
    "cancel_reason": sa.func.coalesce(t.run.c.cancel_reason, _of_command(_reason)),
    "times_out_at": t.run.c.times_out_at,
    "expires_at": sa.case((_has_not_begun, t.run.c.expires_at)),
    "created_at": t.run.c.created_at,
    "started_at": t.run.c.started_at,
    "updated_at": t.run.c.updated_at,
    "finished_at": t.run.c.finished_at,
}

RUNS = sa.select(*(column.label(name) for name, column in _COLUMNS.items()))
"""Runs as `RunSnapshot` has them. `since` is since when a run stands where it stands.

A status that is read from tokens has no index; `stored_status` has one, and is `running` then. One
SELECT without UNION, so that Postgres pulls it up and finds runs by the indexes of the table.
"""

UNITS = sa.select(
    t.journal.c.run_id,
    t.journal.c.unit,
    t.journal.c.seq,
    t.journal.c.node,
    t.journal.c.part.label("branch"),
    t.journal.c.position,
    t.journal.c.outcome,
    t.journal.c.attempt,
    of_origin(t.journal, "result").label("result"),
    t.journal.c.error,
    sa.func.coalesce(t.journal.c.failures, sa.literal_column("'[]'::json", sa.JSON())).label(
        "failures"
    ),
    t.journal.c.worker,
    t.journal.c.child_run_id,
    t.journal.c.started_at,
    t.journal.c.finished_at,
)
"""Units as `JournalEntry` has them; `seq` is the order of completion."""

VIEWS = {RUN_VIEW: RUNS, UNIT_VIEW: UNITS}

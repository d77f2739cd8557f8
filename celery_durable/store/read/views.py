"""A run as users see it, and lists of runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from celery_durable.core.decision import Outcome
from celery_durable.core.names import COMPENSATE
from celery_durable.core.status import READ_FROM_TOKENS, Status
from celery_durable.errors import ErrorRecord
from celery_durable.store import codec, sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement, one
from celery_durable.store.read import results as stored
from celery_durable.store.read.position import (
    STATUS,
    Forked,
    Progress,
    RunPosition,
    UnitInHand,
    position,
)
from celery_durable.store.rows import error_of


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of a list of runs.

    `error` is why it failed or was cancelled, or the last error of the unit that it stands at,
    without the traceback; its message is cut at 200 characters.
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


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """A run as it stood at one moment.

    `steps` are the plan's nodes, in order; `current` are those where it stands. `results` has the
    results of completed nodes; `result` is the run's, once it completed. Where these are left out,
    `sizes` has for each completed node how many bytes, compressed, Postgres keeps of its results,
    without those of child runs. `attempt` is the attempt of the unit that it stands at. `wake_at`
    is the earliest time at which a unit that waits for a time goes on. `awaiting` are the names of
    the signals that it waits for. `forks` counts the branches or items of a node that has forked.
    `progress` is what executing units have reported last. `units` are the units that it stands at,
    at most 100: what each waits for and since when, and its last error. `children` are the runs
    that this one started, the newest first, at most 100. `cancel_requested_at` is when a cancel of
    it, or of a run above it, was requested.
    """

    run_id: UUID
    workflow: str
    version: int
    status: Status
    steps: tuple[str, ...]
    current: tuple[str, ...]
    total_steps: int
    completed_steps: int
    results: Mapping[str, Any]
    result: Any
    error: ErrorRecord | None
    compensation_errors: Mapping[str, ErrorRecord]
    attempt: int
    wake_at: datetime | None
    key: str | None
    tags: Mapping[str, str]
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    awaiting: tuple[str, ...] = ()
    parent_run_id: UUID | None = None
    forked_from: UUID | None = None
    children: tuple[RunSummary, ...] = field(default_factory=tuple)
    forks: Mapping[str, Forked] = field(default_factory=dict)
    progress: Mapping[str, Progress] = field(default_factory=dict)
    units: tuple[UnitInHand, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    cancel_requested_at: datetime | None = None
    cancel_reason: str | None = None

    @property
    def awaiting_signal(self) -> str | None:
        """The first of `awaiting`."""
        return next(iter(self.awaiting), None)


CHILDREN_SHOWN = 100

_summary_columns = (
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

SHOWN = 200
"""The most characters of an error's message in a list of runs."""


def _in_short(error: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The error without its traceback, its message cut; NULL for none."""
    kind, message, unit = (error.op("->>")(sql.word(key)) for key in ("type", "message", "unit"))
    fields: tuple[tuple[str, Any], ...] = (
        ("type", kind),
        ("message", sa.func.left(message, sa.literal_column(str(SHOWN)))),
        ("unit", unit),
    )
    pairs = [part for key, value in fields for part in (sql.word(key), value)]
    return sa.case((error.is_not(None), sa.func.json_build_object(*pairs)))


_last_failure = t.token.c.failures.op("->")(sa.literal_column("-1")).op("->")(sql.word("error"))

_failure_in_hand = (
    sa.select(_in_short(_last_failure))
    .where(t.token.c.run_id == t.run.c.id, t.token.c.parent_id.is_(None))
    .scalar_subquery()
)

_why = sa.func.coalesce(_in_short(t.run.c.error), _failure_in_hand)

_LIST = Statement(
    sa.select(*_summary_columns, sql.json_text(_why, "error"), t.run.c.cancel_reason)
    .where(
        # The first part finds rows by an index, the second looks at those that are running.
        sa.or_(sql.text("stored").is_(None), t.run.c.status == sql.text("stored")),
        sa.or_(sql.text("status").is_(None), sql.text("status") == STATUS),
        sa.or_(sql.text("workflow").is_(None), t.run.c.workflow == sql.text("workflow")),
        sa.or_(sql.uuid("parent").is_(None), t.run.c.parent_run_id == sql.uuid("parent")),
        sa.or_(sql.text("tags").is_(None), t.run.c.tags.contains(sa.cast(sql.text("tags"), JSONB))),
        sa.or_(sql.uuid("before").is_(None), t.run.c.id < sql.uuid("before")),
    )
    .order_by(t.run.c.id.desc())
    .limit(sql.integer("limit"))
)


def list_runs(
    connection: Connection,
    *,
    status: Status | None,
    workflow: str | None,
    parent: UUID | None,
    tags: Mapping[str, str] | None,
    limit: int,
    before: UUID | None,
) -> Sequence[RunSummary]:
    """The newest runs first; `before` is the last run id of the page before."""
    parameters = {
        "status": status,
        "stored": Status.RUNNING if status in READ_FROM_TOKENS else status,
        "workflow": workflow,
        "parent": parent,
        "tags": json.dumps(dict(tags)) if tags else None,
        "limit": limit,
        "before": before,
    }
    return [_summary(row) for row in connection.rows(_LIST, parameters)]


def _summary(row: Row) -> RunSummary:
    status = Status(row["status"])
    facts = {column.key: row[column.key] for column in _summary_columns}
    error = error_of_run(row["error"], status, row["cancel_reason"])
    return RunSummary(**{**facts, "status": status, "error": error})


# A cancel that is committed and not applied yet.
_command = (
    sa.select(t.inbox.c.created_at, t.inbox.c.payload)
    .where(
        t.inbox.c.run_id == sql.uuid("run_id"),
        t.inbox.c.kind == sql.word("command"),
        t.inbox.c.name == sql.word("cancel"),
    )
    .order_by(t.inbox.c.id)
    .limit(sa.literal_column("1"))
    .subquery("command")
)

_STATUS = Statement(
    sa.select(
        *_summary_columns,
        sql.json_text(sa.case((sql.boolean("results"), t.run.c.result)), "result"),
        sql.json_text(t.run.c.error),
        sa.func.coalesce(
            t.run.c.cancel_reason, _command.c.payload.op("->>")(sql.word("reason"))
        ).label("cancel_reason"),
        sa.func.coalesce(t.run.c.cancel_requested_at, _command.c.created_at).label(
            "cancel_requested_at"
        ),
        t.run.c.forked_from,
        sql.json_text(t.definition.c.plan),
    )
    .select_from(t.run)
    .join(
        t.definition,
        sa.and_(
            t.definition.c.workflow == t.run.c.workflow, t.definition.c.version == t.run.c.version
        ),
        isouter=True,
    )
    .join(_command, sa.true(), isouter=True)
    .where(t.run.c.id == sql.uuid("run_id"))
)

_COMPENSATION_ERRORS = Statement(
    sa.select(t.journal.c.unit, sql.json_text(t.journal.c.error))
    .where(
        t.journal.c.run_id == sql.uuid("run_id"),
        t.journal.c.outcome == sa.literal_column(f"'{Outcome.FAILED}'"),
        t.journal.c.unit.like(sa.literal_column(f"'%#{COMPENSATE}'")),
        t.journal.c.part.is_(None),
        t.journal.c.position.is_(None),
    )
    .order_by(t.journal.c.seq)
)


_own = t.journal.alias("own")
_SIZES = Statement(
    sa.select(
        t.journal.c.node,
        sa.func.coalesce(
            sa.func.sum(sa.func.pg_column_size(t.journal.c.result)), sa.literal_column("0")
        ).label("bytes"),
    )
    .join(
        _own,
        sa.and_(
            _own.c.run_id == t.journal.c.run_id,
            _own.c.unit == t.journal.c.node,
            _own.c.outcome == sql.word(Outcome.COMPLETED),
        ),
    )
    .where(t.journal.c.run_id == sql.uuid("run_id"))
    .group_by(t.journal.c.node)
    .order_by(sa.func.max(_own.c.seq))
)


def snapshot(connection: Connection, run_id: UUID, *, results: bool = True) -> RunSnapshot | None:
    """Read the run as it stands; None if there is no such run.

    The connection's statements must see one state of the database. Results may be large and many:
    they are read only with `results`; without, `sizes` says how large they are.
    """
    row = one(connection, _STATUS, {"run_id": run_id, "results": results})
    if row is None:
        return None
    node_results = stored.of_run(connection, run_id) if results else {}
    sizes = {} if results else _sizes(connection, run_id)
    where: RunPosition = position(connection, run_id)
    summary = {column.key: row[column.key] for column in _summary_columns}
    status = Status(row["status"])
    plan: Any = json.loads(row["plan"]) if row["plan"] else {"nodes": []}
    # A result that `.returns` made is stored, None as JSON null; else it is the nodes' results.
    result = node_results if row["result"] is None else codec.loads(row["result"])
    has_result = results and status is Status.COMPLETED
    return RunSnapshot(
        **{**summary, "status": status},
        steps=tuple(node["name"] for node in plan["nodes"]),
        current=where.nodes,
        total_steps=len(plan["nodes"]),
        completed_steps=len(node_results) + len(sizes),
        results=node_results,
        result=result if has_result else None,
        error=error_of_run(row["error"], status, row["cancel_reason"]),
        compensation_errors=_compensation_errors(connection, run_id),
        attempt=where.attempt,
        wake_at=where.wake_at,
        forked_from=row["forked_from"],
        awaiting=where.awaiting,
        children=tuple(children(connection, run_id)),
        forks=where.forks,
        progress=where.progress,
        units=where.units,
        sizes=sizes,
        cancel_requested_at=row["cancel_requested_at"],
        cancel_reason=row["cancel_reason"],
    )


def _sizes(connection: Connection, run_id: UUID) -> Mapping[str, int]:
    rows = connection.rows(_SIZES, {"run_id": run_id})
    return {row["node"]: int(row["bytes"]) for row in rows}


def children(connection: Connection, run_id: UUID) -> Sequence[RunSummary]:
    """The runs that this one started, the newest first, at most `CHILDREN_SHOWN`."""
    return list_runs(
        connection,
        status=None,
        workflow=None,
        parent=run_id,
        tags=None,
        limit=CHILDREN_SHOWN,
        before=None,
    )


def error_of_run(text: str | None, status: Status, reason: str | None) -> ErrorRecord | None:
    """The error of a run, from its JSON text; that of a cancelled run is why it was cancelled."""
    if status is Status.CANCELLED and text is None:
        return ErrorRecord("RunCancelled", reason or "")
    return error_of(text)


def _compensation_errors(connection: Connection, run_id: UUID) -> Mapping[str, ErrorRecord]:
    rows = connection.rows(_COMPENSATION_ERRORS, {"run_id": run_id})
    found = {row["unit"]: error_of(row["error"]) for row in rows}
    return {unit: error for unit, error in found.items() if error is not None}


_ID_OF = Statement(sa.select(t.run.c.id).where(t.run.c.id == sql.uuid("run_id")))


def exists(connection: Connection, run_id: UUID) -> bool:
    """Return True if there is such a run."""
    return one(connection, _ID_OF, {"run_id": run_id}) is not None


_ENDING = Statement(
    sa.select(STATUS, sql.json_text(t.run.c.error), t.run.c.cancel_reason).where(
        t.run.c.id == sql.uuid("run_id")
    )
)


def status_of(connection: Connection, run_id: UUID) -> tuple[Status, ErrorRecord | None] | None:
    """The run's status and error alone."""
    row = one(connection, _ENDING, {"run_id": run_id})
    if row is None:
        return None
    status = Status(row["status"])
    return status, error_of_run(row["error"], status, row["cancel_reason"])

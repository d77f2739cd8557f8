"""A run as users see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.decision import Outcome
from celery_durable.core.status import Status
from celery_durable.errors import ErrorRecord
from celery_durable.store import codec, sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one
from celery_durable.store.inheriting import of_origin
from celery_durable.store.read import results as stored
from celery_durable.store.read.filters import COMPENSATION_FAILED
from celery_durable.store.read.listing import FACTS, RunSummary, children, error_of_run
from celery_durable.store.read.position import STATUS, Forked, Progress, RunPosition, position
from celery_durable.store.read.units import UnitInHand
from celery_durable.store.rows import error_of


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """A run as it stood at one moment.

    `steps` are the plan's nodes, in order; `current` are those where it stands. `input` is what it
    was started with. `results` has the results of completed nodes; `result` is the run's, once it
    completed. Where these are left out, `input` is None too, and `sizes` has for each completed
    node how many bytes, compressed, Postgres keeps of its results, without those of child runs.
    `attempt` is the attempt of the unit that it stands at. `wake_at` is the earliest time at which
    a unit that waits for a time goes on. `awaiting` are the names of the signals that it waits for.
    `forks` counts the branches or items of a node that has forked. `progress` is what executing
    units have reported last. `units` are the units that it stands at, at most 100: since when each
    is executed, by which worker, or waits and for what, its attempt, of how many, and the last
    error. `children` are the runs that this one started, the newest first, at most 100.
    `cancel_requested_at` is when a cancel of it, or of a run above it, was requested.
    `forked_from` is the run that it goes on with the work of, `retried_as` the one that goes on
    with its own.
    `times_out_at` is when it fails unless it has ended, `expires_at` when it is cancelled, of a run
    that has not begun.
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
    retried_as: UUID | None = None
    children: tuple[RunSummary, ...] = field(default_factory=tuple)
    forks: Mapping[str, Forked] = field(default_factory=dict)
    progress: Mapping[str, Progress] = field(default_factory=dict)
    units: tuple[UnitInHand, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    cancel_requested_at: datetime | None = None
    cancel_reason: str | None = None
    input: Any = None
    times_out_at: datetime | None = None
    expires_at: datetime | None = None

    @property
    def awaiting_signal(self) -> str | None:
        """The first of `awaiting`."""
        return next(iter(self.awaiting), None)


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

_has_not_begun = sql.there_is(
    t.token.c.run_id == t.run.c.id, t.token.c.parent_id.is_(None), sa.not_(t.token.c.begun)
)

_STATUS = Statement(
    sa.select(
        *FACTS,
        sql.json_text(sa.case((sql.boolean("results"), t.run.c.input)), "input"),
        sql.json_text(sa.case((sql.boolean("results"), t.run.c.result)), "result"),
        sql.json_text(t.run.c.error),
        sa.func.coalesce(
            t.run.c.cancel_reason, _command.c.payload.op("->>")(sql.word("reason"))
        ).label("cancel_reason"),
        sa.func.coalesce(t.run.c.cancel_requested_at, _command.c.created_at).label(
            "cancel_requested_at"
        ),
        t.run.c.forked_from,
        t.run.c.retried_as,
        t.run.c.times_out_at,
        sa.case((_has_not_begun, t.run.c.expires_at)).label("expires_at"),
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
    .where(t.journal.c.run_id == sql.uuid("run_id"), *COMPENSATION_FAILED)
    .order_by(t.journal.c.seq)
)


_own = t.journal.alias("own")
# The OFFSET has Postgres choose how to read the run before it counts what origins cost.
_of_run = (
    sa.select(t.journal)
    .where(t.journal.c.run_id == sql.uuid("run_id"))
    .offset(sa.literal_column("0"))
    .subquery("of_run")
)
# A subquery for each node, and no join: Postgres expects few rows of a run whose journal has grown
# since it has looked, and would go through all of them for each.
_completed_at = (
    sa.select(_own.c.seq)
    .where(
        _own.c.run_id == sql.uuid("run_id"),
        _own.c.unit == _of_run.c.node,
        _own.c.outcome == sql.word(Outcome.COMPLETED),
    )
    .scalar_subquery()
)
_sized = (
    sa.select(
        _of_run.c.node,
        sa.func.coalesce(
            sa.func.sum(sa.func.pg_column_size(of_origin(_of_run, "result"))),
            sa.literal_column("0"),
        ).label("bytes"),
        _completed_at.label("seq"),
    )
    .group_by(_of_run.c.node)
    .offset(sa.literal_column("0"))
    .subquery("sized")
)
_SIZES = Statement(
    sa.select(_sized.c.node, _sized.c.bytes).where(_sized.c.seq.is_not(None)).order_by(_sized.c.seq)
)


def snapshot(connection: Connection, run_id: UUID, *, results: bool = True) -> RunSnapshot | None:
    """Read the run as it stands; None if there is no such run.

    The connection's statements must see one state of the database. Results may be large and many:
    they are read only with `results`, as is the input; without, `sizes` says how large they are.
    """
    row = one(connection, _STATUS, {"run_id": run_id, "results": results})
    if row is None:
        return None
    node_results = stored.of_run(connection, run_id) if results else {}
    sizes = {} if results else _sizes(connection, run_id)
    where: RunPosition = position(connection, run_id)
    summary = {column.key: row[column.key] for column in FACTS}
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
        retried_as=row["retried_as"],
        awaiting=where.awaiting,
        children=tuple(children(connection, run_id)),
        forks=where.forks,
        progress=where.progress,
        units=where.units,
        sizes=sizes,
        cancel_requested_at=row["cancel_requested_at"],
        cancel_reason=row["cancel_reason"],
        input=None if row["input"] is None else codec.loads(row["input"]),
        times_out_at=row["times_out_at"],
        expires_at=row["expires_at"],
    )


_INPUT = Statement(
    sa.select(
        sa.func.pg_column_size(t.run.c.input).label("size"),
        sql.json_text(
            sa.case(
                (sa.func.pg_column_size(t.run.c.input) <= sql.integer("largest"), t.run.c.input)
            ),
            "input",
        ),
    ).where(t.run.c.id == sql.uuid("run_id"))
)


def input_of(connection: Connection, run_id: UUID, largest: int) -> tuple[tuple[Any] | None, int]:
    """The run's input, in a tuple, unless it is larger, and how many bytes Postgres keeps of it."""
    row = one(connection, _INPUT, {"run_id": run_id, "largest": largest})
    if row is None:
        return None, 0
    return None if row["input"] is None else (codec.loads(row["input"]),), row["size"]


def _sizes(connection: Connection, run_id: UUID) -> Mapping[str, int]:
    rows = connection.rows(_SIZES, {"run_id": run_id})
    return {row["node"]: int(row["bytes"]) for row in rows}


def _compensation_errors(connection: Connection, run_id: UUID) -> Mapping[str, ErrorRecord]:
    rows = connection.rows(_COMPENSATION_ERRORS, {"run_id": run_id})
    found = {row["unit"]: error_of(row["error"]) for row in rows}
    return {unit: error for unit, error in found.items() if error is not None}


_ID_OF = Statement(sa.select(t.run.c.id).where(t.run.c.id == sql.uuid("run_id")))


def exists(connection: Connection, run_id: UUID) -> bool:
    """Return True if there is such a run."""
    return one(connection, _ID_OF, {"run_id": run_id}) is not None


_WORKFLOW = Statement(
    sa.select(t.run.c.workflow, t.run.c.version).where(t.run.c.id == sql.uuid("run_id"))
)


def workflow_of(connection: Connection, run_id: UUID) -> tuple[str, int] | None:
    """Return the name and the version of the run's workflow; None if there is no such run."""
    row = one(connection, _WORKFLOW, {"run_id": run_id})
    return None if row is None else (row["workflow"], row["version"])


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

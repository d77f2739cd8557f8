"""Stores plans, for processes that do not import the workflows, and counts runs by position."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from celery_durable.core.compatibility import incompatible
from celery_durable.core.names import COMPENSATE, SEPARATOR
from celery_durable.core.plan import Outline, Plan
from celery_durable.core.status import Status
from celery_durable.core.token import Token
from celery_durable.settings import Settings
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement, one

MOST_BYTES = 2**31 - 1
"""A limit above this is none: Postgres has no value so long."""

_plan = sa.cast(sql.text("plan"), JSONB)

_insert = upsert(t.definition).values(
    workflow=sql.text("workflow"),
    version=sql.integer("version"),
    plan=_plan,
    queue=sql.text("queue"),
    max_payload_bytes=sql.integer("max_payload_bytes"),
)
_stored = sa.tuple_(t.definition.c.plan, t.definition.c.queue, t.definition.c.max_payload_bytes)
_excluded = sa.tuple_(
    _insert.excluded.plan, _insert.excluded.queue, _insert.excluded.max_payload_bytes
)

_STORE = Statement(
    _insert.on_conflict_do_update(
        index_elements=["workflow", "version"],
        set_={
            "plan": _insert.excluded.plan,
            "queue": _insert.excluded.queue,
            "max_payload_bytes": _insert.excluded.max_payload_bytes,
            "stored_at": sql.clock,
        },
        where=_stored != _excluded,
    )
)


def store(connection: Connection, plan: Plan, settings: Settings) -> None:
    """Store the plan, with the settings that a start in SQL needs, unless all are stored."""
    parameters = {
        "workflow": plan.workflow,
        "version": plan.version,
        "plan": json.dumps(plan.as_data()),
        "queue": settings.queue,
        "max_payload_bytes": min(settings.max_payload_bytes, MOST_BYTES),
    }
    connection.rows(_STORE, parameters)


_FIND = Statement(
    sa.select(sql.json_text(t.definition.c.plan)).where(
        t.definition.c.workflow == sql.text("workflow"),
        t.definition.c.version
        == sa.func.coalesce(
            sql.integer("version"),
            sa.select(sa.func.max(t.definition.c.version))
            .where(t.definition.c.workflow == sql.text("workflow"))
            .scalar_subquery(),
        ),
    )
)


def plan(connection: Connection, workflow: str, version: int) -> Mapping[str, Any] | None:
    """The stored plan of this version, as `Plan.as_data` made it; None if there is none."""
    row = one(connection, _FIND, {"workflow": workflow, "version": version})
    found: Mapping[str, Any] | None = json.loads(row["plan"]) if row else None
    return found


def find(connection: Connection, workflow: str, version: int | None) -> Outline | None:
    """The stored plan of this version, or of the highest version if it is None."""
    row = one(connection, _FIND, {"workflow": workflow, "version": version})
    return Outline.of(json.loads(row["plan"])) if row else None


_NAMES = Statement(sa.select(t.definition.c.workflow).distinct())


def names(connection: Connection) -> Sequence[str]:
    """The names of the workflows of which plans are stored."""
    return [row["workflow"] for row in connection.rows(_NAMES)]


_IN_FLIGHT = Statement(
    sa.select(t.token.c.node)
    .join_from(t.token, t.run, t.run.c.id == t.token.c.run_id)
    .where(t.run.c.workflow == sql.text("workflow"), t.run.c.version == sql.integer("version"))
    .distinct()
)


def nodes_in_flight(connection: Connection, workflow: str, version: int) -> Sequence[str]:
    """The nodes at which unfinished runs of this version stand."""
    rows = connection.rows(_IN_FLIGHT, {"workflow": workflow, "version": version})
    return [row["node"] for row in rows]


@dataclass(frozen=True, slots=True)
class StandingRuns:
    """How many unfinished runs stand at one position of a version, or would in a rollback.

    `token` is like the tokens that stand there, without what tells them apart.
    """

    workflow: str
    version: int
    token: Token
    runs: int


def _counted(found: Any) -> Statement:
    """Count the unfinished runs in `found` by position; items and iterations are one position."""
    at = found.subquery("at")
    standing = (at.c.node, at.c.part, at.c.rollback, at.c.is_branch, at.c.has_position)
    marks = (t.run.c.workflow, t.run.c.version, *standing)
    return Statement(
        sa.select(
            *marks,
            sa.func.min(at.c.unit).label("unit"),
            sa.func.count(at.c.run_id.distinct()).label("runs"),
        )
        .join_from(at, t.run, t.run.c.id == at.c.run_id)
        .where(t.run.c.finished_at.is_(None))
        .group_by(*marks)
    )


_STANDING = _counted(
    sa.select(
        t.token.c.run_id,
        t.token.c.node,
        t.token.c.unit,
        t.token.c.part,
        t.token.c.rollback,
        t.token.c.parent_id.is_not(None).label("is_branch"),
        t.token.c.position.is_not(None).label("has_position"),
    )
)

_compensated = t.journal.alias("undone")
_compensation: Any = t.journal.c.unit + sql.word(f"{SEPARATOR}{COMPENSATE}")

_TO_COMPENSATE = _counted(
    sa.select(
        t.journal.c.run_id,
        t.journal.c.node,
        _compensation.label("unit"),
        t.journal.c.part,
        sql.word(Status.FAILED).label("rollback"),
        sa.false().label("is_branch"),
        t.journal.c.position.is_not(None).label("has_position"),
    ).where(
        t.journal.c.undoable,
        sa.not_(
            sa.exists().where(
                _compensated.c.run_id == t.journal.c.run_id, _compensated.c.unit == _compensation
            )
        ),
    )
)


def standing(connection: Connection) -> Sequence[StandingRuns]:
    """Where unfinished runs of all workflows stand."""
    return [_standing_runs(row) for row in connection.rows(_STANDING)]


def to_undo(connection: Connection) -> Sequence[StandingRuns]:
    """Where unfinished runs of all workflows would stand if they were rolled back."""
    return [_standing_runs(row) for row in connection.rows(_TO_COMPENSATE)]


_NOBODY = UUID(int=0)


def _standing_runs(row: Row) -> StandingRuns:
    token = Token(
        id=_NOBODY,
        run_id=_NOBODY,
        node=row["node"],
        unit=row["unit"],
        rollback=Status(row["rollback"]) if row["rollback"] else None,
        parent=_NOBODY if row["is_branch"] else None,
        part=row["part"],
        position=0 if row["has_position"] else None,
    )
    return StandingRuns(row["workflow"], row["version"], token, row["runs"])


_PLANS = Statement(
    sa.select(t.definition.c.workflow, t.definition.c.version, sql.json_text(t.definition.c.plan))
)


def plans(connection: Connection) -> Mapping[tuple[str, int], Mapping[str, Any]]:
    """The stored plans by workflow and version, as `Plan.as_data` makes them."""
    return {
        (row["workflow"], row["version"]): json.loads(row["plan"])
        for row in connection.rows(_PLANS)
    }


def reconcile(connection: Connection, plan: Plan, settings: Settings) -> frozenset[str]:
    """Store the plan if every run in flight can go on with it; else return the nodes of the others.

    A plan may be edited under its version as long as unfinished runs find their node and all nodes
    before it. If some do not, the stored plan stays, and the runs at the returned nodes are left to
    workers that have it.
    """
    stored = find(connection, plan.workflow, plan.version)
    left_to_others: frozenset[str] = frozenset()
    if stored is not None and stored != Outline.of(plan.as_data()):
        in_flight = nodes_in_flight(connection, plan.workflow, plan.version)
        left_to_others = incompatible(stored, plan, in_flight)
    if not left_to_others:
        store(connection, plan, settings)
    return left_to_others

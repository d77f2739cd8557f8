"""Stored plans: what processes know of workflows they do not import."""

from __future__ import annotations

import json
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from celery_durable.core.plan import Outline, Plan, incompatible
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one

_plan = sa.cast(sql.text("plan"), JSONB)

_insert = upsert(t.definition).values(
    workflow=sql.text("workflow"), version=sql.integer("version"), plan=_plan
)

_STORE = Statement(
    _insert.on_conflict_do_update(
        index_elements=["workflow", "version"],
        set_={"plan": _insert.excluded.plan, "stored_at": sql.clock},
        where=t.definition.c.plan != _insert.excluded.plan,
    )
)


def store(connection: Connection, plan: Plan) -> None:
    """Write the plan; nothing is written where the same one is stored."""
    text = json.dumps(plan.as_data())
    parameters = {"workflow": plan.workflow, "version": plan.version, "plan": text}
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


def find(connection: Connection, workflow: str, version: int | None) -> Outline | None:
    """The stored plan of this version, by default of the highest."""
    row = one(connection, _FIND, {"workflow": workflow, "version": version})
    return Outline.of(json.loads(row["plan"])) if row else None


_NAMES = Statement(sa.select(t.definition.c.workflow).distinct())


def names(connection: Connection) -> Sequence[str]:
    """The workflows that are stored."""
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


def reconcile(connection: Connection, plan: Plan) -> frozenset[str]:
    """Store the plan if every run in flight can go on with it; else the nodes whose runs cannot.

    A plan may be edited under its version as long as unfinished runs still find their node and all
    before it; otherwise the stored one stays, and the runs at the nodes returned are left to
    workers that have it.
    """
    stored = find(connection, plan.workflow, plan.version)
    parked: frozenset[str] = frozenset()
    if stored is not None and stored != Outline.of(plan.as_data()):
        in_flight = nodes_in_flight(connection, plan.workflow, plan.version)
        parked = incompatible(stored, plan, in_flight)
    if not parked:
        store(connection, plan)
    return parked

"""What people have done."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.action import Action
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement


def _latest(*which: sa.ColumnElement[bool]) -> Statement:
    """The latest actions; one that names no workflow has that of its run."""
    columns = [t.action.c[name] for name in ("at", "name", "actor", "reason", "run_id", "what")]
    return Statement(
        sa.select(
            *columns,
            sa.func.coalesce(t.action.c.workflow, t.run.c.workflow).label("workflow"),
            sa.func.coalesce(t.action.c.version, t.run.c.version).label("version"),
        )
        .select_from(t.action)
        .join(t.run, t.run.c.id == t.action.c.run_id, isouter=True)
        .where(*which)
        .order_by(t.action.c.id.desc())
        .limit(sql.integer("limit"))
    )


_OF_ALL, _OF_RUN = _latest(), _latest(t.action.c.run_id == sql.uuid("run_id"))


def latest(connection: Connection, run_id: UUID | None, limit: int) -> Sequence[Action]:
    """The latest actions, the newest first; with `run_id` only those on this run."""
    statement = _OF_ALL if run_id is None else _OF_RUN
    return [Action(**row) for row in connection.rows(statement, {"run_id": run_id, "limit": limit})]


def actor_of(name: str, run_id: sa.ColumnElement[UUID]) -> sa.ScalarSelect[str]:
    """Who has done it to the run last; NULL where nobody has said."""
    return (
        sa.select(t.action.c.actor)
        .where(t.action.c.run_id == run_id, t.action.c.name == sql.word(name))
        .order_by(t.action.c.id.desc())
        .limit(sa.literal_column("1"))
        .scalar_subquery()
    )

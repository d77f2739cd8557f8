"""Notes what people do, in the transaction that does it."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.action import Actor
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement

_SAID = {name: sql.text(name) for name in ("name", "actor", "reason", "what")}

_NOTE = Statement(
    sa.insert(t.action).values(
        **_SAID,
        run_id=sql.uuid("run_id"),
        workflow=sql.text("workflow"),
        version=sql.integer("version"),
    )
)


def note(
    connection: Connection,
    name: str,
    actor: Actor,
    run_id: UUID | None,
    *,
    workflow: str | None = None,
    version: int | None = None,
    what: str | None = None,
) -> None:
    """Note what is done to a run; without one to a workflow, a step, or to many runs."""
    said = {"name": name, "actor": actor.name, "reason": actor.reason, "what": what}
    where = {"run_id": run_id, "workflow": workflow, "version": version}
    connection.rows(_NOTE, {**said, **where})


_NOTE_OF_RUNS = Statement(
    sa.insert(t.action).from_select(
        [*_SAID, "run_id"], sa.select(*_SAID.values(), sa.func.unnest(sql.uuids("runs")))
    )
)


def note_of_runs(
    connection: Connection,
    name: str,
    actor: Actor,
    runs: Collection[UUID],
    *,
    what: str | None = None,
) -> None:
    """Note what is done to each of the runs."""
    if runs:
        said = {"name": name, "actor": actor.name, "reason": actor.reason, "what": what}
        connection.rows(_NOTE_OF_RUNS, {**said, "runs": sql.array(runs)})

"""Lets new runs go on with what others have completed.

The new run's journal gets a record of each unit that it inherits, without input and result: those
are read from the journal of the run that has executed the unit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from celery_durable.core.decision import Outcome
from celery_durable.core.names import COMPENSATE
from celery_durable.core.status import Status
from celery_durable.core.values import value
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement


@value(frozen=True, slots=True)
class StoredRun:
    """What is stored of a run. `input` is JSON text."""

    id: UUID
    workflow: str
    version: int
    status: Status
    input: str
    key: str | None
    priority: int | None
    tags: Mapping[str, str]
    parent_run_id: UUID | None = None
    retried_as: UUID | None = None
    timeout: float | None = None


_ids = sql.uuids("runs")

_read = (
    sa.select(
        *(t.run.c[name] for name in ("id", "workflow", "version", "status", "key", "priority")),
        *(t.run.c[name] for name in ("tags", "parent_run_id", "retried_as")),
        sa.cast(
            sql.seconds(
                t.run.c.times_out_at - sa.func.coalesce(t.run.c.started_at, t.run.c.created_at)
            ),
            sa.Double,
        ).label("timeout"),
        sql.json_text(t.run.c.input),
    )
    .where(t.run.c.id == sa.any_(_ids))
    .order_by(t.run.c.id)
)
_READ = Statement(_read)
_LOCK = Statement(_read.with_for_update())
_LOCK_WITHOUT_WAITING = Statement(_read.with_for_update(skip_locked=True))


def read(connection: Connection, run_id: UUID) -> StoredRun | None:
    """Read the run without a lock; None if there is no such run."""
    return _read_all(connection, _READ, [run_id]).get(run_id)


def lock(connection: Connection, run_id: UUID) -> StoredRun | None:
    """Read the run, and keep others from trying it again at the same time."""
    return lock_all(connection, [run_id], waits=True).get(run_id)


def lock_all(
    connection: Connection, runs: Iterable[UUID], *, waits: bool
) -> Mapping[UUID, StoredRun]:
    """Lock those of the runs that are there; unless it `waits`, those that nobody has locked."""
    return _read_all(connection, _LOCK if waits else _LOCK_WITHOUT_WAITING, runs)


def _read_all(
    connection: Connection, statement: Statement, runs: Iterable[UUID]
) -> Mapping[UUID, StoredRun]:
    rows = connection.rows(statement, {"runs": sql.array(runs)})
    return {row["id"]: StoredRun(**{**row, "status": Status(row["status"])}) for row in rows}


IS_COMPENSATION = sa.and_(
    t.journal.c.unit.like(sa.literal_column(f"'%#{COMPENSATE}'")), t.journal.c.part.is_(None)
)
"""True of the record of a compensation; a branch may be called `compensate` too."""

_undo = t.journal.alias("undo")
_part = t.journal.alias("part")

# A child whose compensation has failed may be undone in part.
_is_undone = sql.there_is(
    _undo.c.run_id == _part.c.run_id,
    _undo.c.unit == _part.c.unit + sql.word(f"#{COMPENSATE}"),
    _undo.c.part.is_(None),
    sa.or_(_undo.c.outcome == sql.word(Outcome.COMPLETED), _part.c.child_run_id.is_not(None)),
)
_KEPT = Statement(
    sa.select(t.journal.c.run_id, t.journal.c.node)
    .where(
        t.journal.c.run_id == sa.any_(_ids),
        t.journal.c.unit == t.journal.c.node,
        t.journal.c.outcome == sql.word(Outcome.COMPLETED),
        sa.not_(
            sql.there_is(
                _part.c.run_id == t.journal.c.run_id,
                _part.c.node == t.journal.c.node,
                _part.c.undoable,
                _is_undone,
            )
        ),
    )
    .order_by(t.journal.c.seq)
)


def kept_nodes(connection: Connection, runs: Iterable[UUID]) -> Mapping[UUID, Sequence[str]]:
    """The nodes of each run that have completed, and of which nothing was compensated since."""
    found: dict[UUID, list[str]] = {}
    for row in connection.rows(_KEPT, {"runs": sql.array(runs)}):
        found.setdefault(row["run_id"], []).append(row["node"])
    return found


_NOT_UNDONE = Statement(
    sa.select(t.journal.c.run_id, t.journal.c.node)
    .where(
        t.journal.c.run_id == sa.any_(_ids),
        IS_COMPENSATION,
        t.journal.c.outcome == sql.word(Outcome.FAILED),
    )
    .order_by(t.journal.c.seq.desc())
)


def not_undone(connection: Connection, runs: Iterable[UUID]) -> Mapping[UUID, str]:
    """The first node of each run whose compensation has failed, if there is one."""
    rows = connection.rows(_NOT_UNDONE, {"runs": sql.array(runs)})
    return {row["run_id"]: row["node"] for row in rows}


@value(frozen=True, slots=True)
class Heir:
    """A run that goes on with what `run_id` has recorded of these nodes.

    `signals` are those that some of the nodes have waited for, by the node.
    """

    id: UUID
    run_id: UUID
    nodes: Sequence[str]
    signals: Mapping[str, str]


_heirs: Any = (
    sa.func.json_to_recordset(sql.json("heirs"))
    .table_valued(
        sa.column("id", sa.Uuid),
        sa.column("run_id", sa.Uuid),
        sa.column("nodes", ARRAY(sa.Text)),
        name="heirs",
    )
    .render_derived(name="heirs", with_types=True)
)
_executed = t.journal.c
_copied = {
    "run_id": _heirs.c.id,
    **{
        name: _executed[name]
        for name in (
            *("unit", "node", "part", "position", "outcome", "undoable", "attempt", "gathers"),
            *("child_run_id", "error", "worker", "started_at", "finished_at"),
        )
    },
    "inherited_from": sa.func.coalesce(_executed.inherited_from, _executed.run_id),
}
_INHERIT = Statement(
    sa.insert(t.journal).from_select(
        list(_copied),
        sa.select(*_copied.values())
        .join_from(_heirs, t.journal, _executed.run_id == _heirs.c.run_id)
        .where(
            _executed.node == sa.any_(_heirs.c.nodes),
            sa.not_(IS_COMPENSATION),
            # A compensation that has failed, and was set aside.
            sa.not_(_executed.unit.like(sa.literal_column(f"'%#{COMPENSATE}#%'"))),
        )
        .order_by(_executed.seq),
    )
)


_waited: Any = (
    sa.func.json_to_recordset(sql.json("waited"))
    .table_valued(
        sa.column("id", sa.Uuid),
        sa.column("run_id", sa.Uuid),
        sa.column("node", sa.Text),
        sa.column("signal", sa.Text),
        name="waited",
    )
    .render_derived(name="waited", with_types=True)
)
_heir = t.journal.alias("executed")


def of_origin(journal: Any, name: str) -> sa.ColumnElement[Any]:
    """The payload of a record: its own, or that of the run from which it is inherited."""
    inherited = (
        sa.select(_heir.c[name])
        .where(_heir.c.run_id == journal.c.inherited_from, _heir.c.unit == journal.c.unit)
        .scalar_subquery()
    )
    own = journal.c[name]
    return sa.case((journal.c.inherited_from.is_(None), own), else_=inherited)


# Whoever waits for a signal has its payload as the result.
_KEEP_SIGNALS = Statement(
    sa.insert(t.inbox).from_select(
        ["run_id", "kind", "name", "payload", "consumed_by"],
        sa.select(
            _waited.c.id,
            sql.word("signal"),
            _waited.c.signal,
            of_origin(t.journal, "result"),
            _waited.c.id,
        )
        .join_from(
            _waited,
            t.journal,
            sa.and_(_executed.run_id == _waited.c.run_id, _executed.unit == _waited.c.node),
        )
        .order_by(_executed.seq),
    )
)


def inherit(connection: Connection, heirs: Sequence[Heir]) -> None:
    """Write into the journals of new runs what they inherit, and the signals for `ctx.signal`."""
    connection.rows(_INHERIT, {"heirs": _listed(heirs)})
    waited = [
        {"id": str(heir.id), "run_id": str(heir.run_id), "node": node, "signal": signal}
        for heir in heirs
        for node, signal in heir.signals.items()
    ]
    if waited:
        connection.rows(_KEEP_SIGNALS, {"waited": json.dumps(waited)})


def _listed(heirs: Iterable[Heir]) -> str:
    rows = [
        {"id": str(heir.id), "run_id": str(heir.run_id), "nodes": [*heir.nodes]} for heir in heirs
    ]
    return json.dumps(rows)


_RETRIED = Statement(
    sa.update(t.run)
    .where(t.run.c.id == _heirs.c.run_id)
    .values(retried_as=_heirs.c.id, key=sa.null())
)


def mark_retried(connection: Connection, heirs: Iterable[Heir]) -> None:
    """Write which runs go on with the work of others, and take the keys of these away."""
    connection.rows(_RETRIED, {"heirs": _listed(heirs)})

"""What operators have paused, and which tokens that keeps from being claimed.

A paused token that nobody has claimed is not claimable. A worker that goes straight on learns from
the answer to its commit that there are pauses, and reads them. So no statement that begins after
the pause has committed lets a unit begin. Where nothing is paused, that costs a look at an empty
table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert

from celery_durable.core.pause import Pause, Paused
from celery_durable.core.status import Status
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement

_run = t.run.alias("paused_run")

IS_ANYTHING_PAUSED = sa.select(
    sa.exists(sa.select(sa.literal_column("1")).select_from(t.pause))
).scalar_subquery()
"""True if there is any pause. Postgres looks once for each statement, and not for each row."""


def is_paused(token: Any) -> sa.ColumnElement[bool]:
    """True if the unit of `token` may not begin. In step with `core.pause`."""
    pause = t.pause.c
    found = sa.exists().where(
        _run.c.id == token.run_id,
        sa.or_(pause.run_id.is_(None), pause.run_id == token.run_id),
        sa.or_(pause.workflow.is_(None), pause.workflow == _run.c.workflow),
        sa.or_(pause.version.is_(None), pause.version == _run.c.version),
        sa.or_(pause.step.is_(None), pause.step == token.node, pause.step == token.part),
    )
    return sa.case((IS_ANYTHING_PAUSED, found), else_=sa.false())


_WHAT = {
    "run_id": sql.uuid("run_id"),
    "workflow": sql.text("workflow"),
    "version": sql.integer("version"),
    "step": sql.text("step"),
}
_is_it = [t.pause.c[name].is_not_distinct_from(given) for name, given in _WHAT.items()]

_PAUSE = Statement(
    upsert(t.pause)
    .values({**_WHAT, "reason": sql.text("reason")})
    .on_conflict_do_nothing()
    .returning(t.pause.c.id)
)
_UNPAUSE = Statement(sa.delete(t.pause).where(*_is_it).returning(t.pause.c.id))


def _parameters(pause: Pause) -> dict[str, Any]:
    return {name: getattr(pause, name) for name in _WHAT}


def put(connection: Connection, pause: Pause, reason: str | None) -> bool:
    """Pause; return False if that was paused already, which keeps its reason."""
    return bool(connection.rows(_PAUSE, {**_parameters(pause), "reason": reason}))


def lift(connection: Connection, pause: Pause) -> bool:
    """Unpause; return False if exactly that was not paused."""
    return bool(connection.rows(_UNPAUSE, _parameters(pause)))


IS_ITSELF_PAUSED = sql.there_is(
    t.pause.c.run_id == t.run.c.id, t.pause.c.version.is_(None), t.pause.c.step.is_(None)
)
"""True of a run that somebody has paused: the run, and not its workflow or one of its steps."""

_PAUSE_RUNS = Statement(
    upsert(t.pause)
    .from_select(
        ["run_id", "reason"],
        sa.select(t.run.c.id, sql.text("reason")).where(
            t.run.c.id == sa.any_(sql.uuids("runs")), t.run.c.finished_at.is_(None)
        ),
    )
    .on_conflict_do_nothing()
    .returning(t.pause.c.run_id)
)


def put_on_runs(connection: Connection, runs: Iterable[UUID], reason: str | None) -> set[UUID]:
    """Pause those runs that have not ended, and are not paused; return which."""
    rows = connection.rows(_PAUSE_RUNS, {"runs": sql.array(runs), "reason": reason})
    return {row["run_id"] for row in rows}


_UNPAUSE_RUNS = Statement(
    sa.delete(t.pause)
    .where(
        t.pause.c.run_id == sa.any_(sql.uuids("runs")),
        t.pause.c.version.is_(None),
        t.pause.c.step.is_(None),
    )
    .returning(t.pause.c.run_id)
)


def lift_from_runs(connection: Connection, runs: Iterable[UUID]) -> set[UUID]:
    """Unpause these runs, and not their steps; return those that were paused."""
    rows = connection.rows(_UNPAUSE_RUNS, {"runs": sql.array(runs)})
    return {row["run_id"] for row in rows}


_ids = sa.func.json_array_elements_text(sql.json("runs")).table_valued("value")

_LIFT_OF_RUNS = Statement(
    sa.delete(t.pause).where(
        t.pause.c.run_id.in_(sa.select(sa.cast(_ids.c.value, sa.Uuid))),
        # A cancel changes nothing of a run that is compensating.
        sa.not_(
            sql.there_is(
                t.run.c.id == t.pause.c.run_id, t.run.c.status == sql.word(Status.COMPENSATING)
            )
        ),
    )
)


def lift_of_runs(connection: Connection, runs: Sequence[UUID]) -> None:
    """Unpause runs that are cancelled: they have to end."""
    connection.rows(_LIFT_OF_RUNS, {"runs": _listing(runs)})


_FORGET_ENDED = Statement(
    sa.delete(t.pause).where(
        t.pause.c.run_id.in_(
            sa.select(t.run.c.id)
            .join_from(t.pause, t.run, t.run.c.id == t.pause.c.run_id)
            .where(t.run.c.finished_at.is_not(None))
        )
    )
)


def forget_ended(connection: Connection) -> None:
    """Delete the pauses of runs that have ended: what was executed was their last unit."""
    connection.rows(_FORGET_ENDED)


_noted = t.action.c


def _last_noted(*which: sa.ColumnElement[bool]) -> sa.ScalarSelect[str]:
    return (
        sa.select(_noted.actor)
        .where(
            _noted.name == sql.word("pause"),
            _noted.what.is_not_distinct_from(t.pause.c.step),
            *which,
        )
        .order_by(_noted.id.desc())
        .limit(sa.literal_column("1"))
        .scalar_subquery()
    )


# Two subqueries, for each has an index of its own.
_by = sa.case(
    (t.pause.c.run_id.is_not(None), _last_noted(_noted.run_id == t.pause.c.run_id)),
    else_=_last_noted(
        _noted.run_id.is_(None),
        _noted.workflow.is_not_distinct_from(t.pause.c.workflow),
        _noted.version.is_not_distinct_from(t.pause.c.version),
    ),
).label("by")

_columns = [*(t.pause.c[name] for name in (*_WHAT, "reason", "paused_at")), _by]

_LIST = Statement(sa.select(*_columns).order_by(t.pause.c.id))
_OF_RUNS = Statement(
    sa.select(*_columns)
    .where(
        sa.or_(
            t.pause.c.run_id.is_(None),
            t.pause.c.run_id.in_(sa.select(sa.cast(_ids.c.value, sa.Uuid))),
        )
    )
    .order_by(t.pause.c.id)
)


def listed(connection: Connection) -> Sequence[Paused]:
    """All pauses, the oldest first."""
    return [*map(_paused, connection.rows(_LIST))]


def of_runs(connection: Connection, runs: Sequence[UUID]) -> Sequence[Paused]:
    """The pauses of these runs, and those that are of no one run; the oldest first."""
    return [*map(_paused, connection.rows(_OF_RUNS, {"runs": _listing(runs)}))]


def _paused(row: Row) -> Paused:
    return Paused(Pause(*(row[name] for name in _WHAT)), row["reason"], row["paused_at"], row["by"])


def _listing(runs: Sequence[UUID]) -> str:
    return json.dumps([str(run) for run in runs])

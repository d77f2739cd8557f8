"""Reopens runs that have ended, to compensate: each gets a token, which is rolled back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from celery_durable.core.child import ReopenedRun
from celery_durable.core.names import ROLLBACK
from celery_durable.core.status import Status
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.inheriting import IS_COMPENSATION
from celery_durable.store.outbox import HINTED_BY, hint_of, insert_hints

_ids = sql.uuids("runs")

_SET_ASIDE = Statement(
    sa.update(t.journal)
    .where(
        t.journal.c.run_id == sa.any_(_ids),
        IS_COMPENSATION,
        t.journal.c.outcome == sql.word("failed"),
    )
    .values(unit=sa.func.concat(t.journal.c.unit, sql.word("#"), t.journal.c.seq))
    .returning(t.journal.c.run_id)
)


def set_aside_failed_compensations(connection: Connection, runs: Iterable[UUID]) -> set[UUID]:
    """Give failed compensations a name of their own, so that they are tried again.

    Return the runs that have such. They stay in the journal as `charge#compensate#17`; the number
    is their place in it.
    """
    rows = connection.rows(_SET_ASIDE, {"runs": sql.array(runs)})
    return {row["run_id"] for row in rows}


_new: Any = (
    sa.func.json_to_recordset(sql.json("tokens"))
    .table_valued(
        *(sa.column(name, sa.Uuid) for name in ("id", "run_id", "fence")), name="new_tokens"
    )
    .render_derived(name="new_tokens", with_types=True)
)


def _reopening(*ended: Status, ends_as: Status, **values: sa.ColumnElement[Any]) -> Statement:
    """Let runs that have ended as one of `ended` compensate, and end as `ends_as` then."""
    run = (
        sa.update(t.run)
        .where(
            sql.any_of(t.run.c.id, sa.select(_new.c.run_id)),
            t.run.c.status.in_([sql.word(one) for one in ended]),
        )
        .values(
            status=sql.word(Status.COMPENSATING),
            finished_at=sa.null(),
            updated_at=sql.clock,
            **values,
        )
        .returning(t.run.c.id, t.run.c.workflow, t.run.c.priority)
        .cte("reopened")
    )
    token = {
        "id": _new.c.id,
        "run_id": run.c.id,
        "node": sql.word(ROLLBACK),
        "unit": sql.word(ROLLBACK),
        "rollback": sql.word(ends_as),
        "queue": sql.text("queue"),
        "priority": run.c.priority,
        "fence": _new.c.fence,
    }
    placed = (
        sa.insert(t.token)
        .from_select(
            list(token), sa.select(*token.values()).join_from(run, _new, _new.c.run_id == run.c.id)
        )
        .returning(*HINTED_BY)
        .cte("placed")
    )
    hint = sa.select(*hint_of(placed, run.c.workflow)).join_from(
        placed, run, run.c.id == placed.c.run_id
    )
    return Statement(sa.select(run.c.id).add_cte(insert_hints(hint).cte("hinted")))


_REOPEN_CHILD = _reopening(
    *(Status.COMPLETED, Status.FAILED),
    ends_as=Status.CANCELLED,
    parent_token=sql.uuid("parent_token"),
)
_REOPEN_FAILED = _reopening(Status.FAILED, ends_as=Status.FAILED)


def _listed(*runs: ReopenedRun) -> str:
    rows = [
        {"id": str(run.token_id), "run_id": str(run.id), "fence": str(run.fence)} for run in runs
    ]
    return json.dumps(rows)


def reopen_child(connection: Connection, run: ReopenedRun, parent_token: UUID) -> bool:
    """Reopen a completed child, which is undone with its parent.

    Or one that was to be undone before, and has failed: the caller has set aside what has failed.
    The caller must park its own token for the child in the same transaction. Return False if the
    child is undone already.
    """
    parameters = {"tokens": _listed(run), "queue": run.queue, "parent_token": parent_token}
    return bool(connection.rows(_REOPEN_CHILD, parameters))


def reopen_failed(connection: Connection, runs: Iterable[UUID], queue: str) -> set[UUID]:
    """Reopen those of the runs that are failed, so that they compensate again; return which."""
    tokens = _listed(*(ReopenedRun(run_id, uuid4(), uuid4(), queue) for run_id in runs))
    rows = connection.rows(_REOPEN_FAILED, {"tokens": tokens, "queue": queue})
    return {row["id"] for row in rows}

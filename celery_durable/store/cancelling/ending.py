"""Ends cancelled tokens, and their runs, that wait for nothing any more."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert

from celery_durable.core.decision import JournalRecord
from celery_durable.core.status import Status
from celery_durable.core.token import Flags, ForChild, Token
from celery_durable.errors import ErrorRecord
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.cancelling.branches import count_down
from celery_durable.store.cancelling.selecting import (
    COMPENSATE,
    GOES_FORWARD,
    IS_FIRST,
    IS_OF_RUNS,
    NONE,
    SKIP,
    WAITS_FOR_CHILD,
    child,
    listing,
)
from celery_durable.store.connection import Connection, Row, Statement
from celery_durable.store.outbox import IS_AT_ONCE, clear_hints, put_hints_of_many, replace_hints
from celery_durable.store.rows import error_of, error_text, failures_of, failures_text, wait_of


@dataclass(frozen=True, slots=True)
class Idle:
    """A cancelled token that nobody has claimed, and that waits for nothing any more.

    `child` is how the child that it waited for has ended.
    """

    token: Token
    waiting_since: datetime | None
    now: datetime
    child: tuple[Status, ErrorRecord | None] | None


_cancel: Any = sa.literal_column(str(int(Flags.CANCEL)))

# Compensating calls users' code, which only a worker does.
_has_to_compensate = sa.and_(
    t.token.c.flags.op("&")(COMPENSATE) != NONE,
    sa.or_(
        # It was recorded by hand, and that counts.
        t.token.c.flags.op("&")(SKIP) != NONE,
        sa.and_(WAITS_FOR_CHILD, child.c.status == sql.word(Status.COMPLETED)),
        sa.and_(
            IS_FIRST,
            sql.there_is(t.journal.c.run_id == t.token.c.run_id, t.journal.c.undoable),
        ),
    ),
)

# What is sent when a run fails is in the code.
_has_to_tell = sa.and_(
    t.token.c.flags.op("&")(sa.literal_column(str(int(Flags.RUN_TIMEOUT)))) != NONE,
    sql.there_is(
        t.run.c.id == t.token.c.run_id,
        t.definition.c.workflow == t.run.c.workflow,
        t.definition.c.version == t.run.c.version,
        t.definition.c.plan["tells_of_failure"].as_boolean(),
    ),
)

_IDLE = Statement(
    sa.select(
        t.token.c.id,
        t.token.c.run_id,
        t.token.c.node,
        t.token.c.unit,
        t.token.c.attempt,
        t.token.c.flags,
        sql.json_text(t.token.c.failures),
        t.token.c.parent_id,
        t.token.c.part,
        t.token.c.position,
        t.token.c.wait,
        t.token.c.awaits,
        t.token.c.child_run_id,
        t.token.c.remaining,
        t.token.c.failed,
        t.token.c.total,
        t.token.c.waiting_since,
        child.c.status.label("child_status"),
        sql.json_text(child.c.error, "child_error"),
        child.c.cancel_reason.label("child_reason"),
        sql.clock.label("now"),
    )
    .join_from(t.token, child, child.c.id == t.token.c.child_run_id, isouter=True)
    .where(
        IS_OF_RUNS,
        t.token.c.parent_id.is_not(None) == sql.boolean("branches"),
        t.token.c.claimed_by.is_(None),
        GOES_FORWARD,
        t.token.c.flags.op("&")(_cancel) != NONE,
        sa.or_(
            t.token.c.wait.is_(None),
            t.token.c.wait.in_([sql.word("signal"), sql.word("timer"), sql.word("operator")]),
            sa.and_(t.token.c.wait == sql.word("branches"), t.token.c.remaining == NONE),
            sa.and_(WAITS_FOR_CHILD, child.c.finished_at.is_not(None)),
        ),
        sa.not_(sa.func.coalesce(_has_to_compensate, sa.false())),
        sa.not_(sa.func.coalesce(_has_to_tell, sa.false())),
    )
    .limit(sql.integer("limit"))
    .with_for_update(skip_locked=True, of=t.token)
)

MOST = 5000
"""The most tokens that one transaction ends."""


def lock_idle(connection: Connection, runs: Sequence[UUID], *, branches: bool) -> Sequence[Idle]:
    """Lock and return idle tokens of these runs, `MOST` at most: branches, or first tokens."""
    parameters = {"runs": listing(runs), "branches": branches, "limit": MOST}
    return [_idle_of(row) for row in connection.rows(_IDLE, parameters)]


def _idle_of(row: Row) -> Idle:
    token = Token(
        id=row["id"],
        run_id=row["run_id"],
        node=row["node"],
        unit=row["unit"],
        attempt=row["attempt"],
        flags=Flags(row["flags"]),
        failures=failures_of(row["failures"]),
        parent=row["parent_id"],
        part=row["part"],
        position=row["position"],
        wait=wait_of(row) if row["wait"] else None,
    )
    child = None
    if isinstance(token.wait, ForChild):
        status = Status(row["child_status"])
        error = error_of(row["child_error"])
        if status is Status.CANCELLED and error is None:
            error = ErrorRecord("RunCancelled", row["child_reason"] or "")
        child = (status, error)
    return Idle(token, row["waiting_since"], row["now"], child)


_recordset: Any = (
    sa.func.json_to_recordset(sql.json("records"))
    .table_valued(
        sa.column("run_id", sa.Uuid),
        sa.column("unit", sa.Text),
        sa.column("node", sa.Text),
        sa.column("part", sa.Text),
        sa.column("position", sa.Integer),
        sa.column("outcome", sa.Text),
        sa.column("attempt", sa.Integer),
        sa.column("child_run_id", sa.Uuid),
        sa.column("error", sa.JSON),
        sa.column("failures", sa.JSON),
        sa.column("started_at", sa.DateTime(timezone=True)),
        name="record",
    )
    .render_derived(name="record", with_types=True)
)
_RECORD = Statement(
    upsert(t.journal)
    .from_select([*_recordset.c.keys(), "undoable"], sa.select(*_recordset.c, sa.false()))
    .on_conflict_do_nothing(index_elements=["run_id", "unit"])
)


def record(connection: Connection, entries: Sequence[tuple[UUID, JournalRecord]]) -> None:
    """Write entries of units that no worker has executed; nothing of them can be compensated."""
    if not entries:
        return
    rows = [
        {
            "run_id": str(run_id),
            "unit": entry.unit,
            "node": entry.node,
            "part": entry.part,
            "position": entry.position,
            "outcome": entry.outcome,
            "attempt": entry.attempt,
            "child_run_id": str(entry.child) if entry.child else None,
            "error": _parsed(error_text(entry.error)),
            "failures": _parsed(failures_text(entry.failures)),
            "started_at": entry.started_at.isoformat(),
        }
        for run_id, entry in entries
    ]
    connection.rows(_RECORD, {"records": json.dumps(rows)})


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)


_listed_tokens = sa.func.json_array_elements_text(sql.json("tokens")).table_valued("value")
_tokens = sa.select(sa.cast(_listed_tokens.c.value, sa.Uuid))
_gone = (
    sa.delete(t.token)
    .where(t.token.c.id.in_(_tokens))
    .returning(t.token.c.id, t.token.c.run_id)
    .cte("gone")
)
_DELETE = Statement(sa.select(_gone.c.id).add_cte(clear_hints(_gone).cte("cleared")))


def leave(connection: Connection, runs: Sequence[UUID], branches: Sequence[Token]) -> None:
    """Delete these locked branches, and count them down at the gates of their parents."""
    connection.rows(_DELETE, {"tokens": listing(token.id for token in branches)})
    ended: dict[UUID, int] = {}
    for token in branches:
        assert token.parent is not None
        ended[token.parent] = ended.get(token.parent, 0) + 1
    count_down(connection, runs, ended)


_failed: Any = (
    sa.func.json_to_recordset(sql.json("errors"))
    .table_valued(sa.column("run_id", sa.Uuid), sa.column("error", sa.JSON), name="failed")
    .render_derived(name="failed", with_types=True)
)
_error = sa.select(_failed.c.error).where(_failed.c.run_id == t.run.c.id).scalar_subquery()
_finished = (
    sa.update(t.run)
    .where(sql.any_of(t.run.c.id, sa.select(_gone.c.run_id)))
    .values(
        status=sa.case(
            (_error.is_not(None), sql.word(Status.FAILED)), else_=sql.word(Status.CANCELLED)
        ),
        error=sa.func.coalesce(_error, t.run.c.error),
        updated_at=sql.clock,
        finished_at=sql.clock,
    )
    .returning(
        *(t.run.c.id, t.run.c.workflow, t.run.c.version, t.run.c.parent_run_id),
        t.run.c.parent_token,
    )
    .cte("finished")
)
_emptied = (
    sa.delete(t.inbox)
    .where(
        sql.any_of(t.inbox.c.run_id, sa.select(_gone.c.run_id)),
        t.inbox.c.kind == sql.word("signal"),
    )
    .cte("emptied")
)
# A parent within a tree is ended by the cancel itself.
_parents = (
    sa.select(t.token)
    .join_from(t.token, _finished, _finished.c.parent_token == t.token.c.id)
    .where(
        WAITS_FOR_CHILD,
        t.token.c.child_run_id == _finished.c.id,
        _finished.c.id == sa.any_(sql.uuids("tops")),
    )
    .cte("parents")
)
_END = Statement(
    sa.select(
        _finished.c.id, _finished.c.workflow, _finished.c.version, _finished.c.parent_run_id
    ).add_cte(
        _emptied,
        clear_hints(_gone).cte("cleared"),
        *replace_hints(_parents, "told"),
    )
)


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that has ended; `parent` is the run that has started it."""

    id: UUID
    workflow: str
    version: int
    parent: UUID | None


def end(
    connection: Connection,
    tops: Iterable[UUID],
    tokens: Sequence[Token],
    errors: Mapping[UUID, ErrorRecord],
) -> Sequence[Ended]:
    """End the runs of these locked first tokens; put hints for the parents of the `tops` of them.

    The runs in `errors` have failed, the others are cancelled.
    """
    failed = [
        {"run_id": str(run_id), "error": _parsed(error_text(error))}
        for run_id, error in errors.items()
    ]
    parameters = {
        "tokens": listing(token.id for token in tokens),
        "tops": sql.array(tops),
        "errors": json.dumps(failed),
    }
    return [
        Ended(row["id"], row["workflow"], row["version"], row["parent_run_id"])
        for row in connection.rows(_END, parameters)
    ]


_has_hint = sql.there_is(
    t.outbox.c.token_id == t.token.c.id, t.outbox.c.fence == t.token.c.fence, IS_AT_ONCE
)

_without_hint = (
    sa.select(t.token)
    .where(
        IS_OF_RUNS,
        sa.not_(_has_hint),
        t.token.c.claimed_by.is_(None),
        GOES_FORWARD,
        sa.or_(
            t.token.c.wait.is_(None),
            t.token.c.wait.in_([sql.word("signal"), sql.word("timer"), sql.word("operator")]),
            sa.and_(t.token.c.wait == sql.word("branches"), t.token.c.remaining == NONE),
            sa.and_(
                WAITS_FOR_CHILD,
                sql.there_is(
                    child.c.id == t.token.c.child_run_id, child.c.finished_at.is_not(None)
                ),
            ),
        ),
    )
    .cte("to_be_told")
)
_HINT = Statement(put_hints_of_many(_without_hint))


def put_hints_for(connection: Connection, runs: Sequence[UUID]) -> None:
    """Put hints for unclaimed tokens of these runs: only a worker can end what is left."""
    connection.rows(_HINT, {"runs": listing(runs)})

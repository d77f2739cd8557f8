"""Finds runs whose deadlines have passed, and has them ended.

A run that took too long gets a command in its inbox, which is applied like a cancel
(`background.cancelling`). A run that expires must not have begun, and must not begin any more: its
token is locked, looked at and flagged in one statement, and whoever claims it afterwards finds the
flag. No statement here waits for a lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.status import Status
from celery_durable.core.token import Flags
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement
from celery_durable.store.inbox import CANCEL, Cancel
from celery_durable.store.outbox import AT_ONCE, LOOK_AT, put_hints

TIMED_OUT = Cancel(compensate=True, reason="timed out", timed_out=True)
EXPIRED = Cancel(compensate=False, reason="expired")

# As `durable_run_deadline_idx` has it. Below `now()`: no index finds a time that may change.
_IS_OVERDUE = (
    t.run.c.finished_at.is_(None),
    t.run.c.cancel_requested_at.is_(None),
    t.run.c.status != sql.word(Status.COMPENSATING),
    t.run_deadline.is_not(None),
    t.run_deadline <= sa.func.now(),
)

HAS_OVERDUE = sql.is_found(sa.select(t.run.c.id).where(*_IS_OVERDUE).order_by(t.run_deadline))
"""True if the deadline of a run has passed, and nobody has done anything about it."""

_first_token = sa.and_(t.token.c.run_id == t.run.c.id, t.token.c.parent_id.is_(None))
_is_expired = t.run.c.expires_at <= sa.func.now()


def _ended(runs: Any) -> Statement:
    """Have `runs` ended: mark them as asked to end, and put the command and a hint for each."""
    marked = (
        sa.update(t.run)
        .where(sql.any_of(t.run.c.id, sa.select(runs.c.run_id)))
        .values(cancel_requested_at=sql.clock, cancel_reason=sql.text("reason"))
        .returning(t.run.c.id, t.run.c.workflow)
        .cte("marked")
    )
    command = {
        "run_id": marked.c.id,
        "kind": sql.word("command"),
        "name": sql.word(CANCEL),
        "payload": sql.json("payload"),
    }
    sent = sa.insert(t.inbox).from_select(list(command), sa.select(*command.values()))
    first = (
        sa.select(t.token)
        .join_from(t.token, marked, marked.c.id == t.token.c.run_id)
        .where(t.token.c.parent_id.is_(None))
        .cte("first")
    )
    hinted = put_hints(first, at=AT_ONCE).cte("hinted")
    return Statement(sa.select(marked.c.id, marked.c.workflow).add_cte(sent.cte("sent"), hinted))


_timed_out = (
    sa.select(t.run.c.id.label("run_id"))
    .where(*_IS_OVERDUE, t.run.c.times_out_at <= sa.func.now())
    .order_by(t.run_deadline)
    .limit(sql.integer("batch"))
    .with_for_update(skip_locked=True, key_share=True)
    .cte("timed_out")
)
_TIME_OUT = _ended(_timed_out)

# Of a token that is just being claimed it is not known whether it begins: the next look tells.
_not_begun = (
    sa.select(t.token.c.id)
    .join_from(t.run, t.token, _first_token)
    .where(*_IS_OVERDUE, _is_expired, sa.not_(t.token.c.begun))
    .order_by(t.run_deadline)
    .limit(sql.integer("batch"))
    .with_for_update(skip_locked=True, key_share=True, of=[t.run, t.token])
    .cte("not_begun")
)
_CANCEL: Any = sa.literal_column(str(int(Flags.CANCEL)))
_flagged = (
    sa.update(t.token)
    .where(sql.any_of(t.token.c.id, sa.select(_not_begun.c.id)))
    .values(flags=t.token.c.flags.op("|")(_CANCEL), look_at=LOOK_AT)
    .returning(t.token.c.run_id)
    .cte("flagged")
)
_EXPIRE = _ended(_flagged)

# A worker that does not know the run gives its claim back at once, and then it has not begun.
_may_be_given_back = sa.and_(
    t.token.c.first_claim,
    t.token.c.claimed_by.is_not(None),
    t.token.c.since > sql.clock - sa.literal_column(f"interval '{t.LOOK_AFTER} seconds'"),
)
_begun = (
    sa.select(t.run.c.id)
    .join_from(t.run, t.token, _first_token)
    .where(*_IS_OVERDUE, _is_expired, t.token.c.begun, sa.not_(_may_be_given_back))
    .order_by(t.run_deadline)
    .limit(sql.integer("batch"))
    .with_for_update(skip_locked=True, key_share=True, of=t.run)
)
_KEEP = Statement(
    sa.update(t.run)
    .where(sql.any_of(t.run.c.id, _begun))
    .values(expires_at=sa.null())
    .returning(t.run.c.id)
)


@dataclass(frozen=True, slots=True)
class Overdue:
    """A run that is being ended, since its deadline has passed."""

    id: UUID
    workflow: str


def time_out(connection: Connection, batch: int) -> Sequence[Overdue]:
    """Have up to `batch` runs ended that took too long; those that are compensating are left."""
    return _overdue(connection, _TIME_OUT, TIMED_OUT, batch)


def expire(connection: Connection, batch: int) -> Sequence[Overdue]:
    """Have up to `batch` runs cancelled that have not begun by the time at which they expire."""
    return _overdue(connection, _EXPIRE, EXPIRED, batch)


def _overdue(
    connection: Connection, statement: Statement, command: Cancel, batch: int
) -> Sequence[Overdue]:
    parameters = {"batch": batch, "reason": command.reason, "payload": command.payload}
    rows: Sequence[Row] = connection.rows(statement, parameters)
    return [Overdue(row["id"], row["workflow"]) for row in rows]


def keep_begun(connection: Connection, batch: int) -> None:
    """Take the time at which they expire from up to `batch` runs that have begun by then."""
    connection.rows(_KEEP, {"batch": batch})

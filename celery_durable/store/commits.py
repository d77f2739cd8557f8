"""Committing what a unit did: one statement, the hot one.

It finds its token by the fence of the claim, and by the flags that were seen: so a worker that was
declared dead cannot commit, and a cancel that arrives while a unit executes is always seen before
its commit. Locks: the statement locks one token, then (after it) the token's run.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from celery_durable.core.claim import Claim
from celery_durable.core.decision import Decision, End, JournalRecord, Move, RunChange
from celery_durable.core.status import FINISHED
from celery_durable.core.token import Flags, Token
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import (
    AlreadyRecorded,
    Connection,
    Parameters,
    Statement,
    one,
)
from celery_durable.store.outbox import hint_of, insert_hints
from celery_durable.store.rows import error_text, failures_text
from celery_durable.store.tokens import IS_DRAINING, Standing, read


@dataclass(frozen=True, slots=True)
class Committed:
    """The decision is written."""

    at: datetime
    draining: bool
    has_commands: bool


@dataclass(frozen=True, slots=True)
class AlreadyCommitted:
    """The token has moved on under our own fence: this was sent before, and its answer was lost."""


@dataclass(frozen=True, slots=True)
class FlagRaised:
    """Nothing is written: a flag went up meanwhile; decide again with it in view."""

    flags: Flags


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing is written: the claim is no longer ours."""


@dataclass(frozen=True, slots=True)
class Release:
    """The claim is given back; the token's message goes to `queue`."""

    queue: str
    priority: int | None


@dataclass(frozen=True, slots=True)
class Shape:
    """Which parts a commit has; each combination is one statement, compiled once."""

    ends: bool
    records: bool
    changes_run: bool
    releases: bool


def commit(
    connection: Connection, claim: Claim, decision: Decision, release: Release | None
) -> Committed | AlreadyCommitted | FlagRaised | Refused:
    """Write `decision` in one statement, if `claim` still holds and no further flag is up.

    Without a `release` a token that moves stays claimed: the worker goes straight on. With one, the
    hint that will bring the token back is written in the same statement (P1).
    """
    assert len(decision.records) <= 1
    shape = Shape(
        ends=isinstance(decision.then, End),
        records=bool(decision.records),
        changes_run=decision.run is not None,
        releases=release is not None,
    )
    try:
        row = one(connection, _commit(shape), _parameters(claim, decision, release))
    except AlreadyRecorded:
        return Refused()
    if row is not None:
        return Committed(row["now"], bool(row["draining"]), row["has_commands"])
    return _why_not(claim, decision.token, read(connection, decision.token.id))


def _why_not(
    claim: Claim, held: Token, standing: Standing | None
) -> AlreadyCommitted | FlagRaised | Refused:
    """What it means that no row was as the commit must find it."""
    if standing is None or standing.fence != claim.fence:
        return Refused()
    if standing.is_where(held):
        return FlagRaised(standing.flags) if standing.flags != held.flags else Refused()
    return AlreadyCommitted()


_HELD = (
    t.token.c.id == sql.uuid("token_id"),
    t.token.c.fence == sql.uuid("held_fence"),
    t.token.c.flags == sql.integer("seen_flags"),
    t.token.c.claimed_by == sql.uuid("worker"),
    # A commit sent twice, because its first answer was lost, finds the token moved on.
    t.token.c.unit == sql.text("held_unit"),
    t.token.c.attempt == sql.integer("held_attempt"),
)


@lru_cache(maxsize=16)
def _commit(shape: Shape) -> Statement:
    held = (_ended() if shape.ends else _moved(releases=shape.releases)).cte("held")
    parts = []
    if shape.records:
        parts.append(_recorded(held).cte("recorded"))
    if shape.changes_run:
        parts.append(_run_changed(held).cte("changed"))
    if shape.releases:
        hint = sa.select(*hint_of(held, sql.text("workflow"))).select_from(held)
        parts.append(insert_hints(hint).cte("hinted"))
    answer = sa.select(
        sql.clock.label("now"),
        IS_DRAINING.label("draining"),
        sql.has_commands(held.c.run_id).label("has_commands"),
    ).select_from(held)
    return Statement(answer.add_cte(*parts))


def _ended() -> Any:
    return sa.delete(t.token).where(*_HELD).returning(t.token.c.run_id)


def _moved(*, releases: bool) -> Any:
    values = {
        "node": sql.text("node"),
        "unit": sql.text("unit"),
        "attempt": sql.integer("attempt"),
        "crashes": sql.integer("crashes"),
        "flags": sql.integer("flags"),
        "rollback": sql.text("rollback"),
        "failures": sql.json("failures"),
        "wake_at": sql.clock + sql.interval("delay"),
    }
    if releases:
        values |= {
            "claimed_by": sa.null(),
            "queue": sql.text("queue"),
            "priority": sql.integer("priority"),
            "hinted_at": sql.clock,
            "hints": sa.literal_column("0"),
        }
    return sa.update(t.token).where(*_HELD).values(values).returning(*t.token.c)


def _recorded(held: Any) -> Any:
    columns = {
        "run_id": held.c.run_id,
        "unit": sql.text("record_unit"),
        "node": sql.text("record_node"),
        "outcome": sql.text("outcome"),
        "undoable": sql.boolean("undoable"),
        "attempt": sql.integer("record_attempt"),
        "result": sql.json("result"),
        "error": sql.json("error"),
        "failures": sql.json("record_failures"),
        "worker": sql.uuid("worker"),
        "started_at": sql.time("started_at"),
    }
    return sa.insert(t.journal).from_select(
        list(columns), sa.select(*columns.values()).select_from(held)
    )


def _run_changed(held: Any) -> Any:
    finishes = sa.case((sql.boolean("finishes"), sql.clock), else_=sa.null())
    return (
        sa.update(t.run)
        .where(t.run.c.id == held.c.run_id)
        .values(
            status=sql.text("status"),
            error=sa.func.coalesce(sql.json("run_error"), t.run.c.error),
            result=sa.func.coalesce(sql.json("run_result"), t.run.c.result),
            updated_at=sql.clock,
            finished_at=finishes,
        )
    )


def _parameters(claim: Claim, decision: Decision, release: Release | None) -> Parameters:
    token = decision.token
    parameters: dict[str, Any] = {
        "token_id": token.id,
        "held_fence": claim.fence,
        "seen_flags": int(token.flags),
        "held_unit": token.unit,
        "held_attempt": token.attempt,
        "worker": claim.worker,
    }
    if isinstance(decision.then, Move):
        parameters |= _token_parameters(decision.then)
    for record in decision.records:
        parameters |= _record_parameters(record)
    if decision.run is not None:
        parameters |= _run_parameters(decision.run)
    if release is not None:
        parameters |= {
            "workflow": claim.run.workflow,
            "queue": release.queue,
            "priority": release.priority,
        }
    return parameters


def _token_parameters(move: Move) -> Parameters:
    token: Token = move.token
    return {
        "node": token.node,
        "unit": token.unit,
        "attempt": token.attempt,
        "crashes": token.crashes,
        "flags": int(token.flags),
        "rollback": token.rollback,
        "failures": failures_text(token.failures),
        "delay": timedelta(seconds=move.delay),
    }


def _record_parameters(record: JournalRecord) -> Parameters:
    return {
        "record_unit": record.unit,
        "record_node": record.node,
        "outcome": record.outcome,
        "undoable": record.undoable,
        "record_attempt": record.attempt,
        "result": record.result,
        "error": error_text(record.error),
        "record_failures": failures_text(record.failures),
        "started_at": record.started_at,
    }


def _run_parameters(change: RunChange) -> Parameters:
    return {
        "status": change.status,
        "run_error": error_text(change.error),
        "run_result": change.result,
        "finishes": change.status in FINISHED,
    }

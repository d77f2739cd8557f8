"""Commits the decision on a unit, in one statement: the hot one.

The statement finds its token by the fence of the claim, and by the flags that were seen. So a
worker that was declared dead cannot commit, and a cancel that arrives while a unit executes is
always seen before the unit's commit. Locks: the statement locks one signal, then one token, then
(for a branch) siblings that have not begun, then the parent, then the run.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from celery_durable.core.child import NewRun, ReopenedRun
from celery_durable.core.claim import Claim
from celery_durable.core.decision import (
    Decision,
    End,
    Fork,
    Leave,
    Move,
    Outcome,
)
from celery_durable.core.token import Flags
from celery_durable.core.values import value
from celery_durable.store import inbox, reopening, runs, sql
from celery_durable.store import tables as t
from celery_durable.store.commit import fork
from celery_durable.store.commit.parameters import Routed, Variant, parameters_of, variant_of
from celery_durable.store.connection import Connection, Statement, one
from celery_durable.store.outbox import (
    AT_ONCE,
    clear_timers,
    hint_of,
    insert_hints,
    put_hints,
    tasks_sent,
)
from celery_durable.store.pauses import IS_ANYTHING_PAUSED
from celery_durable.store.sqlstates import AlreadyRecorded
from celery_durable.store.tokens import IS_DRAINING, RELEASED, Standing, read


@value(frozen=True, slots=True)
class Written:
    """The decision is written. `puts_hint` is False only if a branch has left and put none."""

    at: datetime
    draining: bool
    has_commands: bool
    is_anything_paused: bool = False
    puts_hint: bool = True


@value(frozen=True, slots=True)
class WrittenBefore:
    """The token has moved on under our own fence: the first answer to this commit was lost."""


@value(frozen=True, slots=True)
class FlagRaised:
    """Nothing is written: a flag was raised meanwhile; decide again with it."""

    flags: Flags


@value(frozen=True, slots=True)
class SignalGone:
    """Nothing is written: another token has consumed the signal; check the inbox again."""


@value(frozen=True, slots=True)
class RecordedBefore:
    """Nothing is written: the claim is ours, but the journal has its unit already.

    The run has passed this unit under a definition whose nodes had another order.
    """


@value(frozen=True, slots=True)
class ClaimLost:
    """Nothing is written: the claim is no longer ours."""


class ChildRefused(Exception):
    """A child cannot be started: the root of its tree, or its parent, has been cancelled."""


Answer = Written | WrittenBefore | FlagRaised | SignalGone | RecordedBefore | ClaimLost


def commit(
    connection: Connection, claim: Claim, decision: Decision, routed: Routed | None
) -> Answer:
    """Write `decision` in one statement, if `claim` still holds and no further flag is raised.

    Without `routed` a token that moves stays claimed, and the worker goes straight on. With it, the
    statement also puts the hint that makes a worker claim the token again.

    A second statement starts or reopens a child: both must be in one transaction. Raises
    `ChildRefused` if the child's tree has been cancelled; then neither may be committed.
    """
    statement = _commit(variant_of(claim, decision, routed))
    try:
        row = one(connection, statement, parameters_of(claim, decision, routed))
    except AlreadyRecorded:
        return RecordedBefore()
    if row is not None:
        _start(connection, decision)
        return Written(
            row["now"],
            bool(row["draining"]),
            row["has_commands"],
            row.get("is_anything_paused", False),
            row.get("puts_hint", True),
        )
    return _why_not(claim, decision, read(connection, decision.token.id))


def _start(connection: Connection, decision: Decision) -> None:
    match decision.starts:
        case NewRun() as new:
            if not runs.start(connection, [new], 0.0):
                raise ChildRefused
        case ReopenedRun() as child:
            reopening.set_aside_failed_compensations(connection, [child.id])
            if not reopening.reopen_child(connection, child, decision.token.id):
                # It is undone already: nobody else tells the parent.
                inbox.put_hint(connection, decision.token.run_id)
        case None:
            pass


def _why_not(claim: Claim, decision: Decision, standing: Standing | None) -> Answer:
    """Why the commit found no row that it may write: told from the token's row as it is now."""
    if standing is None or standing.fence != claim.fence:
        return ClaimLost()
    if not standing.is_where(decision.token):
        return WrittenBefore()
    if standing.flags != decision.token.flags:
        return FlagRaised(standing.flags)
    return SignalGone() if decision.consumes is not None else ClaimLost()


_HELD = (
    t.token.c.id == sql.uuid("token_id"),
    t.token.c.fence == sql.uuid("held_fence"),
    t.token.c.claimed_by == sql.uuid("worker"),
    # A commit that is sent again, because its first answer was lost, finds the token moved on.
    t.token.c.unit == sql.text("held_unit"),
    t.token.c.attempt == sql.integer("held_attempt"),
)

_AS_SEEN = (
    t.token.c.flags == sql.integer("seen_flags"),
    t.token.c.wait.is_not_distinct_from(sql.text("held_wait")),
)

_CALM = (t.token.c.flags == sa.literal_column("0"), t.token.c.wait.is_(None))


@lru_cache(maxsize=128)
def _commit(variant: Variant) -> Statement:
    held_if: tuple[Any, ...] = (*_HELD, *(_CALM if variant.is_smooth else _AS_SEEN))
    if variant.consumes:
        held_if = (*held_if, sa.exists(sa.select(_signal.c.id)))
    held = _held(variant, held_if).cte("held")
    parts = [_recorded(held, variant).cte("recorded")] if variant.records else []
    if variant.consumes:
        parts.append(_consumed(held).cte("consumed"))
        parts.append(_next_waiter_hinted(held).cte("next_told"))
    if variant.clears:
        parts.append(clear_timers(held).cte("cleared"))
    if variant.changes_run:
        parts.append(_run_updated(held).cte("changed"))
    if variant.hints:
        hint = sa.select(*hint_of(held, sql.text("workflow"))).select_from(held)
        parts.append(insert_hints(hint).cte("hinted"))
    if variant.then is Fork:
        parts += fork.fork_parts(held)
    answers = _answers(held, variant)
    if variant.then is Leave:
        leaving, puts_hint = fork.leave_parts(held, stops=variant.stops)
        parts += leaving
        answers.append(puts_hint.label("puts_hint"))
    if variant.then is End:
        parts.append(signals_deleted(held).cte("emptied"))
    parts += _told(held, variant)
    return Statement(sa.select(*answers).select_from(held).add_cte(*parts))


def _told(held: Any, variant: Variant) -> list[Any]:
    """The messages with which the end of a run is told to others."""
    parts = [tasks_sent(held).cte("tasks_put")] if variant.sends else []
    if variant.hints_parent:
        parts.append(_parent_hinted(held).cte("told"))
    return parts


def _answers(held: Any, variant: Variant) -> list[sa.Label[Any]]:
    """What the worker has to know, whatever it does next; and to go straight on."""
    answers = [
        sql.clock.label("now"),
        IS_DRAINING.label("draining"),
        sql.has_commands(held.c.run_id).label("has_commands"),
    ]
    goes_straight_on = variant.then is Move and not variant.releases
    paused = IS_ANYTHING_PAUSED.label("is_anything_paused")
    return [*answers, paused] if goes_straight_on else answers


def _held(variant: Variant, held_if: tuple[Any, ...]) -> Any:
    if variant.then in (End, Leave):
        return sa.delete(t.token).where(*held_if).returning(*t.token.c)
    needed = (*t.token.c,) if variant.releases else (t.token.c.id, t.token.c.run_id)
    values = _MOVED if variant.is_plain else _MOVED | _RARE
    if variant.is_smooth:
        values = _MOVED_SMOOTHLY
    if variant.then is Fork:
        values = values | fork.GATE
    if variant.releases:
        values = values | _RELEASED
    return sa.update(t.token).where(*held_if).values(values).returning(*needed)


_MOVED = {
    "node": sql.text("node"),
    "unit": sql.text("unit"),
    "attempt": sql.integer("attempt"),
    "crashes": sql.integer("crashes"),
    "flags": sql.integer("flags"),
    "rollback": sql.text("rollback"),
    "failures": sql.json("failures"),
    "progress": sa.null(),
    "since": sql.clock,
    "wake_at": sql.later("delay"),
}

_MOVED_SMOOTHLY: dict[str, Any] = {
    "node": sql.text("node"),
    "unit": sql.text("unit"),
    "attempt": sa.literal_column("1"),
    "crashes": sa.literal_column("0"),
    "progress": sa.null(),
    "since": sql.clock,
    "wake_at": sa.null(),
}

_RARE = {
    "part": sql.text("part"),
    "position": sql.integer("position"),
    "wait": sql.text("wait"),
    "awaits": sql.text("awaits"),
    "child_run_id": sql.uuid("child_run_id"),
    "waiting_since": sa.case((sql.text("wait").is_not(None), sql.clock)),
    "assignees": sa.cast(sql.text("assignees"), JSONB),
    "input": sql.json("input"),
    "snapshot": sql.json("snapshot"),
    "answer": sql.json("answer"),
    "remaining": sa.null(),
    "failed": sa.null(),
    "total": sa.null(),
    "opened": sa.null(),
}

_RELEASED = {
    **RELEASED,
    "queue": sql.text("queue"),
    "priority": sql.integer("priority"),
    "time_limit": sql.number("time_limit"),
    "single": sql.boolean("single"),
}

# Locked before the token is updated: a signal that another token consumes meanwhile is not found.
_signal = (
    sa.select(t.inbox.c.id, t.inbox.c.name)
    .where(t.inbox.c.id == sql.big("message"), t.inbox.c.consumed_by.is_(None))
    .with_for_update()
    .cte("signal")
)


def _consumed(held: Any) -> Any:
    return (
        sa.update(t.inbox).where(t.inbox.c.id == sql.big("message")).values(consumed_by=held.c.id)
    )


def _next_waiter_hinted(held: Any) -> Any:
    """INSERT of a hint for the next token that waits for this name, if there is a signal for it.

    A signal hints some of the tokens that wait (`signals.HINTED_WAITERS`); each signal that is
    consumed hints one more.
    """
    name = sa.select(_signal.c.name).scalar_subquery()
    is_more = sql.there_is(
        t.inbox.c.run_id == held.c.run_id,
        t.inbox.c.kind == sql.word("signal"),
        t.inbox.c.name == name,
        t.inbox.c.consumed_by.is_(None),
        t.inbox.c.id != sql.big("message"),
    )
    waiting = (
        sa.select(t.token)
        .join_from(t.token, held, held.c.run_id == t.token.c.run_id)
        .where(t.token.c.awaits == name, t.token.c.id != held.c.id, is_more)
        .order_by(t.token.c.waiting_since)
        .limit(sa.literal_column("1"))
        .cte("next_waiting")
    )
    return put_hints(waiting, at=AT_ONCE)


def _recorded(held: Any, variant: Variant) -> Any:
    if variant.is_smooth:
        row = _smooth_record_columns(held)
        return sa.insert(t.journal).from_select(
            list(row), sa.select(*row.values()).select_from(held)
        )
    columns = [
        _record_columns(held, n) | ({} if variant.are_plain else _rare_record_columns(n))
        for n in range(variant.records)
    ]
    # In this order: `seq` says which came first.
    rows = [sa.select(*one.values()).select_from(held) for one in columns]
    return sa.insert(t.journal).from_select(
        list(columns[0]), rows[0] if len(rows) == 1 else sa.union_all(*rows)
    )


def _record_columns(held: Any, n: int) -> dict[str, sa.ColumnElement[Any]]:
    return {
        "run_id": held.c.run_id,
        "unit": sql.text(f"record_unit_{n}"),
        "node": sql.text(f"record_node_{n}"),
        "outcome": sql.text(f"outcome_{n}"),
        "undoable": sql.boolean(f"undoable_{n}"),
        "attempt": sql.integer(f"record_attempt_{n}"),
        "result": sql.json(f"result_{n}"),
        "error": sql.json(f"error_{n}"),
        "failures": sql.json(f"record_failures_{n}"),
        "worker": sql.uuid("worker"),
        "started_at": sql.time(f"started_at_{n}"),
    }


def _smooth_record_columns(held: Any) -> dict[str, Any]:
    return {
        "run_id": held.c.run_id,
        "unit": sql.text("held_unit"),
        "node": sql.text("record_node_0"),
        "outcome": sql.word(Outcome.COMPLETED),
        "undoable": sql.boolean("undoable_0"),
        "attempt": sql.integer("held_attempt"),
        "result": sql.json("result_0"),
        "worker": sql.uuid("worker"),
        "started_at": sql.time("started_at_0"),
    }


def _rare_record_columns(n: int) -> dict[str, sa.ColumnElement[Any]]:
    return {
        "part": sql.text(f"record_part_{n}"),
        "position": sql.integer(f"record_position_{n}"),
        "input": sql.json(f"record_input_{n}"),
        "gathers": sql.text(f"gathers_{n}"),
        "child_run_id": sql.uuid(f"record_child_{n}"),
    }


def signals_deleted(held: Any) -> Any:
    """DELETE of the run's signals. Not of its commands: applying one locks it before the token."""
    return sa.delete(t.inbox).where(
        t.inbox.c.run_id == held.c.run_id, t.inbox.c.kind == sql.word("signal")
    )


def _run_updated(held: Any) -> Any:
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


def _parent_hinted(held: Any) -> Any:
    """INSERT of a hint for the parent, if it waits for this run; does not lock its token."""
    parent = (
        sa.select(t.token)
        .where(
            t.token.c.id == sql.uuid("parent_token"),
            t.token.c.wait == sql.word("child"),
            t.token.c.child_run_id == held.c.run_id,
        )
        .cte("parent")
    )
    return put_hints(parent, at=AT_ONCE)

"""Claims a token, releases it, and reads where it stands without claiming it.

A claim writes a fresh nonce, the fence, into the token's row. A commit must name it
(`commit.statement`), so a worker that was declared dead cannot commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.claim import Claim
from celery_durable.core.token import Flags, Token
from celery_durable.store import origin, sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one
from celery_durable.store.outbox import LOOK_AT, put_hints
from celery_durable.store.pauses import is_paused
from celery_durable.store.rows import claim_of, kind_of

IS_DRAINING = (
    sa.select(t.worker.c.draining).where(t.worker.c.id == sql.uuid("worker")).scalar_subquery()
)

# A claim that is lost in a crash of the database does no harm, so it need not wait for the disk.
# set_config inside the statement makes this one statement asynchronous, and no other.
QUIET = sa.select(
    sa.func.set_config(
        sa.literal_column("'synchronous_commit'"), sa.literal_column("'off'"), sa.true()
    ).label("value")
).cte("quiet")

_is_flagged = t.token.c.flags != sa.literal_column("0")
_is_called = sa.or_(_is_flagged, t.token.c.wake_at <= sql.clock)
_is_delayed = t.token.c.wake_at.is_not(None)

_child = t.run.alias("child")

_is_there = sa.or_(
    sa.and_(t.token.c.wait.is_(None), sa.or_(sa.not_(_is_delayed), _is_called)),
    sa.and_(t.token.c.wait.in_([sql.word("signal"), sql.word("timer")]), _is_called),
    sa.and_(
        t.token.c.wait == sql.word("signal"),
        sql.there_is(
            t.inbox.c.run_id == t.token.c.run_id,
            t.inbox.c.kind == sql.word("signal"),
            t.inbox.c.name == t.token.c.awaits,
            t.inbox.c.consumed_by.is_(None),
        ),
    ),
    # Whatever its flags, a parent stays until its children and branches have ended.
    sa.and_(
        t.token.c.wait == sql.word("child"),
        sql.there_is(_child.c.id == t.token.c.child_run_id, _child.c.finished_at.is_not(None)),
    ),
    sa.and_(t.token.c.wait == sql.word("branches"), t.token.c.remaining == sa.literal_column("0")),
    sa.and_(t.token.c.wait == sql.word("operator"), _is_flagged),
)

IS_NOT_HELD = sa.or_(_is_flagged, sa.not_(is_paused(t.token.c)))
"""True if a token is not paused, or a flag is raised: that ends something, and begins nothing."""

IS_CLAIMABLE = sa.and_(_is_there, IS_NOT_HELD)
"""True if a token that nobody has claimed may be claimed: it is ready and due, or what it waits for
is there, and it is not paused; or a flag is raised.
"""

IS_IN_TIME = sa.or_(
    t.run.c.expires_at.is_(None),
    t.token.c.begun,
    t.token.c.flags != sa.literal_column("0"),
    t.run.c.expires_at > sql.clock,
    # What is forked, or undone, belongs to a run that has begun.
    t.token.c.parent_id.is_not(None),
    t.token.c.rollback.is_not(None),
)
"""False of the token of a run that has not begun by the time at which it expires: it is cancelled,
and what it begins with is not executed any more (`deadlines`).
"""

_deadline: Any = sql.clock + t.token.c.time_limit * sa.literal_column("interval '1 second'")

IS_LIVE = sa.exists().where(t.worker.c.id == sql.uuid("worker"), t.worker.c.ended_at.is_(None))

IS_QUIET = QUIET.c.value == sa.literal_column("'off'")

CLAIMED_BY_ME = {
    "claimed_by": sql.uuid("worker"),
    "fence": sql.uuid("new_fence"),
    "begun": sa.true(),
    "first_claim": sa.not_(t.token.c.begun),
    "since": sql.clock,
}
"""The values of a token that has been claimed."""

CLAIM = (
    t.token.c.id,
    t.token.c.run_id,
    t.token.c.node,
    t.token.c.unit,
    t.token.c.attempt,
    t.token.c.crashes,
    t.token.c.flags,
    t.token.c.rollback,
    sql.json_text(t.token.c.failures),
    t.token.c.parent_id,
    t.token.c.part,
    t.token.c.position,
    t.token.c.wait,
    t.token.c.awaits,
    t.token.c.child_run_id,
    t.token.c.waiting_since,
    t.token.c.remaining,
    t.token.c.failed,
    t.token.c.total,
    sql.json_text(t.token.c.input, "item"),
    sql.json_text(t.token.c.snapshot),
    sql.json_text(t.token.c.answer),
    t.token.c.queue,
    t.token.c.priority.label("token_priority"),
    t.token.c.time_limit,
    t.token.c.first_claim,
    t.run.c.workflow,
    t.run.c.version,
    t.run.c.status,
    t.run.c.key,
    t.run.c.priority,
    t.run.c.tags,
    sql.json_text(t.run.c.input),
    sql.json_text(t.run.c.error),
    t.run.c.parent_token,
    t.run.c.root_run_id,
    t.run.c.depth,
    sql.json_text(t.run.c.trace),
    sql.clock.label("now"),
    sql.seconds(t.token.c.wake_at - sql.clock).label("due_in"),
    sql.seconds(sql.clock - t.token.c.hinted_at).label("waited"),
    IS_DRAINING.label("draining"),
    sql.has_commands(t.token.c.run_id).label("has_commands"),
)
"""What a claim returns (`rows.claim_of`)."""

_CLAIM = Statement(
    sa.update(t.token)
    .values(
        # A token that waits is only checked: no step is executed, so there is no deadline.
        {**CLAIMED_BY_ME, "deadline_at": sa.case((t.token.c.wait.is_(None), _deadline))}
    )
    .where(
        t.token.c.id == sql.uuid("token_id"),
        t.token.c.run_id == t.run.c.id,
        # A claim that is sent again, because its answer was lost, finds its own fence.
        sa.or_(t.token.c.claimed_by.is_(None), t.token.c.fence == sql.uuid("new_fence")),
        IS_CLAIMABLE,
        IS_IN_TIME,
        IS_LIVE,
        IS_QUIET,
    )
    .returning(*CLAIM)
)


def claim(connection: Connection, token_id: UUID, worker: UUID, fence: UUID) -> Claim | None:
    """Claim the token for `worker`; None if it is not claimable now.

    It is claimable if nobody has claimed it, the worker has not ended, and `IS_CLAIMABLE`. Sent
    twice with one fence, it is one claim.
    """
    parameters = {"token_id": token_id, "worker": worker, "new_fence": fence}
    row = one(connection, _CLAIM, parameters)
    return claim_of(row, fence, worker) if row else None


_REFUSAL = Statement(
    sa.select(
        sa.select(t.token.c.run_id)
        .where(t.token.c.id == sql.uuid("token_id"), sql.has_commands(t.token.c.run_id))
        .scalar_subquery()
        .label("run_with_commands"),
        sa.not_(
            sa.exists().where(t.worker.c.id == sql.uuid("worker"), t.worker.c.ended_at.is_(None))
        ).label("worker_ended"),
        sa.and_(
            sql.text("origin").is_not(None),
            sql.text("origin").is_distinct_from(origin.OURS),
            sa.not_(sa.exists().where(t.token.c.id == sql.uuid("token_id"))),
        ).label("is_foreign"),
    )
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a claim may have been refused, besides a lost race."""

    run_with_commands: UUID | None
    worker_ended: bool
    is_foreign: bool


def refusal(
    connection: Connection, token_id: UUID, worker: UUID, hinted_by: str | None = None
) -> Refusal:
    """Read why a claim may have been refused.

    Applying the commands of `run_with_commands` may help, or a new worker id if `worker_ended`.
    `hinted_by` is the origin of the hint. `is_foreign`: it is another schema's, and this one has no
    such token.
    """
    parameters = {
        "token_id": token_id,
        "worker": worker,
        "origin": hinted_by,
        "schema": connection.schema,
    }
    row = one(connection, _REFUSAL, parameters)
    assert row is not None
    return Refusal(**row)


@dataclass(frozen=True, slots=True)
class Standing:
    """A token's row, read without claiming it."""

    run_id: UUID
    unit: str
    attempt: int
    flags: Flags
    fence: UUID
    wait: str | None
    is_claimed: bool
    has_commands: bool

    def is_where(self, token: Token) -> bool:
        """True if the row is claimed and at the same attempt of the same unit as `token`."""
        here = (self.unit, self.attempt, self.wait)
        return self.is_claimed and here == (token.unit, token.attempt, kind_of(token.wait))


_READ = Statement(
    sa.select(
        t.token.c.run_id,
        t.token.c.unit,
        t.token.c.attempt,
        t.token.c.flags,
        t.token.c.fence,
        t.token.c.wait,
        t.token.c.claimed_by.is_not(None).label("is_claimed"),
        sql.has_commands(t.token.c.run_id).label("has_commands"),
    ).where(t.token.c.id == sql.uuid("token_id"))
)


def read(connection: Connection, token_id: UUID) -> Standing | None:
    """Read where the token stands; None if it has ended."""
    row = one(connection, _READ, {"token_id": token_id})
    return Standing(**{**row, "flags": Flags(row["flags"])}) if row else None


RELEASED = {
    "claimed_by": sa.null(),
    "deadline_at": sa.null(),
    "since": sql.clock,
    "hinted_at": sql.clock,
    "hints": sa.literal_column("0"),
    "look_at": LOOK_AT,
}
"""The values of a token whose claim has been released."""

_released = (
    sa.update(t.token)
    .where(
        t.token.c.id == sql.uuid("token_id"),
        t.token.c.fence == sql.uuid("held_fence"),
        t.token.c.claimed_by == sql.uuid("worker"),
    )
    .values(
        {
            **RELEASED,
            "begun": sa.and_(t.token.c.begun, sa.not_(sql.boolean("is_first"))),
            # A token that waits, or was claimed before it was due, keeps its time. A ready one must
            # not be claimed before the delay is over.
            "wake_at": sa.case(
                (
                    t.token.c.wait.is_(None),
                    sa.func.greatest(sql.ahead(t.token.c.wake_at), sql.later("delay")),
                ),
                else_=t.token.c.wake_at,
            ),
        }
    )
    .returning(*t.token.c)
    .cte("released")
)

_RELEASE = Statement(
    sa.select(_released.c.id).add_cte(put_hints(_released, at=sql.later("delay")).cte("hinted"))
)


def release(connection: Connection, claim: Claim, delay: float) -> None:
    """Release the claim with nothing done, and put a hint that is due after `delay` seconds.

    A token that nobody had claimed before has not begun.
    Does nothing if the claim is not ours any more.
    """
    parameters = {
        "token_id": claim.token.id,
        "held_fence": claim.fence,
        "worker": claim.worker,
        "is_first": claim.is_first,
        "delay": timedelta(seconds=delay) if delay > 0 else None,
    }
    connection.rows(_RELEASE, parameters)

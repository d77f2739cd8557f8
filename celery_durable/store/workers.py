"""Who is alive, and freeing what the dead had claimed.

A worker holds a session-level advisory lock for as long as it lives; Postgres lets go of it a few
milliseconds after the process is gone. So a dead worker is found by trying its lock. A worker
without a lock (behind a transaction pooler), or one that hangs, is found by `expires_at`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from celery_durable.core.token import Flags
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, PsycopgConnection, Statement, one
from celery_durable.store.outbox import HARD_LIMIT_AFTER, put_hints

_lock_space: Any = sa.func.hashtext(sql.text("lock_space"))
"""First half of the two-integer key of worker locks; the second is the worker's number."""

_server_start: Any = sa.func.pg_postmaster_start_time()

_BACKEND = Statement(sa.select(sa.func.pg_backend_pid().label("pid")))


def is_direct(connection: PsycopgConnection) -> bool:
    """Whether nothing that shares sessions stands between us and Postgres.

    A pooler answers the connection with a process id of its own making; the server knows its real
    one.
    """
    row = one(connection, _BACKEND, {})
    return row is not None and row["pid"] == connection.raw.info.backend_pid


_NEW_LOCK = Statement(sa.select(t.lock_numbers.next_value().label("number")))


def new_lock_number(connection: Connection) -> int:
    """A number no live worker has."""
    row = one(connection, _NEW_LOCK, {})
    assert row is not None
    return int(row["number"])


def lock_space(connection: Connection) -> str:
    """Each schema of a database has locks of its own."""
    return f"durable_worker.{connection.schema}"


_TAKE_LOCK = Statement(
    sa.select(
        sa.func.pg_try_advisory_lock(_lock_space, sql.integer("number")).label("is_taken"),
    )
)


def take_lock(connection: Connection, number: int) -> bool:
    """Take the worker lock for as long as the connection lives; False while another holds it."""
    parameters = {"number": number, "lock_space": lock_space(connection)}
    row = one(connection, _TAKE_LOCK, parameters)
    return bool(row and row["is_taken"])


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """One worker process, as it introduces itself."""

    id: UUID
    node_id: UUID
    hostname: str
    pid: int
    pool: str
    queues: tuple[str, ...]
    lock_number: int | None


_REGISTER = Statement(
    sa.insert(t.worker).values(
        id=sql.uuid("id"),
        node_id=sql.uuid("node_id"),
        hostname=sql.text("hostname"),
        pid=sql.integer("pid"),
        pool=sql.text("pool"),
        queues=sa.cast(sql.text("queues"), JSONB),
        lock_number=sql.integer("lock_number"),
        # A child that claims its first token after its main process was told to stop.
        draining=sa.exists().where(
            t.worker.c.node_id == sql.uuid("node_id"),
            t.worker.c.draining,
            t.worker.c.ended_at.is_(None),
        ),
        server_started_at=_server_start,
        expires_at=sql.clock + sql.interval("ttl"),
    )
)


def register(connection: Connection, facts: WorkerFacts, ttl: float) -> None:
    """Write the worker's row; its lock must be held already: a row without one is dead."""
    connection.rows(
        _REGISTER,
        {
            "id": facts.id,
            "node_id": facts.node_id,
            "hostname": facts.hostname,
            "pid": facts.pid,
            "pool": facts.pool,
            "queues": json.dumps(facts.queues),
            "lock_number": facts.lock_number,
            "ttl": timedelta(seconds=ttl),
        },
    )


_RENEW = Statement(
    sa.update(t.worker)
    .where(t.worker.c.id == sql.uuid("worker"), t.worker.c.ended_at.is_(None))
    .values(expires_at=sql.clock + sql.interval("ttl"))
    .returning(t.worker.c.id)
)


def renew(connection: Connection, worker: UUID, ttl: float) -> bool:
    """Say that the worker lives; False when it has ended, which renewing cannot undo."""
    parameters = {"worker": worker, "ttl": timedelta(seconds=ttl)}
    return one(connection, _RENEW, parameters) is not None


_LOCK_IS_HERE = Statement(
    sa.update(t.worker)
    .where(t.worker.c.id == sql.uuid("worker"))
    .values(server_started_at=_server_start)
)


def lock_is_here(connection: Connection, worker: UUID) -> None:
    """Say that the server of this very connection has the worker's lock."""
    connection.rows(_LOCK_IS_HERE, {"worker": worker})


_END = Statement(
    sa.update(t.worker)
    .where(t.worker.c.id == sql.uuid("worker"), t.worker.c.ended_at.is_(None))
    .values(ended_at=sql.clock, draining=sa.true())
)


def end(connection: Connection, worker: UUID) -> None:
    """The worker leaves in good order; what it should still have claimed counts no crash."""
    connection.rows(_END, {"worker": worker})


_DRAIN = Statement(
    sa.update(t.worker)
    .where(t.worker.c.node_id == sql.uuid("node_id"), t.worker.c.ended_at.is_(None))
    .values(draining=sa.true())
)


def drain(connection: Connection, node_id: UUID) -> None:
    """Mark the processes of one Celery worker as told to stop: they begin nothing new."""
    connection.rows(_DRAIN, {"node_id": node_id})


# After an outage every row has expired and no worker has had time to renew.
_is_expired = sa.and_(
    t.worker.c.expires_at < sql.clock,
    _server_start < sql.clock - sa.literal_column("interval '10 seconds'"),
)

_is_lifeless = sa.and_(
    t.worker.c.ended_at.is_(None),
    # CASE, because AND promises no order and a free lock must not be tried for nothing.
    sa.case(
        (_is_expired, sa.true()),
        (t.worker.c.lock_number.is_(None), sa.false()),
        # After a restart of the server every lock is free though the workers live.
        (t.worker.c.server_started_at != _server_start, sa.false()),
        else_=sa.func.pg_try_advisory_xact_lock(_lock_space, t.worker.c.lock_number),
    ),
)

_LIFELESS = Statement(sa.select(t.worker.c.id, _is_expired.label("is_expired")).where(_is_lifeless))


@dataclass(frozen=True, slots=True)
class Lifeless:
    """A worker that has expired, or whose lock is free just now."""

    id: UUID
    is_expired: bool


def lifeless(connection: Connection) -> Sequence[Lifeless]:
    """The workers that seem to be dead.

    Never ask on a connection that itself holds a worker lock: Postgres grants a lock again to the
    session that has it. https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
    """
    parameters = {"lock_space": lock_space(connection)}
    return [Lifeless(**row) for row in connection.rows(_LIFELESS, parameters)]


_doomed = sa.func.json_array_elements_text(sql.json("doomed")).table_valued("value")

_DECLARE = Statement(
    sa.update(t.worker)
    .where(t.worker.c.id.in_(sa.select(sa.cast(_doomed.c.value, sa.Uuid))), _is_lifeless)
    .values(ended_at=sql.clock)
    .returning(t.worker.c.id, t.worker.c.hostname, t.worker.c.pid, t.worker.c.draining)
)


@dataclass(frozen=True, slots=True)
class DeadWorker:
    """A worker that has just been declared dead."""

    id: UUID
    hostname: str
    pid: int
    draining: bool


def declare_dead(connection: Connection, doomed: Sequence[UUID]) -> Sequence[DeadWorker]:
    """Mark as ended those of `doomed` that still seem to be dead."""
    parameters = {
        "lock_space": lock_space(connection),
        "doomed": json.dumps([str(worker) for worker in doomed]),
    }
    return [DeadWorker(**row) for row in connection.rows(_DECLARE, parameters)]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A token that `worker` has claimed.

    `counts`: freeing it is a crash of its unit; `timed_out`: its unit has taken longer than its
    time limit, which is a failed attempt and no crash.
    """

    token_id: UUID
    run_id: UUID
    unit: str
    fence: UUID
    worker: UUID
    counts: bool
    timed_out: bool = False


# Where the pool has no time limits of its own, nobody else ends a unit that takes too long. Where
# it has, the unit's process is given the time to clean up in.
_cleanup = sa.case(
    (
        t.worker.c.pool == sql.word("prefork"),
        sa.literal_column(f"interval '{2 * HARD_LIMIT_AFTER} s'"),
    ),
    else_=sa.literal_column("interval '0'"),
)
_has_timed_out: Any = sa.func.coalesce(t.token.c.deadline_at <= sql.clock, sa.false())
_is_overdue: Any = sa.func.coalesce(t.token.c.deadline_at + _cleanup < sql.clock, sa.false())
_is_gone = sa.or_(t.worker.c.id.is_(None), t.worker.c.ended_at.is_not(None))

_claimed = sa.select(
    t.token.c.id.label("token_id"),
    t.token.c.run_id,
    t.token.c.unit,
    t.token.c.fence,
    t.token.c.claimed_by.label("worker"),
)

_ORPHANS = Statement(
    _claimed.add_columns(
        sa.and_(
            sa.func.coalesce(sa.not_(t.worker.c.draining), sa.true()), sa.not_(_has_timed_out)
        ).label("counts"),
        _has_timed_out.label("timed_out"),
    )
    .join_from(t.token, t.worker, t.worker.c.id == t.token.c.claimed_by, isouter=True)
    .where(t.token.c.claimed_by.is_not(None), sa.or_(_is_gone, _is_overdue))
    .limit(sql.integer("batch"))
)


def orphans(connection: Connection, batch: int) -> Sequence[Claimed]:
    """Tokens that nobody alive executes, or for too long: a level, not an edge."""
    return [Claimed(**row) for row in connection.rows(_ORPHANS, {"batch": batch})]


_CLAIMED_BY = Statement(
    _claimed.add_columns(sa.false().label("counts")).where(
        t.token.c.claimed_by == sql.uuid("worker")
    )
)


def claimed_by(connection: Connection, worker: UUID) -> Sequence[Claimed]:
    """What Postgres thinks the worker is executing, for its audit of itself."""
    return [Claimed(**row) for row in connection.rows(_CLAIMED_BY, {"worker": worker})]


_still_claimed = sa.select(t.token.c.id).where(
    t.token.c.id == sql.uuid("token_id"),
    t.token.c.fence == sql.uuid("old_fence"),
    t.token.c.claimed_by == sql.uuid("holder"),
)

_TIMED_OUT: Any = sa.literal_column(str(int(Flags.TIMED_OUT)))


def _freeing(still_claimed: Any) -> Statement:
    freed = (
        sa.update(t.token)
        .where(t.token.c.id == still_claimed.scalar_subquery())
        .values(
            claimed_by=sa.null(),
            fence=sql.uuid("new_fence"),
            crashes=t.token.c.crashes + sa.cast(sql.boolean("counts"), sa.Integer),
            flags=t.token.c.flags.op("|")(
                sa.case(
                    # What is parked and only looked at has not taken too long.
                    (sa.and_(sql.boolean("timed_out"), t.token.c.wait.is_(None)), _TIMED_OUT),
                    else_=sa.literal_column("0"),
                )
            ),
            deadline_at=sa.null(),
            hinted_at=sql.clock,
            hints=sa.literal_column("0"),
        )
        .returning(*t.token.c)
        .cte("freed")
    )
    return Statement(sa.select(freed.c.id).add_cte(put_hints(freed).cte("hinted")))


_FREE = _freeing(_still_claimed.with_for_update())
_FREE_IF_UNLOCKED = _freeing(_still_claimed.with_for_update(skip_locked=True))


def free(connection: Connection, claimed: Claimed, new_fence: UUID, *, waits: bool = False) -> bool:
    """Take the claim away and have the token looked at again.

    False when the token has moved on, or its row is locked: then somebody is at work on it. `waits`
    for whoever has locked it: for the holder itself, who will not come again.
    """
    parameters = {
        "token_id": claimed.token_id,
        "old_fence": claimed.fence,
        "holder": claimed.worker,
        "new_fence": new_fence,
        "counts": claimed.counts,
        "timed_out": claimed.timed_out,
    }
    statement = _FREE if waits else _FREE_IF_UNLOCKED
    return one(connection, statement, parameters) is not None


_FORGET = Statement(
    sa.delete(t.worker).where(t.worker.c.ended_at < sql.clock - sql.interval("age"))
)


def forget(connection: Connection, older_than: timedelta) -> None:
    """Remove rows of workers that ended long ago; a claim of an absent worker counts as a dead
    one's.
    """
    connection.rows(_FORGET, {"age": older_than})

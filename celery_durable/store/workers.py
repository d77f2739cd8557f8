"""The rows of workers, which they renew, and their locks.

A worker holds a session-level advisory lock for as long as it lives; Postgres frees it a few
milliseconds after the process has ended. `dead_workers` looks for free locks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, REGCLASS

from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, PsycopgConnection, Statement, one

LOCK_SPACE: Any = sa.func.hashtext(sql.text("lock_space"))
"""First half of the two-integer key of worker locks; the second is the worker's number."""

SERVER_START: Any = sa.func.pg_postmaster_start_time()

_BACKEND = Statement(sa.select(sa.func.pg_backend_pid().label("pid")))


def is_direct(connection: PsycopgConnection) -> bool:
    """Return True if no pooler shares sessions between this process and Postgres.

    A pooler tells the client a process id of its own making; the server knows the real one.
    """
    row = one(connection, _BACKEND, {})
    return row is not None and row["pid"] == connection.raw.info.backend_pid


# Not `next_value()`: SQLAlchemy writes the schema into a string without doubling its apostrophes.
_NEW_LOCK = Statement(
    sa.select(
        sa.func.nextval(
            sa.cast(
                sa.func.format(
                    sql.word("%I.%I"), sql.text("schema"), sql.word(t.lock_numbers.name)
                ),
                REGCLASS,
            )
        ).label("number")
    )
)


def new_lock_number(connection: Connection) -> int:
    """A number that no live worker has."""
    row = one(connection, _NEW_LOCK, {"schema": connection.schema})
    assert row is not None
    return int(row["number"])


def lock_space(connection: Connection) -> str:
    """The name of the schema's locks: each schema of a database has its own."""
    return f"durable_worker.{connection.schema}"


_TAKE_LOCK = Statement(
    sa.select(
        sa.func.pg_try_advisory_lock(LOCK_SPACE, sql.integer("number")).label("is_taken"),
    )
)


def take_lock(connection: Connection, number: int) -> bool:
    """Take the worker lock for as long as the connection lives; False while another holds it."""
    parameters = {"number": number, "lock_space": lock_space(connection)}
    row = one(connection, _TAKE_LOCK, parameters)
    return bool(row and row["is_taken"])


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """One worker process as it registers.

    `knows`: the positions it can execute, by workflow; `slots`: how many messages at once.
    """

    id: UUID
    node_id: UUID
    hostname: str
    pid: int
    pool: str
    queues: tuple[str, ...]
    lock_number: int | None
    knows: Mapping[str, Sequence[str]] = field(default_factory=dict)
    slots: int = 1


_REGISTER = Statement(
    sa.insert(t.worker).values(
        id=sql.uuid("id"),
        node_id=sql.uuid("node_id"),
        hostname=sql.text("hostname"),
        pid=sql.integer("pid"),
        pool=sql.text("pool"),
        slots=sql.integer("slots"),
        queues=sa.cast(sql.text("queues"), JSONB),
        knows=sa.cast(sql.text("knows"), JSONB),
        lock_number=sql.integer("lock_number"),
        # For a child that claims its first token after its main process has begun to drain.
        draining=sa.exists().where(
            t.worker.c.node_id == sql.uuid("node_id"),
            t.worker.c.draining,
            t.worker.c.ended_at.is_(None),
        ),
        server_started_at=SERVER_START,
        expires_at=sql.clock + sql.interval("ttl"),
        ttl=sql.number("ttl_seconds"),
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
            "slots": facts.slots,
            "queues": json.dumps(facts.queues),
            "knows": json.dumps(facts.knows),
            "lock_number": facts.lock_number,
            "ttl": timedelta(seconds=ttl),
            "ttl_seconds": ttl,
        },
    )


_SET_QUEUES = Statement(
    sa.update(t.worker)
    .where(
        t.worker.c.node_id == sql.uuid("node_id"),
        t.worker.c.ended_at.is_(None),
        t.worker.c.queues != sa.cast(sql.text("queues"), JSONB),
    )
    .values(queues=sa.cast(sql.text("queues"), JSONB))
)


NO_QUEUE = ""
"""In place of the queues of a worker whose last one was cancelled. No queue is called so, and an
empty list says that nobody knows what the process consumes.
"""


def set_queues(connection: Connection, node_id: UUID, queues: Sequence[str]) -> None:
    """Write which queues the processes of one Celery worker consume now."""
    written = json.dumps([*queues] or [NO_QUEUE])
    connection.rows(_SET_QUEUES, {"node_id": node_id, "queues": written})


_live = sa.and_(
    t.worker.c.ended_at.is_(None), t.worker.c.expires_at > sql.clock, sa.not_(t.worker.c.draining)
)

_CONSUMED = Statement(
    sa.select(sa.func.jsonb_array_elements_text(t.worker.c.queues).label("queue"))
    .where(_live)
    .distinct()
)


def consumed(connection: Connection) -> frozenset[str]:
    """The queues that live workers consume."""
    return frozenset(row["queue"] for row in connection.rows(_CONSUMED))


_me, _other = t.worker.alias("me"), t.worker.alias("other")

_IS_KNOWN_ELSEWHERE = Statement(
    sa.select(
        sa.exists()
        .where(
            _me.c.id == sql.uuid("worker"),
            _other.c.node_id != _me.c.node_id,
            _other.c.ended_at.is_(None),
            sa.not_(_other.c.draining),
            _other.c.queues.contains(sa.func.to_jsonb(sql.text("queue"))),
            _other.c.knows.contains(
                sa.func.jsonb_build_object(
                    sql.text("workflow"), sa.func.jsonb_build_array(sql.text("place"))
                )
            ),
        )
        .label("is_known")
    )
)


def is_known_elsewhere(
    connection: Connection, worker: UUID, queue: str, workflow: str, place: str
) -> bool:
    """Return True if a live worker of another node consumes `queue` and can execute `place`."""
    parameters = {"worker": worker, "queue": queue, "workflow": workflow, "place": place}
    row = one(connection, _IS_KNOWN_ELSEWHERE, parameters)
    return bool(row and row["is_known"])


_SLOTS = Statement(
    sa.select(
        sa.func.coalesce(sa.func.sum(t.worker.c.slots), sa.literal_column("0")).label("n")
    ).where(
        t.worker.c.ended_at.is_(None),
        sa.not_(t.worker.c.draining),
        t.worker.c.queues.contains(sa.func.to_jsonb(sql.text("queue"))),
    )
)


def slots_of(connection: Connection, queue: str) -> int:
    """Return how many messages of `queue` the registered workers execute at once."""
    row = one(connection, _SLOTS, {"queue": queue})
    return int(row["n"]) if row else 0


_RENEW = Statement(
    sa.update(t.worker)
    .where(t.worker.c.id == sql.uuid("worker"), t.worker.c.ended_at.is_(None))
    .values(expires_at=sql.clock + sql.interval("ttl"))
    .returning(t.worker.c.id)
)


def renew(connection: Connection, worker: UUID, ttl: float) -> bool:
    """Renew the worker's row; return False if it has ended, which renewing cannot undo."""
    parameters = {"worker": worker, "ttl": timedelta(seconds=ttl)}
    return one(connection, _RENEW, parameters) is not None


_LOCK_IS_HERE = Statement(
    sa.update(t.worker)
    .where(t.worker.c.id == sql.uuid("worker"), t.worker.c.ended_at.is_(None))
    .values(lock_number=sql.integer("lock_number"), server_started_at=SERVER_START)
    .returning(t.worker.c.id)
)


def lock_is_here(connection: Connection, worker: UUID, number: int | None) -> bool:
    """Write the number of the lock that the worker holds from now on, or none, and on which server.

    The lock must be on the server of this very connection. Returns False if the worker has ended.
    """
    return one(connection, _LOCK_IS_HERE, {"worker": worker, "lock_number": number}) is not None


_END = Statement(
    sa.update(t.worker)
    .where(t.worker.c.id == sql.uuid("worker"), t.worker.c.ended_at.is_(None))
    .values(ended_at=sql.clock, draining=sa.true())
)


def end(connection: Connection, worker: UUID) -> None:
    """End the worker in good order: a claim that it may still have does not count as a crash."""
    connection.rows(_END, {"worker": worker})


_DRAIN = Statement(
    sa.update(t.worker)
    .where(
        t.worker.c.node_id == sql.uuid("node_id"),
        t.worker.c.ended_at.is_(None),
        sa.not_(t.worker.c.draining),
    )
    .values(draining=sa.true())
)


def drain(connection: Connection, node_id: UUID) -> None:
    """Mark the processes of one Celery worker as draining: they begin no more units."""
    connection.rows(_DRAIN, {"node_id": node_id})


_IS_DRAINING = Statement(sa.select(t.worker.c.draining).where(t.worker.c.id == sql.uuid("worker")))


def is_draining(connection: Connection, worker: UUID) -> bool:
    """Return True if the worker is draining, or its row has been deleted."""
    row = one(connection, _IS_DRAINING, {"worker": worker})
    return row is None or bool(row["draining"])


_ended_long_ago = t.worker.c.ended_at < sql.clock - sql.interval("age")

HAS_LONG_ENDED = sa.exists().where(_ended_long_ago)
"""True if a worker has ended so long ago; it may still have claims."""

_long_ended = (
    sa.select(t.worker.c.id)
    .where(
        _ended_long_ago,
        # The row says whether reaping the worker's claims counts as a crash.
        sa.not_(sa.exists().where(t.token.c.claimed_by == t.worker.c.id)),
    )
    .limit(sql.integer("batch"))
    .with_for_update(skip_locked=True)
)

_FORGET = Statement(sa.delete(t.worker).where(t.worker.c.id.in_(_long_ended)))


def forget(connection: Connection, older_than: timedelta, batch: int) -> None:
    """Delete up to `batch` rows of workers that ended so long ago and have no claims.

    A worker without a row counts as ended. A pool that replaces its children after every task would
    leave a row for each task.
    """
    connection.rows(_FORGET, {"age": older_than, "batch": batch})

"""Who has died: workers whose lock is free, and those that have not renewed.

A dead worker is found by trying its lock. A worker without a lock (behind a transaction pooler), or
one that hangs, is found by `expires_at`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.workers import LOCK_SPACE, SERVER_START, lock_space

# After an outage every row has expired and no worker has had time to renew.
_is_expired = sa.and_(
    t.worker.c.expires_at < sql.clock,
    sql.clock - sa.literal_column("interval '10 seconds'") > SERVER_START,
)

_is_lifeless = sa.and_(
    t.worker.c.ended_at.is_(None),
    # CASE, because AND promises no order and a free lock must not be tried for nothing.
    sa.case(
        (_is_expired, sa.true()),
        (t.worker.c.lock_number.is_(None), sa.false()),
        # After a restart of the server every lock is free though the workers live.
        (t.worker.c.server_started_at != SERVER_START, sa.false()),
        else_=sa.func.pg_try_advisory_xact_lock(LOCK_SPACE, t.worker.c.lock_number),
    ),
)

_LIFELESS = Statement(
    sa.select(
        t.worker.c.id,
        t.worker.c.node_id,
        t.worker.c.expires_at,
        _is_expired.label("is_expired"),
    ).where(_is_lifeless)
)


@dataclass(frozen=True, slots=True)
class Lifeless:
    """A worker that has expired, or whose lock is free just now.

    One that has renewed is another: `expires_at` moves, and between two looks it was alive.
    """

    id: UUID
    node_id: UUID
    expires_at: datetime
    is_expired: bool = field(compare=False)


def lifeless(connection: Connection) -> Sequence[Lifeless]:
    """The workers that seem to be dead.

    Never ask on a connection that itself holds a worker lock: Postgres grants a lock again to the
    session that has it. https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
    """
    parameters = {"lock_space": lock_space(connection)}
    return [Lifeless(**row) for row in connection.rows(_LIFELESS, parameters)]


_doomed: Any = (
    sa.func.json_to_recordset(sql.json("doomed"))
    .table_valued(
        sa.column("id", sa.Uuid),
        sa.column("expires_at", t.worker.c.expires_at.type),
        sa.column("seconds", sa.Double),
        name="doomed",
    )
    .render_derived(with_types=True)
)

_DECLARE = Statement(
    sa.update(t.worker)
    .where(
        t.worker.c.id == _doomed.c.id, t.worker.c.expires_at == _doomed.c.expires_at, _is_lifeless
    )
    .values(ended_at=sql.clock - _doomed.c.seconds * sa.literal_column("interval '1 s'"))
    .returning(t.worker.c.id, t.worker.c.hostname, t.worker.c.pid, t.worker.c.draining)
)


@dataclass(frozen=True, slots=True)
class DeadWorker:
    """A worker that has just been declared dead."""

    id: UUID
    hostname: str
    pid: int
    draining: bool


def declare_dead(connection: Connection, doomed: Mapping[Lifeless, float]) -> Sequence[DeadWorker]:
    """Mark as ended those of `doomed` that still seem to be dead, and have not renewed since.

    Each has seemed so for that many seconds, and ended then.
    """
    rows = [
        {"id": str(one.id), "expires_at": one.expires_at.isoformat(), "seconds": seconds}
        for one, seconds in doomed.items()
    ]
    parameters = {"lock_space": lock_space(connection), "doomed": json.dumps(rows)}
    return [DeadWorker(**row) for row in connection.rows(_DECLARE, parameters)]

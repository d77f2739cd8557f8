"""Who has died: workers whose lock is free, and those that do not renew.

Whether a lock is free is found by trying it. How long a worker has not renewed is for whoever looks
to measure, by a clock of its own: the database's may be set while workers live.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.workers import LOCK_SPACE, SERVER_START, lock_space

# CASE, because AND promises no order and a lock must not be tried for nothing.
_is_unlocked = sa.case(
    (t.worker.c.lock_number.is_(None), sa.false()),
    # After a restart of the server every lock is free though the workers live.
    (t.worker.c.server_started_at != SERVER_START, sa.false()),
    else_=sa.func.pg_try_advisory_xact_lock(LOCK_SPACE, t.worker.c.lock_number),
)

_LOOK = Statement(
    sa.select(
        t.worker.c.id,
        t.worker.c.node_id,
        t.worker.c.expires_at,
        t.worker.c.ttl,
        _is_unlocked.label("is_unlocked"),
    ).where(t.worker.c.ended_at.is_(None))
)


@dataclass(frozen=True, slots=True)
class Sign:
    """The last sign of life of a worker that has not ended.

    One that has renewed has given another: `expires_at` moves. `is_unlocked`: its lock is free just
    now.
    """

    id: UUID
    node_id: UUID
    expires_at: datetime
    ttl: float = field(compare=False)
    is_unlocked: bool = field(compare=False)


def look(connection: Connection) -> Sequence[Sign]:
    """The workers that have not ended.

    Never ask on a connection that itself holds a worker lock: Postgres grants a lock again to the
    session that has it. https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
    """
    parameters = {"lock_space": lock_space(connection)}
    return [Sign(**row) for row in connection.rows(_LOOK, parameters)]


_doomed: Any = (
    sa.func.json_to_recordset(sql.json("doomed"))
    .table_valued(
        sa.column("id", sa.Uuid),
        sa.column("expires_at", t.worker.c.expires_at.type),
        sa.column("seconds", sa.Double),
        sa.column("is_silent", sa.Boolean),
        name="doomed",
    )
    .render_derived(with_types=True)
)

# A row that is locked belongs to somebody who lives; no reaper waits for it.
_still_doomed = (
    sa.select(t.worker.c.id, _doomed.c.seconds)
    .join_from(
        t.worker,
        _doomed,
        sa.and_(
            t.worker.c.id == _doomed.c.id,
            t.worker.c.expires_at == _doomed.c.expires_at,
            t.worker.c.ended_at.is_(None),
            sa.case((_doomed.c.is_silent, sa.true()), else_=_is_unlocked),
        ),
    )
    .with_for_update(of=t.worker, skip_locked=True)
    .cte("still_doomed")
)

_DECLARE = Statement(
    sa.update(t.worker)
    .where(t.worker.c.id == _still_doomed.c.id)
    .values(ended_at=sql.clock - _still_doomed.c.seconds * sa.literal_column("interval '1 s'"))
    .returning(t.worker.c.id, t.worker.c.hostname, t.worker.c.pid, t.worker.c.draining)
)


@dataclass(frozen=True, slots=True)
class DeadWorker:
    """A worker that has just been declared dead."""

    id: UUID
    hostname: str
    pid: int
    draining: bool


@dataclass(frozen=True, slots=True)
class Doom:
    """Why a worker is to be declared dead, and how many seconds ago it ended.

    `is_silent`: it has not renewed for too long; else its lock is free.
    """

    sign: Sign
    seconds: float
    is_silent: bool


def declare_dead(connection: Connection, doomed: Sequence[Doom]) -> Sequence[DeadWorker]:
    """Mark as ended those that still seem to be dead, and have not renewed since."""
    rows = [
        {
            "id": str(one.sign.id),
            "expires_at": one.sign.expires_at.isoformat(),
            "seconds": one.seconds,
            "is_silent": one.is_silent,
        }
        for one in doomed
    ]
    parameters = {"lock_space": lock_space(connection), "doomed": json.dumps(rows)}
    return [DeadWorker(**row) for row in connection.rows(_DECLARE, parameters)]

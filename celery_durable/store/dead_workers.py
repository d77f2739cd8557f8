"""Tells dead workers, whose locks are free or which do not renew, and marks them as ended.

Trying a lock shows whether it is free. The reaper measures by its own clock for how long a worker
has not renewed: the database's clock may be set while workers live.
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

# CASE, because AND promises no order, and no lock must be tried needlessly.
_is_unlocked = sa.case(
    (t.worker.c.lock_number.is_(None), sa.false()),
    # After a restart of the server every lock is free, though the workers are alive.
    (t.worker.c.server_started_at != SERVER_START, sa.false()),
    else_=sa.func.pg_try_advisory_xact_lock(LOCK_SPACE, t.worker.c.lock_number),
)

LIFE_SIGNS = sa.select(
    t.worker.c.id,
    t.worker.c.node_id,
    t.worker.c.expires_at,
    t.worker.c.ttl,
    _is_unlocked.label("is_unlocked"),
).where(t.worker.c.ended_at.is_(None))
"""The columns of a `LifeSign`, in their order, of all workers that have not ended."""


@dataclass(frozen=True, slots=True)
class LifeSign:
    """The last sign of life of a worker that has not ended.

    Renewing gives a new one: `expires_at` moves. `is_unlocked`: the worker's lock is free now.
    """

    id: UUID
    node_id: UUID
    expires_at: datetime
    ttl: float = field(compare=False)
    is_unlocked: bool = field(compare=False)


_doomed: Any = (
    sa.func.json_to_recordset(sql.json("doomed"))
    .table_valued(
        sa.column("id", sa.Uuid),
        sa.column("expires_at", t.worker.c.expires_at.type),
        sa.column("seconds", sa.Double),
        sa.column("is_silent", sa.Boolean),
        name="doomed",
    )
    .render_derived(name="doomed", with_types=True)
)

# A locked row belongs to a worker that is alive; no reaper waits for it.
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
class Death:
    """Why a worker counts as dead, and how many seconds ago it ended.

    `is_silent`: it has not renewed for too long; else its lock is free.
    """

    sign: LifeSign
    seconds: float
    is_silent: bool


def declare_dead(connection: Connection, deaths: Sequence[Death]) -> Sequence[DeadWorker]:
    """Mark workers as ended that still seem dead, and have not renewed since; return these."""
    rows = [
        {
            "id": str(one.sign.id),
            "expires_at": one.sign.expires_at.isoformat(),
            "seconds": one.seconds,
            "is_silent": one.is_silent,
        }
        for one in deaths
    ]
    parameters = {"lock_space": lock_space(connection), "doomed": json.dumps(rows)}
    return [DeadWorker(**row) for row in connection.rows(_DECLARE, parameters)]

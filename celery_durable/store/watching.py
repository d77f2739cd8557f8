"""Reads all that a reaper watches, in one statement: it comes twice a second from every relay.

All of it is of one snapshot, older than what the reaper does next. So `declare_dead` and `reap`
each look again at what they change. The claims of workers that are declared dead only now are not
among the orphaned ones: who declares workers dead asks for these again (`reaping.find`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.store import deadlines, sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one
from celery_durable.store.dead_workers import LIFE_SIGNS, LifeSign
from celery_durable.store.reaping import LIMITED, ORPHANED, Claimed
from celery_durable.store.workers import lock_space

_LOOK = Statement(
    sa.select(
        sql.json_rows(LIFE_SIGNS, "signs"),
        sql.json_rows(ORPHANED, "orphaned"),
        sql.json_rows(LIMITED, "limited"),
        sql.is_found(
            sa.select(t.token.c.claimed_by)
            .where(t.token.c.claimed_by.is_not(None))
            .order_by(t.token.c.claimed_by)
        ).label("has_claims"),
        deadlines.HAS_OVERDUE.label("has_overdue"),
    )
)


@dataclass(frozen=True, slots=True)
class Watched:
    """The last signs of life of all workers that have not ended, and claims that may be reaped.

    `orphaned`: their workers have ended or have no row. `limited`: live workers may execute them
    for so many seconds. `has_claims` is false if no token at all is claimed. `has_overdue`: the
    deadline of a run has passed.
    """

    signs: Sequence[LifeSign]
    orphaned: Sequence[Claimed]
    limited: Mapping[Claimed, float]
    has_claims: bool
    has_overdue: bool


def look(connection: Connection, batch: int) -> Watched:
    """Look at all workers, at up to `batch` orphaned claims, and at all limited ones.

    Never call it on a connection that itself holds a worker lock: Postgres grants a lock again to
    the session that has it. https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
    """
    row = one(connection, _LOOK, {"lock_space": lock_space(connection), "batch": batch})
    assert row is not None
    signs, orphaned, limited = (
        json.loads(row[name] or "[]") for name in ("signs", "orphaned", "limited")
    )
    return Watched(
        [_sign(*each) for each in signs],
        [_claimed(*each) for each in orphaned],
        {_claimed(*each): limit for *each, limit in limited},
        row["has_claims"],
        row["has_overdue"],
    )


def _sign(id: str, node_id: str, expires_at: str, *rest: Any) -> LifeSign:
    return LifeSign(UUID(id), UUID(node_id), datetime.fromisoformat(expires_at), *rest)


def _claimed(token_id: str, run_id: str, unit: str, fence: str, worker: str, *why: Any) -> Claimed:
    return Claimed(UUID(token_id), UUID(run_id), unit, UUID(fence), UUID(worker), *why)

"""Where an unfinished run stands: its tokens, counted, however many there are.

A run that is stored as running is suspended or sleeping if all of its tokens wait. That is read
from the tokens, so that a wait does not write the run's row (ADR 0009).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.failure import FailedAttempt
from celery_durable.core.status import Status
from celery_durable.errors import ErrorRecord
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement
from celery_durable.store.rows import failure_of

SHOWN = 100
"""The most signals, units, and units with progress that are read of one run."""


@dataclass(frozen=True, slots=True)
class Forked:
    """How many branches or items of a node there are, and how they stand.

    `executing` are claimed by workers, `waiting` wait for a signal, a child or a time, `queued`
    have not begun or wait between attempts.
    """

    total: int
    ended: int
    failed: int
    executing: int
    waiting: int
    queued: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What an executing unit has reported last: `ctx.progress`, or `ctx.heartbeat`'s details."""

    fraction: float | None = None
    message: str = ""
    details: Any = None


@dataclass(frozen=True, slots=True)
class UnitInHand:
    """A unit that an unfinished run stands at.

    `since` is when its state began: executed by `worker`, queued, or waiting. `waits_for` is None
    while it is executed, or waits for a worker or its next attempt; `signal` and `child_run_id` say
    which. `waiting_since` is since when it waits, `wake_at` until when: at the latest for a signal,
    at the earliest for an attempt. `failure` is its last failed attempt. `branch` is as in a
    journal entry.
    """

    unit: str
    node: str
    attempt: int
    is_executing: bool
    waits_for: Literal["signal", "timer", "child", "branches"] | None = None
    signal: str | None = None
    child_run_id: UUID | None = None
    waiting_since: datetime | None = None
    wake_at: datetime | None = None
    branch: str | None = None
    since: datetime | None = None
    worker: UUID | None = None
    failure: FailedAttempt | None = None

    @property
    def error(self) -> ErrorRecord | None:
        """The error of its last failed attempt."""
        return self.failure.error if self.failure else None


@dataclass(frozen=True, slots=True)
class RunPosition:
    """The tokens of a run, summed up; `units` are at most `SHOWN` of them."""

    nodes: tuple[str, ...]
    attempt: int
    awaiting: tuple[str, ...]
    wake_at: datetime | None
    forks: Mapping[str, Forked]
    progress: Mapping[str, Progress]
    units: tuple[UnitInHand, ...] = ()


_is_mine = t.token.c.run_id == t.run.c.id
_moves = sa.or_(
    t.token.c.claimed_by.is_not(None),
    t.token.c.wait.is_(None),
    sa.and_(t.token.c.wait == sql.word("branches"), t.token.c.remaining == sa.literal_column("0")),
)
_answers = [sql.word("signal"), sql.word("child")]

_RUNNING: Any = sa.literal_column(f"'{Status.RUNNING}'")


STATUS = sa.case(
    (t.run.c.status != _RUNNING, t.run.c.status),
    (sql.there_is(_is_mine, _moves), _RUNNING),
    (
        sql.there_is(_is_mine, t.token.c.wait.in_(_answers)),
        sa.literal_column(f"'{Status.SUSPENDED}'"),
    ),
    (
        sql.there_is(_is_mine, t.token.c.wait == sql.word("timer")),
        sa.literal_column(f"'{Status.SLEEPING}'"),
    ),
    else_=_RUNNING,
).label("status")
"""The status of a run: the stored one, or what its tokens say."""

_is_claimed = t.token.c.claimed_by.is_not(None)

_GROUPS = Statement(
    sa.select(
        t.token.c.node,
        t.token.c.parent_id.is_not(None).label("is_branch"),
        t.token.c.wait,
        _is_claimed.label("is_claimed"),
        sa.func.count().label("tokens"),
        sa.func.max(t.token.c.attempt).label("attempt"),
        sa.func.min(t.token.c.waiting_since).label("waiting_since"),
        sa.func.min(t.token.c.wake_at).filter(t.token.c.wake_at > sql.clock).label("wake_at"),
        sa.func.max(t.token.c.remaining).label("remaining"),
        sa.func.max(t.token.c.failed).label("failed"),
        sa.func.max(t.token.c.total).label("total"),
    )
    .where(t.token.c.run_id == sql.uuid("run_id"))
    .group_by(
        t.token.c.node,
        t.token.c.parent_id.is_not(None),
        t.token.c.wait,
        _is_claimed,
    )
    .order_by(sa.func.min(t.token.c.waiting_since), t.token.c.node)
)

_AWAITED = Statement(
    sa.select(t.token.c.awaits)
    .where(t.token.c.run_id == sql.uuid("run_id"), t.token.c.awaits.is_not(None))
    .group_by(t.token.c.awaits)
    .order_by(sa.func.min(t.token.c.waiting_since), t.token.c.awaits)
    .limit(sa.literal_column(str(SHOWN)))
)

_PROGRESS = Statement(
    sa.select(t.token.c.unit, sql.json_text(t.token.c.progress))
    .where(t.token.c.run_id == sql.uuid("run_id"), t.token.c.progress.is_not(None), _is_claimed)
    .order_by(t.token.c.position)
    .limit(sa.literal_column(str(SHOWN)))
)

_UNITS = Statement(
    sa.select(
        t.token.c.unit,
        t.token.c.node,
        t.token.c.attempt,
        _is_claimed.label("is_executing"),
        t.token.c.wait.label("waits_for"),
        t.token.c.awaits.label("signal"),
        t.token.c.child_run_id,
        t.token.c.waiting_since,
        sa.case((t.token.c.wake_at > sql.clock, t.token.c.wake_at)).label("wake_at"),
        t.token.c.part.label("branch"),
        t.token.c.since,
        t.token.c.claimed_by.label("worker"),
        sql.json_text(t.token.c.failures.op("->")(sa.literal_column("-1")), "failure"),
    )
    .where(t.token.c.run_id == sql.uuid("run_id"))
    .order_by(
        t.token.c.parent_id.is_not(None),
        t.token.c.claimed_by.is_(None),
        t.token.c.waiting_since,
        t.token.c.position,
    )
    .limit(sa.literal_column(str(SHOWN)))
)


def position(connection: Connection, run_id: UUID) -> RunPosition:
    """Where the run stands; an empty position once it has ended."""
    groups = connection.rows(_GROUPS, {"run_id": run_id})
    awaited = connection.rows(_AWAITED, {"run_id": run_id}) if groups else []
    said = connection.rows(_PROGRESS, {"run_id": run_id}) if groups else []
    units = connection.rows(_UNITS, {"run_id": run_id}) if groups else []
    times = [row["wake_at"] for row in groups if row["wake_at"] is not None]
    return RunPosition(
        nodes=tuple(dict.fromkeys(row["node"] for row in groups)),
        attempt=max((row["attempt"] for row in groups), default=1),
        awaiting=tuple(row["awaits"] for row in awaited),
        wake_at=min(times, default=None),
        forks={row["node"]: _forked(row, groups) for row in groups if row["total"] is not None},
        progress={row["unit"]: Progress(**json.loads(row["progress"])) for row in said},
        units=tuple(map(_unit, units)),
    )


def _unit(row: Row) -> UnitInHand:
    return UnitInHand(**{**row, "failure": failure_of(row["failure"])})


def _forked(parent: Row, groups: Sequence[Row]) -> Forked:
    branches = [row for row in groups if row["is_branch"] and row["node"] == parent["node"]]
    executing = sum(row["tokens"] for row in branches if row["is_claimed"])
    waiting = sum(row["tokens"] for row in branches if row["wait"] and not row["is_claimed"])
    remaining: int = parent["remaining"]
    return Forked(
        total=parent["total"],
        ended=parent["total"] - remaining,
        failed=parent["failed"],
        executing=executing,
        waiting=waiting,
        queued=remaining - executing - waiting,
    )

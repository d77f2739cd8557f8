"""Where an unfinished run stands: its tokens, counted, however many there are.

A run that is stored as running is suspended, sleeping or paused if none of its tokens moves. That
is read from the tokens, so that a wait does not write the run's row (ADR 0009).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.status import Status
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement
from celery_durable.store.pauses import is_paused
from celery_durable.store.read.units import UnitInHand, last_failure, unit_columns, unit_of

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
class RunPosition:
    """The tokens of a run, summed up; `units` are at most `SHOWN` of them."""

    nodes: tuple[str, ...]
    attempt: int
    awaiting: tuple[str, ...]
    wake_at: datetime | None
    forks: Mapping[str, Forked]
    progress: Mapping[str, Progress]
    units: tuple[UnitInHand, ...] = ()


def standing(token: Any) -> Mapping[Status, sa.ColumnElement[bool]]:
    """What makes a run that is stored as running one of each status, the first that is true."""
    is_held = sa.and_(
        token.c.claimed_by.is_(None), token.c.flags == sa.literal_column("0"), is_paused(token.c)
    )
    has_joined = sa.and_(
        token.c.wait == sql.word("branches"), token.c.remaining == sa.literal_column("0")
    )
    moves = sa.or_(
        token.c.claimed_by.is_not(None),
        sa.and_(sa.or_(token.c.wait.is_(None), has_joined), sa.not_(is_held)),
    )
    return {
        Status.RUNNING: moves,
        Status.PAUSED: sa.or_(token.c.wait == sql.word("operator"), is_held),
        Status.SUSPENDED: token.c.wait.in_([sql.word("signal"), sql.word("child")]),
        Status.SLEEPING: token.c.wait == sql.word("timer"),
    }


_is_mine = t.token.c.run_id == t.run.c.id

_RUNNING: Any = sa.literal_column(f"'{Status.RUNNING}'")


STATUS = sa.case(
    (t.run.c.status != _RUNNING, t.run.c.status),
    *(
        (sql.there_is(_is_mine, condition), sa.literal_column(f"'{status}'"))
        for status, condition in standing(t.token).items()
    ),
    else_=_RUNNING,
).label("status")
"""The status of a run: the stored one, or what its tokens say."""


def status_by(first: Any) -> sa.Label[Any]:
    """`STATUS` of a run that is joined with its first token: others are looked up for a fork only.

    Where many runs are counted that is several times as fast.
    """
    return sa.case(
        (t.run.c.status != _RUNNING, t.run.c.status),
        (first.c.wait == sql.word("branches"), STATUS.element),
        *(
            (condition, sa.literal_column(f"'{status}'"))
            for status, condition in standing(first).items()
        ),
        else_=_RUNNING,
    ).label("status")


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


def _order(token: Any) -> tuple[sa.ColumnElement[Any], ...]:
    """First the token that is no branch, then those that are executed, then the longest waits."""
    return (
        token.c.parent_id.is_not(None),
        token.c.claimed_by.is_(None),
        token.c.waiting_since,
        token.c.position,
    )


# What else is read of a unit is read only of these.
_shown = (
    sa.select(t.token)
    .where(t.token.c.run_id == sql.uuid("run_id"))
    .order_by(*_order(t.token))
    .limit(sa.literal_column(str(SHOWN)))
    .subquery("shown")
)

_UNITS = Statement(
    sa.select(*unit_columns(_shown, last_failure(_shown)))
    .join_from(_shown, t.worker, t.worker.c.id == _shown.c.claimed_by, isouter=True)
    .order_by(*_order(_shown))
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
        units=tuple(map(unit_of, units)),
    )


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

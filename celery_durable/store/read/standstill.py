"""Counts what unfinished runs wait for, and explains a sample of those that wait for nothing.

What a token says of itself is counted by Postgres; the rest is asked of `facts`, for some of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from celery_durable.core.compatibility import version_key
from celery_durable.core.finding import Standstill
from celery_durable.core.reason import Code
from celery_durable.core.status import FINISHED, READ_FROM_TOKENS, Status
from celery_durable.store import pauses, sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.pauses import is_paused
from celery_durable.store.read import facts

MOST_RUNS = 200_000
"""Where the count of unfinished runs stops."""

MOST_BRANCHES = 20_000
"""Most branches that are looked at for what to explain."""

SAMPLE = 50
"""Of each kind, the runs that have stood longest are explained."""

READY = "ready"

_zero: Any = sa.literal_column("0")


def kind(token: Any) -> sa.ColumnElement[str]:
    """What keeps a token, as far as it says so itself: a `Code`, or `READY`."""
    is_later = token.c.wake_at > sql.clock

    def waits_for(wait: str, *conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
        return sa.and_(token.c.wait == sql.word(wait), *conditions)

    return sa.case(
        (token.c.claimed_by.is_not(None), sql.word(Code.EXECUTING)),
        (token.c.flags != _zero, sql.word(READY)),
        (waits_for("signal", sa.or_(token.c.wake_at.is_(None), is_later)), sql.word(Code.SIGNAL)),
        (waits_for("timer", is_later), sql.word(Code.SLEEPING)),
        (waits_for("child"), sql.word(Code.CHILD)),
        (waits_for("branches", token.c.remaining > _zero), sql.word(Code.BRANCHES)),
        (waits_for("operator"), sql.word(Code.EXHAUSTED)),
        (is_paused(token.c), sql.word(Code.PAUSED)),
        (sa.and_(is_later, token.c.failures.is_not(None)), sql.word(Code.RETRYING)),
        (sa.and_(is_later, sa.not_(token.c.begun)), sql.word(Code.DELAYED)),
        (is_later, sql.word(Code.SLEEPING)),
        else_=sql.word(READY),
    )


def _looked_at(condition: sa.ColumnElement[bool], most: int) -> Any:
    return (
        sa.select(
            sa.cast(t.token.c.run_id, sa.Text).label("run_id"),
            t.token.c.parent_id.is_not(None).label("is_branch"),
            t.token.c.since,
            kind(t.token).label("kind"),
        )
        .where(condition)
        .limit(sa.literal_column(str(most)))
        .subquery()
    )


_tokens = sa.union_all(
    sa.select(_looked_at(t.token.c.parent_id.is_(None), MOST_RUNS)),
    sa.select(_looked_at(t.token.c.parent_id.is_not(None), MOST_BRANCHES)),
).subquery("tokens")
_waits_for_nothing = _tokens.c.kind.in_([sql.word(READY), sql.word(Code.EXECUTING)])
_oldest: Any = sa.func.array_agg(
    aggregate_order_by(_tokens.c.run_id, _tokens.c.since), type_=ARRAY(sa.Text)
)

_COUNTS = Statement(
    sa.select(
        _tokens.c.kind,
        _tokens.c.is_branch,
        sa.func.count().label("runs"),
        sa.type_coerce(_oldest.filter(_waits_for_nothing), ARRAY(sa.Text))[1:SAMPLE].label(
            "sample"
        ),
    ).group_by(_tokens.c.kind, _tokens.c.is_branch)
)

_NOW = Statement(sa.select(sql.clock.label("now")))


def standstill(connection: Connection) -> Standstill:
    """Count unfinished runs by what they wait for, and explain some that wait for nothing."""
    rows = connection.rows(_COUNTS)
    run_ids = dict.fromkeys(UUID(run_id) for row in rows for run_id in row["sample"] or ())
    counts = {row["kind"]: int(row["runs"]) for row in rows if not row["is_branch"]}
    return Standstill(
        at=connection.rows(_NOW)[0]["now"],
        counts=counts,
        sample=facts.diagnoses(connection, [*run_ids]),
        is_all=sum(counts.values()) < MOST_RUNS,
        exhausted=sum(int(row["runs"]) for row in rows if row["kind"] == Code.EXHAUSTED),
        pauses=pauses.listed(connection),
    )


_UNFINISHED_STATUSES = [
    sql.word(status) for status in Status if status not in FINISHED | READ_FROM_TOKENS
]

_unfinished = (
    sa.select(t.run.c.workflow, t.run.c.version)
    .where(t.run.c.status.in_(_UNFINISHED_STATUSES))
    .limit(sa.literal_column(str(MOST_RUNS)))
    .subquery("unfinished")
)

_VERSIONS = Statement(
    sa.select(
        _unfinished.c.workflow, _unfinished.c.version, sa.func.count().label("runs")
    ).group_by(_unfinished.c.workflow, _unfinished.c.version)
)


def unfinished(connection: Connection) -> Mapping[str, int]:
    """Unfinished runs by their workflow and version; of very many, as many as are counted."""
    rows = connection.rows(_VERSIONS)
    return {version_key(row["workflow"], row["version"]): int(row["runs"]) for row in rows}

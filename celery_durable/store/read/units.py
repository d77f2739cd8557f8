"""The units that unfinished runs stand at, as rows of their tokens say it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.failure import FailedAttempt
from celery_durable.core.names import ANY, COMPENSATE, SEPARATOR
from celery_durable.errors import ErrorRecord
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Row
from celery_durable.store.rows import failure_of


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """The process that executes a unit; without `hostname` and `pid` if its row is gone."""

    id: UUID
    hostname: str | None
    pid: int | None

    def __str__(self) -> str:
        return str(self.id) if self.hostname is None else f"{self.hostname}, pid {self.pid}"


@dataclass(frozen=True, slots=True)
class UnitInHand:
    """A unit that an unfinished run stands at.

    `since` is when its state began: executed by `worker`, queued, or waiting. `waits_for` is None
    while it is executed, or waits for a worker or its next attempt; `signal` and `child_run_id` say
    which. `waiting_since` is since when it waits, `wake_at` until when: at the latest for a signal,
    at the earliest for an attempt. `failure` is its last failed attempt. `max_attempts` is how many
    attempts it has; None where the stored plan does not say. `branch` is as in a journal entry.
    `crashes` is how many workers have died while they executed it.
    """

    unit: str
    node: str
    attempt: int
    is_executing: bool
    waits_for: Literal["signal", "timer", "child", "branches", "operator"] | None = None
    signal: str | None = None
    child_run_id: UUID | None = None
    waiting_since: datetime | None = None
    wake_at: datetime | None = None
    branch: str | None = None
    since: datetime | None = None
    worker: WorkerProcess | None = None
    failure: FailedAttempt | None = None
    max_attempts: int | None = None
    crashes: int = 0

    @property
    def error(self) -> ErrorRecord | None:
        """The error of its last failed attempt."""
        return self.failure.error if self.failure else None


def last_failure(token: Any) -> sa.ColumnElement[Any]:
    """The last failed attempt of a token's unit, as JSON; NULL if there is none."""
    found: sa.ColumnElement[Any] = token.c.failures.op("->")(sa.literal_column("-1"))
    return found


def max_attempts(token: Any) -> sa.ColumnElement[Any]:
    """How often the unit of a token may be tried, by its stored plan; NULL if that does not say."""
    of_run = t.run.alias("of_run")
    part = sa.case(
        (token.c.part.is_not(None), sql.word(SEPARATOR) + token.c.part),
        (token.c.position.is_not(None), sql.word(f"{SEPARATOR}{ANY}")),
        else_=sql.word(""),
    )
    undoes = sa.case(
        (token.c.rollback.is_not(None), sql.word(f"{SEPARATOR}{COMPENSATE}")), else_=sql.word("")
    )
    unit = sa.func.concat(token.c.node, part, undoes)
    stored = t.definition.c.plan.op("->")(sql.word("max_attempts")).op("->>")(unit)
    found: sa.ColumnElement[Any] = (
        sa.select(sa.cast(stored, sa.Integer))
        .join_from(
            of_run,
            t.definition,
            sa.and_(
                t.definition.c.workflow == of_run.c.workflow,
                t.definition.c.version == of_run.c.version,
            ),
        )
        .where(of_run.c.id == token.c.run_id)
        .scalar_subquery()
    )
    return found


def unit_columns(token: Any, failure: Any) -> tuple[sa.ColumnElement[Any], ...]:
    """The columns of a unit; its worker, if it has one, is joined to the token.

    `failure` is the last failed attempt as JSON, as much of it as is wanted.
    """
    return (
        token.c.unit,
        token.c.node,
        token.c.attempt,
        token.c.wait.label("waits_for"),
        token.c.awaits.label("signal"),
        token.c.child_run_id,
        token.c.waiting_since,
        sql.ahead(token.c.wake_at).label("wake_at"),
        token.c.part.label("branch"),
        token.c.since,
        token.c.claimed_by,
        t.worker.c.hostname,
        t.worker.c.pid,
        sql.json_text(failure, "failure"),
        max_attempts(token).label("max_attempts"),
        token.c.crashes,
    )


def unit_of(row: Row) -> UnitInHand:
    """The unit of a row with the columns of `unit_columns`."""
    worker = None
    if row["claimed_by"] is not None:
        worker = WorkerProcess(row["claimed_by"], row["hostname"], row["pid"])
    return UnitInHand(
        unit=row["unit"],
        node=row["node"],
        attempt=row["attempt"],
        is_executing=worker is not None,
        waits_for=row["waits_for"],
        signal=row["signal"],
        child_run_id=row["child_run_id"],
        waiting_since=row["waiting_since"],
        wake_at=row["wake_at"],
        branch=row["branch"],
        since=row["since"],
        worker=worker,
        failure=failure_of(row["failure"]),
        max_attempts=row["max_attempts"],
        crashes=row["crashes"],
    )

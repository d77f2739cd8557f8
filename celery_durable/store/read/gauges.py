"""Reads what can be told of all runs at this moment, as samples of `core.metrics`.

However much there is, no statement looks at more than its bound: `MOST_RUNS` of a status and of all
tokens, `MOST_MESSAGES` of what waits for workers or relays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from celery_durable.core import metrics
from celery_durable.core.fleet import QueueInfo, WorkerInfo, WorkerState
from celery_durable.core.metrics import Family, Metric, Sample
from celery_durable.core.status import FINISHED, READ_FROM_TOKENS, Status
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement, one
from celery_durable.store.read import facts, fleet
from celery_durable.store.read.filters import COMPENSATION_FAILED
from celery_durable.store.read.fleet import Waiting
from celery_durable.store.read.position import standing

MOST_RUNS = 100_000
"""Where the count of runs of one status stops, and the look at their tokens."""

MOST_MESSAGES = 20_000
"""Where the look at tokens that workers could claim stops, and the counts of messages."""

_STORED = [status for status in Status if status not in FINISHED | READ_FROM_TOKENS]

_zero: Any = sa.literal_column("0")
_most: Any = sql.integer("most")


def _of_status(status: Status) -> Any:
    found = sa.select(t.run.c.id).where(t.run.c.status == sql.word(status))
    bounded = found.order_by(t.run.c.id).limit(_most).subquery()
    return sa.select(sa.func.count()).select_from(bounded).scalar_subquery().label(status)


STORED = Statement(sa.select(*map(_of_status, _STORED)))
"""How many runs are stored with each status of those that have not ended."""

# Whose delayed start has not come is pending, whatever else.
_is_pending = sa.and_(
    t.token.c.wait.is_(None), sa.not_(t.token.c.begun), t.token.c.wake_at.is_not(None)
)
_stands_as = standing(t.token)
_stands = (
    sa.select(
        t.token.c.run_id,
        sa.or_(_stands_as[Status.RUNNING], _is_pending).label("moves"),
        _stands_as[Status.PAUSED].label("is_paused"),
        _stands_as[Status.SUSPENDED].label("is_suspended"),
        _stands_as[Status.SLEEPING].label("is_asleep"),
    )
    # A run that is rolled back is stored as such.
    .where(t.token.c.rollback.is_(None))
    .order_by(t.token.c.run_id)
    .limit(_most)
    .subquery("stands")
)
_any: Callable[[Any], Any] = sa.func.bool_or
_standing = (
    sa.select(
        sa.case(
            (_any(_stands.c.moves), sa.null()),
            (_any(_stands.c.is_paused), sql.word(Status.PAUSED)),
            (_any(_stands.c.is_suspended), sql.word(Status.SUSPENDED)),
            (_any(_stands.c.is_asleep), sql.word(Status.SLEEPING)),
        ).label("status")
    )
    .group_by(_stands.c.run_id)
    .subquery("standing")
)

STANDING = Statement(
    sa.select(_standing.c.status, sa.func.count().label("runs"))
    .where(_standing.c.status.is_not(None))
    .group_by(_standing.c.status)
)
"""How many runs stand still, by what `position.STATUS` calls them; set-wise, that it costs less."""

_not_compensated = (
    sa.select(t.journal.c.run_id)
    .join_from(t.journal, t.run, t.run.c.id == t.journal.c.run_id)
    .where(*COMPENSATION_FAILED, t.run.c.retried_as.is_(None))
    .order_by(t.journal.c.run_id)
    .limit(_most)
    .subquery("not_compensated")
)

NOT_COMPENSATED = Statement(
    sa.select(sa.func.count(_not_compensated.c.run_id.distinct()).label("runs"))
)


def families(connection: Connection) -> Sequence[Family]:
    """All gauges but the time that reading takes."""
    present = fleet.workers(connection)
    found = fleet.waiting(connection, MOST_MESSAGES)
    at = connection.rows(fleet.NOW)[0]["now"]
    queues = fleet.queues(connection, present, found)
    return [
        Family(metrics.UNFINISHED, _samples(unfinished(connection))),
        Family(metrics.NOT_COMPENSATED, [Sample((), not_compensated(connection))]),
        *_of_ages(found, [queue.queue for queue in queues], at),
        *_of_queues(queues),
        Family(metrics.WORKERS, _samples(_by_state(present))),
        Family(metrics.RELAYS, _samples(_of_relays(connection, at))),
    ]


def not_compensated(connection: Connection) -> int:
    """How many runs have a compensation that failed for good, and were not tried again."""
    row = one(connection, NOT_COMPENSATED, {"most": MOST_RUNS})
    assert row is not None
    return int(row["runs"])


def unfinished(connection: Connection) -> Mapping[str, int]:
    """How many runs have not ended, by the status that users see; exact up to `MOST_RUNS`."""
    stored = one(connection, STORED, {"most": MOST_RUNS})
    assert stored is not None
    standing = {
        row["status"]: int(row["runs"]) for row in connection.rows(STANDING, {"most": MOST_RUNS})
    }
    counts = {status: standing.get(status, 0) for status in READ_FROM_TOKENS}
    moving = max(stored[Status.RUNNING] - sum(counts.values()), 0)
    counts |= {status: int(stored[status]) for status in _STORED}
    return {str(status): n for status, n in sorted({**counts, Status.RUNNING: moving}.items())}


def _samples(counts: Mapping[str, int]) -> Sequence[Sample]:
    return [Sample((label,), count) for label, count in counts.items()]


def _of_ages(found: Waiting, queues: Iterable[str], at: datetime) -> Iterable[Family]:
    """How long the oldest of each kind has waited, by queue; 0 where nothing waits."""
    unpublished = [("runnable_since", found.due), ("waiting_since", found.timed)]
    for metric, columns in {
        metrics.OLDEST_RUNNABLE: [("runnable_since", found.published), *unpublished],
        metrics.OLDEST_UNPUBLISHED: unpublished,
        metrics.OLDEST_UNTAKEN: [("untaken_since", found.published)],
    }.items():
        yield Family(metric, _ages(columns, dict.fromkeys(queues, at), at))


def _ages(
    columns: Iterable[tuple[str, Sequence[Row]]], oldest: dict[str, datetime], at: datetime
) -> Sequence[Sample]:
    for column, rows in columns:
        for row in rows:
            if row[column] is not None:
                oldest[row["queue"]] = min(oldest[row["queue"]], row[column])
    return [
        Sample((queue,), max((at - since).total_seconds(), 0.0))
        for queue, since in sorted(oldest.items())
    ]


_OF_QUEUE: Mapping[Metric, Callable[[QueueInfo], int]] = {
    metrics.UNPUBLISHED: lambda queue: queue.due,
    metrics.UNTAKEN: lambda queue: queue.published,
    metrics.LATER: lambda queue: queue.later,
    metrics.POSTPONED: lambda queue: queue.refused,
    metrics.EXECUTING: lambda queue: queue.claimed,
    metrics.CONSUMERS: lambda queue: queue.workers,
    metrics.SLOTS: lambda queue: queue.slots,
    metrics.BUSY: lambda queue: queue.busy,
}


def _of_queues(queues: Sequence[QueueInfo]) -> Iterable[Family]:
    for metric, read in _OF_QUEUE.items():
        yield Family(metric, [Sample((queue.queue,), read(queue)) for queue in queues])


def _by_state(present: Sequence[WorkerInfo]) -> Mapping[str, int]:
    return {str(s): sum(worker.state is s for worker in present) for s in WorkerState}


def _of_relays(connection: Connection, at: datetime) -> Mapping[str, int]:
    live = [one for one in facts.relays_seen(connection) if one.is_live(at)]
    states = Counter("publishing" if one.outage is None else "hindered" for one in live)
    return {state: states[state] for state in ("publishing", "hindered")}

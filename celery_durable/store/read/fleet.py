"""Reads who is there, and what waits for whom: workers and queues.

However much waits, a count stops at `MOST_COUNTED`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.fleet import Executing, QueueInfo, WorkerInfo, WorkerState
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement
from celery_durable.store.outbox import IS_AT_ONCE
from celery_durable.store.read.facts import BUSY, IS_DEAD
from celery_durable.store.tokens import IS_CLAIMABLE
from celery_durable.store.workers import NO_QUEUE, lock_space

MOST_COUNTED = 100_000
"""Where a count stops: of the due messages of one queue, of all messages for later, of all tokens
that are published.
"""

MOST_EXECUTING = 16
"""Most claims of one worker that are shown."""

_limit: Any = sql.integer("most")
_of_any_node = sql.uuid("node_id").is_(None)

_executing = (
    sa.select(t.token.c.run_id, t.run.c.workflow, t.token.c.unit, t.token.c.since)
    .join_from(t.token, t.run, t.run.c.id == t.token.c.run_id)
    .where(t.token.c.claimed_by == t.worker.c.id)
    .order_by(t.token.c.since)
    .limit(sa.literal_column(str(MOST_EXECUTING)))
    .correlate(t.worker)
)

_WORKERS = Statement(
    sa.select(
        *(t.worker.c[name] for name in ("id", "node_id", "hostname", "pid", "pool", "slots")),
        *(t.worker.c[name] for name in ("started_at", "expires_at", "draining")),
        sa.cast(t.worker.c.queues, sa.Text).label("queues"),
        sa.cast(t.worker.c.knows, sa.Text).label("knows"),
        (t.worker.c.expires_at - t.worker.c.ttl * sa.literal_column("interval '1 second'")).label(
            "renewed_at"
        ),
        t.worker.c.lock_number.is_not(None).label("has_lock"),
        IS_DEAD.label("is_dead"),
        (t.worker.c.expires_at < sql.clock).label("is_overdue"),
        BUSY.label("busy"),
        sql.json_rows(_executing, "executing"),
    )
    .where(
        t.worker.c.ended_at.is_(None),
        sa.or_(_of_any_node, t.worker.c.node_id == sql.uuid("node_id")),
    )
    .order_by(t.worker.c.hostname, t.worker.c.pid)
)

_first_signal = (
    sa.select(sa.func.min(t.inbox.c.created_at))
    .where(
        t.inbox.c.run_id == t.token.c.run_id,
        t.inbox.c.kind == sql.word("signal"),
        t.inbox.c.name == t.token.c.awaits,
        t.inbox.c.consumed_by.is_(None),
    )
    .scalar_subquery()
)
_child_ended_at = (
    sa.select(t.run.c.finished_at).where(t.run.c.id == t.token.c.child_run_id).scalar_subquery()
)
# A hint may have been sent again since. When the last branch left, or a flag came, no row tells.
_runnable_since = sa.func.greatest(
    t.token.c.since,
    sa.case(
        (t.token.c.flags != sa.literal_column("0"), t.token.c.hinted_at),
        (t.token.c.wait == sql.word("signal"), sa.func.coalesce(_first_signal, t.token.c.wake_at)),
        (t.token.c.wait == sql.word("child"), _child_ended_at),
        (t.token.c.wait == sql.word("branches"), t.token.c.hinted_at),
        else_=t.token.c.wake_at,
    ),
)

# The next queue, and the next: the index has all rows of one queue together.
_at_once = t.outbox.c.available_at.is_(None)


def _first_queue(*conditions: sa.ColumnElement[bool]) -> Any:
    return (
        sa.select(t.outbox.c.queue)
        .where(_at_once, *conditions)
        .order_by(t.outbox.c.queue)
        .limit(sa.literal_column("1"))
        .scalar_subquery()
    )


_queues = sa.select(_first_queue().label("queue")).cte("queues", recursive=True)
_queues = _queues.union_all(
    sa.select(_first_queue(t.outbox.c.queue > _queues.c.queue)).where(_queues.c.queue.is_not(None))
)
_of_queue = (
    sa.select(t.outbox.c.id)
    .where(_at_once, t.outbox.c.queue == _queues.c.queue)
    .correlate(_queues)
    .limit(_limit)
    .subquery("of_queue")
)
_counted = (
    sa.select(sa.func.count().label("due"), sa.func.min(_of_queue.c.id).label("first"))
    .select_from(_of_queue)
    .lateral("counted")
)
_oldest = t.outbox.alias("oldest")

_woke_at = sa.case((t.token.c.wake_at <= sql.clock, t.token.c.wake_at))

DUE = Statement(
    sa.select(
        _queues.c.queue,
        _counted.c.due,
        # A timer's hint was put when it began.
        sa.func.greatest(t.token.c.hinted_at, _woke_at).label("waiting_since"),
        _runnable_since.label("runnable_since"),
    )
    .select_from(_queues)
    .join(_counted, sa.true())
    .join(_oldest, _oldest.c.id == _counted.c.first, isouter=True)
    .join(t.token, t.token.c.id == _oldest.c.token_id, isouter=True)
    .where(_queues.c.queue.is_not(None))
)

_timed = (
    sa.select(t.outbox.c.queue, t.outbox.c.available_at, t.outbox.c.tries, t.outbox.c.last_error)
    .where(t.outbox.c.available_at.is_not(None))
    .order_by(t.outbox.c.available_at)
    .limit(_limit)
    .subquery("timed")
)
_has_come = _timed.c.available_at <= sql.clock

TIMED = Statement(
    sa.select(
        _timed.c.queue,
        sa.func.count().filter(_has_come).label("due"),
        sa.func.count().filter(sa.not_(_has_come)).label("later"),
        sa.func.count().filter(_timed.c.tries > sa.literal_column("0")).label("refused"),
        sa.func.max(_timed.c.last_error).label("refusal"),
        sa.func.min(_timed.c.available_at).filter(_has_come).label("waiting_since"),
    ).group_by(_timed.c.queue)
)

# What waits for a message to be followed has a time at which the message is looked for.
_is_in_outbox = sql.there_is(t.outbox.c.token_id == t.token.c.id, IS_AT_ONCE)
_looked_at = (
    sa.select(
        t.token.c.queue,
        IS_CLAIMABLE.label("is_claimable"),
        _is_in_outbox.label("is_in_outbox"),
        _runnable_since.label("runnable_since"),
        # Since when a signal or a child is there, no token knows.
        sa.case(
            (
                sa.or_(t.token.c.wait.is_(None), t.token.c.wait == sql.word("timer")),
                sa.func.greatest(t.token.c.hinted_at, t.token.c.wake_at),
            )
        ).label("since"),
    )
    .where(t.token.c.claimed_by.is_(None), t.token.c.look_at.is_not(None))
    .order_by(t.token.c.look_at)
    .limit(_limit)
    .subquery("looked_at")
)
_is_published = sa.and_(_looked_at.c.is_claimable, sa.not_(_looked_at.c.is_in_outbox))

PUBLISHED = Statement(
    sa.select(
        _looked_at.c.queue,
        sa.func.count().label("looked_at"),
        sa.func.count().filter(_is_published).label("published"),
        sa.func.min(_looked_at.c.since).filter(_is_published).label("waiting_since"),
        sa.func.min(_looked_at.c.runnable_since)
        .filter(_looked_at.c.is_claimable)
        .label("runnable_since"),
        sa.func.min(_looked_at.c.runnable_since).filter(_is_published).label("untaken_since"),
    ).group_by(_looked_at.c.queue)
)

CLAIMED = Statement(
    sa.select(t.token.c.queue, sa.func.count().label("claimed"))
    .where(t.token.c.claimed_by.is_not(None))
    .group_by(t.token.c.queue)
)


NOW = Statement(sa.select(sql.clock.label("now")))


def workers(connection: Connection, node_id: UUID | None = None) -> Sequence[WorkerInfo]:
    """The worker processes that have not ended: all, or those of one Celery worker."""
    parameters = {"lock_space": lock_space(connection), "node_id": node_id}
    return [_worker_of(row) for row in connection.rows(_WORKERS, parameters)]


def _worker_of(row: Row) -> WorkerInfo:
    plain = {name: row[name] for name in row if name not in ("is_overdue", "executing")}
    executing = [
        Executing(UUID(run_id), workflow, unit, datetime.fromisoformat(since))
        for run_id, workflow, unit, since in json.loads(row["executing"] or "[]")
    ]
    written = {
        "queues": frozenset(json.loads(row["queues"])),
        "knows": json.loads(row["knows"]),
        "state": _state_of(row),
        "executing": tuple(executing),
    }
    return WorkerInfo(**{**plain, **written})


def _state_of(row: Row) -> WorkerState:
    if row["is_dead"]:
        return WorkerState.DEAD
    if row["is_overdue"]:
        return WorkerState.OVERDUE
    return WorkerState.DRAINING if row["draining"] else WorkerState.ALIVE


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for relays and workers, by queue; each list was looked at up to `most` rows."""

    most: int
    due: Sequence[Row]
    timed: Sequence[Row]
    published: Sequence[Row]


def waiting(connection: Connection, most: int) -> Waiting:
    """What waits for relays and workers; of each kind at most so many are looked at."""
    found = (connection.rows(s, {"most": most + 1}) for s in (DUE, TIMED, PUBLISHED))
    return Waiting(most, *found)


def queues(
    connection: Connection, present: Sequence[WorkerInfo], found: Waiting | None = None
) -> Sequence[QueueInfo]:
    """What waits for each queue that holds something, or that one of the `present` consumes."""
    found = found or waiting(connection, MOST_COUNTED)
    claimed = {row["queue"]: int(row["claimed"]) for row in connection.rows(CLAIMED)}
    bounded = {
        "later": sum(row["due"] + row["later"] for row in found.timed) > found.most,
        "published": sum(row["looked_at"] for row in found.published) > found.most,
    }
    at = connection.rows(NOW)[0]["now"]
    rows = (*found.due, *found.timed, *found.published)
    consumed = {name for worker in present for name in worker.queues} - {NO_QUEUE}
    names = consumed | claimed.keys() | {row["queue"] for row in rows}
    made = {name: QueueInfo(name, claimed=claimed.get(name, 0)) for name in sorted(names)}
    for row in rows:
        made[row["queue"]] = _with_counts(made[row["queue"]], row)
    bound = partial(_with_bounds, bounded=bounded, most=found.most)
    return [_with_consumers(bound(one), present, at) for one in made.values()]


def _with_counts(queue: QueueInfo, row: Row) -> QueueInfo:
    since = [time for time in (queue.waiting_since, row["waiting_since"]) if time is not None]
    return replace(
        queue,
        due=queue.due + row.get("due", 0),
        later=queue.later + row.get("later", 0),
        refused=queue.refused + row.get("refused", 0),
        refusal=queue.refusal or row.get("refusal"),
        published=queue.published + row.get("published", 0),
        waiting_since=min(since, default=None),
    )


def _with_bounds(queue: QueueInfo, bounded: Mapping[str, bool], most: int) -> QueueInfo:
    """Name the counts that stopped at their bound; that of `due` is the queue's own."""
    is_bounded = {"due": queue.due > most, **bounded}
    return replace(
        queue,
        due=min(queue.due, most),
        later=min(queue.later, most),
        published=min(queue.published, most),
        at_least=tuple(name for name, is_it in is_bounded.items() if is_it),
    )


def _with_consumers(queue: QueueInfo, present: Sequence[WorkerInfo], at: datetime) -> QueueInfo:
    takers = [worker for worker in present if worker.takes(queue.queue, at)]
    return replace(
        queue,
        workers=len(takers),
        slots=sum(worker.slots for worker in takers),
        busy=sum(min(worker.busy, worker.slots) for worker in takers),
    )

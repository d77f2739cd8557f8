"""Gathers what there is to know of runs that do not move, for `core.why`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, OID, REGCLASS

from celery_durable.core.reason import Diagnosis
from celery_durable.core.situation import Consumer, Facts, Hint, Locker, SeenRelay, Standing
from celery_durable.core.status import FINISHED, Status
from celery_durable.core.token import ForChild
from celery_durable.core.why import explain
from celery_durable.store import pauses, sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement
from celery_durable.store.read.actions import actor_of
from celery_durable.store.read.filters import COMPENSATION_FAILED
from celery_durable.store.read.position import STATUS
from celery_durable.store.read.units import max_attempts
from celery_durable.store.rows import error_of, token_of
from celery_durable.store.workers import SERVER_START, lock_space

MOST_TOKENS = 100
"""Most tokens of one run that are looked at; those that are executed come first."""

MOST_NOT_UNDONE = 5
"""Compensations that have failed for good, by name."""

MOST_SIGNALS = 20
"""Most names of signals of one run that are looked at."""

MOST_CHILDREN, MOST_LEVELS = 5, 5
"""Most children of a run that are explained too, and most levels of them."""

_asked = (
    sa.func.json_array_elements_text(sql.json("run_ids"))
    .table_valued("value")
    .render_derived(name="asked")
)
_asked_id: Any = sa.cast(_asked.c.value, sa.Uuid())

_cancel = (
    sa.select(t.inbox.c.created_at, t.inbox.c.payload)
    .where(
        t.inbox.c.run_id == t.run.c.id,
        t.inbox.c.kind == sql.word("command"),
        t.inbox.c.name == sql.word("cancel"),
    )
    .order_by(t.inbox.c.id)
    .limit(sa.literal_column("1"))
    .lateral("cancel")
)

_failed_undo = (
    sa.select(t.journal.c.unit)
    .where(t.journal.c.run_id == t.run.c.id, *COMPENSATION_FAILED)
    .order_by(t.journal.c.unit)
    .limit(sa.literal_column(str(MOST_NOT_UNDONE)))
)
_not_undone = sa.case(
    (t.run.c.finished_at.is_not(None), sa.func.array(_failed_undo.scalar_subquery())),
    else_=sa.cast(sa.literal_column("'{}'"), ARRAY(sa.Text)),
)

_RUNS = Statement(
    sa.select(
        t.run.c.id,
        t.run.c.workflow,
        t.run.c.version,
        STATUS,
        t.run.c.finished_at,
        t.run.c.retried_as,
        sql.json_text(t.run.c.error),
        _not_undone.label("not_undone"),
        sa.func.coalesce(t.run.c.cancel_requested_at, _cancel.c.created_at).label("cancelled_at"),
        sa.func.coalesce(
            t.run.c.cancel_reason, _cancel.c.payload.op("->>")(sql.word("reason"))
        ).label("cancel_reason"),
        actor_of("cancel", t.run.c.id).label("cancelled_by"),
        sql.clock.label("now"),
    )
    .select_from(_asked)
    .join(t.run, t.run.c.id == _asked_id)
    .join(_cancel, sa.true(), isouter=True)
)

_standing = (
    sa.select(
        *(
            t.token.c[name]
            for name in (
                *("id", "run_id", "node", "unit", "attempt", "crashes", "flags", "rollback"),
                *("parent_id", "part", "position", "wait", "awaits", "child_run_id", "remaining"),
                *("failed", "total", "waiting_since", "since", "wake_at", "queue", "begun"),
                *("claimed_by", "deadline_at", "hinted_at"),
            )
        ),
        sql.json_text(t.token.c.failures),
        sql.json_text(t.token.c.progress),
    )
    .where(t.token.c.run_id == _asked_id)
    .order_by(
        t.token.c.parent_id.is_not(None),
        t.token.c.claimed_by.is_(None),
        t.token.c.waiting_since,
        t.token.c.position,
    )
    .limit(sa.literal_column(str(MOST_TOKENS)))
    .lateral("standing")
)

_hint_of_standing = (
    sa.select(
        t.outbox.c.id.label("hint_id"), t.outbox.c.available_at, t.outbox.c.tries,
        t.outbox.c.last_error,
    )
    .where(t.outbox.c.token_id == _standing.c.id)
    .order_by(t.outbox.c.available_at.nulls_first(), t.outbox.c.id)
    .limit(sa.literal_column("1"))
    .lateral("hint")
)  # fmt: skip

_TOKENS = Statement(
    sa.select(*_standing.c, *_hint_of_standing.c, max_attempts(_standing).label("max_attempts"))
    .select_from(_asked)
    .join(_standing, sa.true())
    .join(_hint_of_standing, sa.true(), isouter=True)
)

# A lateral, like the tokens: joined, Postgres may read the inbox of all runs.
_signals = (
    sa.select(t.inbox.c.name, sa.func.min(t.inbox.c.created_at).label("came_at"))
    .where(
        t.inbox.c.run_id == _asked_id,
        t.inbox.c.kind == sql.word("signal"),
        t.inbox.c.consumed_by.is_(None),
    )
    .group_by(t.inbox.c.name)
    .limit(sa.literal_column(str(MOST_SIGNALS)))
    .lateral("signals")
)

_SIGNALS = Statement(
    sa.select(_asked_id.label("run_id"), *_signals.c).select_from(_asked).join(_signals, sa.true())
)

_later = t.inbox.alias("later")
_refusals = (
    sa.select(t.inbox.c.name, t.inbox.c.refused)
    .where(
        t.inbox.c.run_id == _asked_id,
        t.inbox.c.refused.is_not(None),
        # The last one of its name that a token has taken.
        sa.not_(
            sa.exists().where(
                _later.c.run_id == t.inbox.c.run_id,
                _later.c.name == t.inbox.c.name,
                _later.c.kind == sql.word("signal"),
                _later.c.id > t.inbox.c.id,
                _later.c.consumed_by.is_not(None),
            )
        ),
    )
    .limit(sa.literal_column(str(MOST_SIGNALS)))
    .lateral("refusals")
)

_REFUSALS = Statement(
    sa.select(_asked_id.label("run_id"), *_refusals.c)
    .select_from(_asked)
    .join(_refusals, sa.true())
)

_locks: Any = sa.table(
    "pg_locks",
    *map(sa.column, ("locktype", "database", "classid", "objid", "objsubid", "granted", "pid")),
    *map(sa.column, ("relation", "page", "tuple")),
    schema="pg_catalog",
)
_here = sa.select(
    sa.func.pg_stat_get_activity(sa.func.pg_backend_pid()).table_valued("datid").c.datid
).scalar_subquery()

# The lock is looked for, and not tried as the reaper does: the worker may be about to take it.
_is_locked = sa.exists().where(
    _locks.c.locktype == sql.word("advisory"),
    _locks.c.database == _here,
    _locks.c.classid == sa.cast(sa.func.hashtext(sql.text("lock_space")), OID),
    _locks.c.objid == sa.cast(t.worker.c.lock_number, OID),
    _locks.c.objsubid == sa.literal_column("2"),
    _locks.c.granted,
)
IS_DEAD = sa.and_(
    t.worker.c.lock_number.is_not(None),
    t.worker.c.server_started_at == SERVER_START,
    sa.not_(_is_locked),
)
"""True if the worker's lock is free; needs the parameter `lock_space`."""

BUSY = sa.select(sa.func.count()).where(t.token.c.claimed_by == t.worker.c.id).scalar_subquery()
"""How many tokens the worker has claimed."""

_took_at = (
    sa.select(sa.func.max(t.token.c.since))
    .where(t.token.c.claimed_by == t.worker.c.id)
    .scalar_subquery()
)

_WORKERS = Statement(
    sa.select(
        *(t.worker.c[name] for name in ("id", "hostname", "pid", "slots", "expires_at")),
        t.worker.c.draining,
        sa.cast(t.worker.c.queues, sa.Text).label("queues"),
        sa.cast(t.worker.c.knows, sa.Text).label("knows"),
        IS_DEAD.label("is_dead"),
        BUSY.label("busy"),
        _took_at.label("took_at"),
    ).where(t.worker.c.ended_at.is_(None))
)

_RELAYS = Statement(
    sa.select(
        *(t.relay.c[name] for name in ("hostname", "pid", "seen_at", "outage", "outage_since"))
    )
)

_activity: Any = sa.table(
    "pg_stat_activity",
    *map(sa.column, ("pid", "usename", "state", "xact_start")),
    schema="pg_catalog",
)


def _waits_for_row_of(table: sa.Table, run_id: sa.ColumnElement[Any]) -> Any:
    """The processes that wait for the lock of a row of the run: they lock its place meanwhile."""
    name = sa.func.format(sql.word("%I.%I"), sql.text("schema"), sql.word(table.name))
    ctid: Any = sa.literal_column(f"{table.name}.ctid::text")
    return (
        sa.select(_locks.c.pid)
        .select_from(_locks)
        .join(table, ctid == sa.func.format(sql.word("(%s,%s)"), _locks.c.page, _locks.c.tuple))
        .where(
            _locks.c.locktype == sql.word("tuple"),
            _locks.c.database == _here,
            _locks.c.relation == sa.cast(sa.cast(name, REGCLASS), OID),
            run_id == sql.uuid("run_id"),
        )
    )


_waiting = sa.union(
    _waits_for_row_of(t.token, t.token.c.run_id), _waits_for_row_of(t.run, t.run.c.id)
).subquery("waiting")
_blocking = sa.func.unnest(sa.func.pg_blocking_pids(_waiting.c.pid)).table_valued("pid")

_LOCKERS = Statement(
    sa.select(
        _activity.c.pid,
        _activity.c.usename.label("user"),
        sa.func.coalesce(_activity.c.state, sql.word("unknown")).label("state"),
        sa.func.coalesce(_activity.c.xact_start, sql.clock).label("since"),
    )
    .select_from(_waiting)
    .join(_blocking.render_derived(name="blocking"), sa.true())
    .join(_activity, _activity.c.pid == sa.literal_column("blocking.pid"))
    .distinct()
)


def diagnoses(connection: Connection, run_ids: Sequence[UUID]) -> Sequence[Diagnosis]:
    """Explain each of the runs, in this order; those that do not exist are left out."""
    workers, relays = _workers(connection), relays_seen(connection)
    found = {
        facts.run_id: explain(_with_children(connection, facts, MOST_LEVELS))
        for facts in _facts(connection, run_ids, workers, relays)
    }
    return [found[run_id] for run_id in run_ids if run_id in found]


def diagnosis(connection: Connection, run_id: UUID) -> Diagnosis | None:
    """Explain the run, and look for locks of others on its rows; None if there is no such run."""
    workers, relays = _workers(connection), relays_seen(connection)
    for facts in _facts(connection, [run_id], workers, relays):
        parameters = {"run_id": run_id, "schema": connection.schema}
        lockers = [Locker(**row) for row in connection.rows(_LOCKERS, parameters)]
        return explain(_with_children(connection, replace(facts, lockers=lockers), MOST_LEVELS))
    return None


def _facts(
    connection: Connection,
    run_ids: Sequence[UUID],
    workers: Sequence[Consumer],
    relays: Sequence[SeenRelay],
) -> list[Facts]:
    asked = {"run_ids": json.dumps([str(run_id) for run_id in run_ids])}
    tokens: dict[UUID, list[Standing]] = {}
    for row in connection.rows(_TOKENS, asked):
        tokens.setdefault(row["run_id"], []).append(_standing_of(row))
    paused = pauses.of_runs(connection, run_ids)
    signals: dict[UUID, dict[str, datetime]] = {}
    for row in connection.rows(_SIGNALS, asked):
        signals.setdefault(row["run_id"], {})[row["name"]] = row["came_at"]
    refusals: dict[UUID, dict[str, str]] = {}
    for row in connection.rows(_REFUSALS, asked):
        refusals.setdefault(row["run_id"], {})[row["name"]] = row["refused"]
    return [
        Facts(
            at=row["now"],
            run_id=row["id"],
            workflow=row["workflow"],
            version=row["version"],
            status=Status(row["status"]),
            tokens=tokens.get(row["id"], ()),
            workers=workers,
            relays=relays,
            signals=signals.get(row["id"], {}),
            refusals=refusals.get(row["id"], {}),
            pauses=[one for one in paused if one.pause.run_id in (None, row["id"])],
            finished_at=row["finished_at"],
            retried_as=row["retried_as"],
            error=_error_line(row["error"]),
            not_undone=row["not_undone"],
            cancel_requested_at=row["cancelled_at"],
            cancel_reason=row["cancel_reason"],
            cancelled_by=row["cancelled_by"],
        )
        for row in connection.rows(_RUNS, asked)
    ]


def _with_children(connection: Connection, facts: Facts, levels: int) -> Facts:
    """The facts with the explanations of the children that the run waits for."""
    waits = [one.token.wait for one in facts.tokens]
    ids = [wait.run_id for wait in waits if isinstance(wait, ForChild)][:MOST_CHILDREN]
    if not ids or facts.status in FINISHED or levels == 0:
        return facts
    children = {
        child.run_id: explain(_with_children(connection, child, levels - 1))
        for child in _facts(connection, ids, facts.workers, facts.relays)
    }
    return replace(facts, children=children)


def _workers(connection: Connection) -> Sequence[Consumer]:
    return [
        Consumer(
            **{
                **row,
                "queues": frozenset(json.loads(row["queues"])),
                "knows": json.loads(row["knows"]),
            }
        )
        for row in connection.rows(_WORKERS, {"lock_space": lock_space(connection)})
    ]


def relays_seen(connection: Connection) -> Sequence[SeenRelay]:
    """The relays that have said that they are there, also those that are gone."""
    return [SeenRelay(**row) for row in connection.rows(_RELAYS)]


def _standing_of(row: Row) -> Standing:
    hint = None
    if row["hint_id"] is not None:
        hint = Hint(row["available_at"], row["tries"], row["last_error"])
    return Standing(
        token=token_of(row),
        since=row["since"],
        hinted_at=row["hinted_at"],
        queue=row["queue"],
        wake_at=row["wake_at"],
        waiting_since=row["waiting_since"],
        begun=row["begun"],
        claimed_by=row["claimed_by"],
        hint=hint,
        progress=_said(row["progress"]),
        deadline_at=row["deadline_at"],
        max_attempts=row["max_attempts"],
    )


def _said(progress: str | None) -> str:
    """`40%, page 3` of what the unit has reported last."""
    note = json.loads(progress) if progress else {}
    fraction, message = note.get("fraction"), note.get("message")
    parts = [f"{fraction:.0%}"] if fraction is not None else []
    return ", ".join([*parts, message] if message else parts)


def _error_line(error: str | None) -> str | None:
    found = error_of(error)
    return None if found is None else f"{found.type}: {found.message}"

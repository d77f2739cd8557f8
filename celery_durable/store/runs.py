"""Starts runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from celery_durable.core.child import NewRun
from celery_durable.core.status import Status
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one
from celery_durable.store.outbox import HINTED_BY, hint_of, insert_hints
from celery_durable.store.read.position import STATUS

_recordset: Any = (
    sa.func.json_to_recordset(sql.json("runs"))
    .table_valued(
        sa.column("id", sa.Uuid),
        sa.column("token_id", sa.Uuid),
        sa.column("fence", sa.Uuid),
        sa.column("workflow", sa.Text),
        sa.column("version", sa.Integer),
        sa.column("first_node", sa.Text),
        sa.column("first_unit", sa.Text),
        sa.column("first_position", sa.Integer),
        sa.column("queue", sa.Text),
        sa.column("time_limit", sa.Double),
        sa.column("input", sa.JSON),
        sa.column("key", sa.Text),
        sa.column("priority", sa.SmallInteger),
        sa.column("token_priority", sa.SmallInteger),
        sa.column("tags", JSONB),
        sa.column("timeout", sa.Double),
        sa.column("expires", sa.Double),
        sa.column("parent_token", sa.Uuid),
        sa.column("parent_run_id", sa.Uuid),
        sa.column("root_run_id", sa.Uuid),
        sa.column("depth", sa.Integer),
        sa.column("forked_from", sa.Uuid),
        sa.column("trace", sa.JSON),
        name="recordset",
    )
    .render_derived(name="recordset", with_types=True)
)

_asked = sa.select(*_recordset.c).cte("asked")

_is_delayed = sql.interval("delay").is_not(None)

_second: Any = sa.literal_column("interval '1 second'")
_begins_at = sql.clock + sa.func.coalesce(sql.interval("delay"), sa.literal_column("interval '0'"))

_new = {
    "id": _asked.c.id,
    "workflow": _asked.c.workflow,
    "version": _asked.c.version,
    "status": sa.case(
        (_is_delayed, sa.literal_column(f"'{Status.PENDING}'")),
        else_=sa.literal_column(f"'{Status.RUNNING}'"),
    ),
    "key": _asked.c.key,
    "priority": _asked.c.priority,
    # JSON null is an input; json_to_recordset makes SQL NULL of it.
    "input": sa.func.coalesce(_asked.c.input, sa.cast(sa.literal_column("'null'"), sa.JSON())),
    "tags": sa.func.coalesce(_asked.c.tags, sa.cast(sa.literal_column("'{}'"), JSONB)),
    "parent_token": _asked.c.parent_token,
    "parent_run_id": _asked.c.parent_run_id,
    "root_run_id": _asked.c.root_run_id,
    "depth": sa.func.coalesce(_asked.c.depth, sa.literal_column("0")),
    "forked_from": _asked.c.forked_from,
    "trace": _asked.c.trace,
    "times_out_at": _begins_at + _asked.c.timeout * _second,
    "expires_at": sql.clock + _asked.c.expires * _second,
    "created_at": sql.clock,
    "started_at": sa.case((_is_delayed, sa.null()), else_=sql.clock),
}

# A cancelled tree grows no further. The parent learns of the cancel by its own flags.
_above = t.run.alias("above")
_is_cancelled = sql.there_is(
    _above.c.id.in_([_asked.c.parent_run_id, _asked.c.root_run_id]),
    _above.c.cancel_requested_at.is_not(None),
)

_started = (
    upsert(t.run)
    .from_select(list(_new), sa.select(*_new.values()).where(sa.not_(_is_cancelled)))
    .on_conflict_do_nothing(index_elements=["workflow", "key"])
    .returning(t.run.c.id, t.run.c.workflow, t.run.c.created_at)
    .cte("started")
)

_token = {
    "id": _asked.c.token_id,
    "run_id": _started.c.id,
    "node": _asked.c.first_node,
    "unit": _asked.c.first_unit,
    "position": _asked.c.first_position,
    "queue": _asked.c.queue,
    "priority": _asked.c.token_priority,
    "time_limit": _asked.c.time_limit,
    "fence": _asked.c.fence,
    "wake_at": sql.later("delay"),
}

_placed = (
    sa.insert(t.token)
    .from_select(
        list(_token),
        sa.select(*_token.values()).join_from(_started, _asked, _asked.c.id == _started.c.id),
    )
    .returning(*HINTED_BY)
    .cte("placed")
)

_hinted = insert_hints(
    sa.select(*hint_of(_placed, _started.c.workflow)).join_from(
        _placed, _started, _started.c.id == _placed.c.run_id
    )
).cte("hinted")

_START = Statement(sa.select(_started.c.id).add_cte(_hinted))


def start(connection: Connection, runs: Sequence[NewRun], delay: float) -> set[UUID]:
    """Write runs, their tokens and their first hints in one statement; return the ids of new runs.

    Leaves out a run whose workflow and key exist already, and a child whose parent or root has been
    cancelled. Waits for a transaction that has written the same key and is not committed.
    """
    rows = [_row(run) for run in runs]
    later = timedelta(seconds=delay) if delay > 0 else None
    parameters = {"runs": "[" + ",".join(rows) + "]", "delay": later}
    return {row["id"] for row in connection.rows(_START, parameters)}


def _row(run: NewRun) -> str:
    """The run as JSON text; its input and trace are JSON text already, and not parsed again."""
    fields: dict[str, Any] = {
        "id": str(run.id),
        "token_id": str(run.token_id),
        "fence": str(run.fence),
        "workflow": run.workflow,
        "version": run.version,
        "first_node": run.first_node,
        "first_unit": run.first_unit,
        "first_position": run.first_position,
        "queue": run.queue,
        "time_limit": run.time_limit,
        "key": run.key,
        "priority": run.priority,
        "token_priority": run.token_priority,
        "tags": run.tags,
    }
    if run.timeout is not None or run.expires is not None:
        fields |= {"timeout": run.timeout, "expires": run.expires}
    if run.parent is not None:
        fields |= {
            "parent_token": str(run.parent.token_id),
            "parent_run_id": str(run.parent.run_id),
            "root_run_id": str(run.parent.root_run_id),
            "depth": run.parent.depth + 1,
        }
    if run.forked_from is not None:
        fields["forked_from"] = str(run.forked_from)
    trace = f',"trace":{run.trace}' if run.trace else ""
    return f'{json.dumps(fields)[:-1]}{trace},"input":{run.input}}}'


_WITH_KEY = Statement(
    sa.select(t.run.c.id).where(
        t.run.c.workflow == sql.text("workflow"), t.run.c.key == sql.text("key")
    )
)


def with_key(connection: Connection, workflow: str, key: str) -> UUID | None:
    """The run of the workflow that has this key."""
    row = one(connection, _WITH_KEY, {"workflow": workflow, "key": key})
    return row["id"] if row else None


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """The run that has a key. `input` is JSON text."""

    id: UUID
    status: Status
    input: str


_HOLDER = Statement(
    sa.select(t.run.c.id, STATUS, sql.json_text(t.run.c.input)).where(
        t.run.c.workflow == sql.text("workflow"), t.run.c.key == sql.text("key")
    )
)


def holder_of(connection: Connection, workflow: str, key: str) -> KeyHolder | None:
    """Return the run of the workflow that has this key.

    A statement of its own: the statement that met the conflict cannot see the row it conflicted
    with.
    """
    row = one(connection, _HOLDER, {"workflow": workflow, "key": key})
    return KeyHolder(row["id"], Status(row["status"]), row["input"]) if row else None


_FREE_KEY = Statement(
    sa.update(t.run)
    .where(
        t.run.c.id == sql.uuid("run_id"),
        t.run.c.key == sql.text("key"),
        t.run.c.finished_at.is_not(None) == sql.boolean("has_ended"),
    )
    .values(key=sa.null())
    .returning(t.run.c.id)
)


def free_key(connection: Connection, run_id: UUID, key: str, *, has_ended: bool) -> bool:
    """Take the key from a run that has ended, or has not; return False if that is not so any more.

    Waits for a transaction that takes it, too. The run's row stays locked.
    """
    parameters = {"run_id": run_id, "key": key, "has_ended": has_ended}
    return one(connection, _FREE_KEY, parameters) is not None


_WAIT_FOR_SCHEDULE = Statement(
    sa.select(
        sa.func.pg_advisory_xact_lock(
            sa.func.hashtextextended(
                sa.func.concat(sql.text("workflow"), sql.word(" "), sql.text("schedule")),
                sa.literal_column("0"),
            )
        ).label("locked")
    )
)


def wait_for_schedule(connection: Connection, workflow: str, schedule: str) -> None:
    """Lock the schedule until the transaction ends: no other starts a run of it that must be alone.

    The next statement sees what the transaction before has committed.
    """
    connection.rows(_WAIT_FOR_SCHEDULE, {"workflow": workflow, "schedule": schedule})


_IS_SCHEDULED = Statement(
    sa.select(t.run.c.id)
    .where(
        t.run.c.workflow == sql.text("workflow"),
        t.run_schedule == sql.text("schedule"),
        t.run.c.finished_at.is_(None),
    )
    .limit(sa.literal_column("1"))
)


def is_scheduled(connection: Connection, workflow: str, schedule: str) -> bool:
    """Return True if a run of this schedule has not ended."""
    parameters = {"workflow": workflow, "schedule": schedule}
    return one(connection, _IS_SCHEDULED, parameters) is not None


_BEGIN = Statement(
    sa.update(t.run)
    .where(
        t.run.c.id == sql.uuid("run_id"),
        t.run.c.status == sa.literal_column(f"'{Status.PENDING}'"),
    )
    .values(
        status=sa.literal_column(f"'{Status.RUNNING}'"),
        started_at=sql.clock,
        updated_at=sql.clock,
    )
)


def begin(connection: Connection, run_id: UUID) -> None:
    """Mark a delayed run as running: it has been claimed for the first time."""
    connection.rows(_BEGIN, {"run_id": run_id})

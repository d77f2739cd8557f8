"""Messages to publish: now, or at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one

ADVANCE = "durable.advance"
COMPENSATE = "durable.compensate"


HARD_LIMIT_AFTER = 5.0
"""Seconds a unit has, after its time limit, to clean up before its process is killed."""

HINT_COLUMNS = ("run_id", "token_id", "fence", "task", "args", "options", "available_at")


def hint_of(token: Any, workflow: sa.ColumnElement[Any]) -> tuple[sa.ColumnElement[Any], ...]:
    """The row that says "look at this token", in the order of `HINT_COLUMNS`.

    It is due when the token is. `token` has the columns of `durable_token`; in logs and Flower the
    message is called by its workflow and unit.
    """
    name = sa.func.concat(workflow, sa.literal_column("'.'"), token.c.unit)
    return (
        token.c.run_id,
        token.c.id,
        token.c.fence,
        sa.case(
            (token.c.rollback.is_(None), sa.literal_column(f"'{ADVANCE}'")),
            else_=sa.literal_column(f"'{COMPENSATE}'"),
        ),
        sa.func.json_build_array(token.c.id),
        options_of(token, name),
        sa.func.greatest(token.c.wake_at, sql.clock),
    )


def options_of(token: Any, name: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """How the message of `token` is sent: where to, and how long what it starts may take."""
    fields = {
        "queue": token.c.queue,
        "priority": token.c.priority,
        "soft_time_limit": token.c.time_limit,
        "time_limit": token.c.time_limit + sa.literal_column(str(HARD_LIMIT_AFTER)),
        "shadow": name,
    }
    pairs = [part for key, value in fields.items() for part in (sql.word(key), value)]
    return sa.func.json_strip_nulls(sa.func.json_build_object(*pairs))


def insert_hints(rows: sa.Select[Any]) -> Any:
    """INSERT of the hints that `rows` selects, made with `hint_of`."""
    return sa.insert(t.outbox).from_select(list(HINT_COLUMNS), rows)


def put_hints(tokens: Any, *, at: sa.ColumnElement[Any] | None = None) -> Any:
    """INSERT of a hint for every row of `tokens`, due when the token is, or `at` a time."""
    columns = list(hint_of(tokens, t.run.c.workflow))
    if at is not None:
        columns[-1] = at
    source = sa.select(*columns).join_from(tokens, t.run, t.run.c.id == tokens.c.run_id)
    return insert_hints(source)


def clear_timers(tokens: Any) -> Any:
    """DELETE of the hints that the rows of `tokens` have no use for any more: those for later.

    What is due is the relays'; a row that one has in hand is not waited for.
    """
    unneeded = (
        sa.select(t.outbox.c.id)
        .join_from(t.outbox, tokens, tokens.c.id == t.outbox.c.token_id)
        .where(t.outbox.c.available_at > sql.clock)
        .with_for_update(skip_locked=True, of=t.outbox)
    )
    return sa.delete(t.outbox).where(t.outbox.c.id.in_(unneeded))


@dataclass(frozen=True, slots=True)
class Message:
    """One row of the outbox that is due."""

    id: int
    task: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]
    tries: int

    @property
    def queue(self) -> str | None:
        """The queue it is for; None where the app's routes say."""
        return self.options.get("queue")


HANG_TIMEOUT = "30s"
"""How long a relay's transaction may wait for the broker before Postgres ends it."""

_bounded = sa.select(
    sa.func.set_config(
        sa.literal_column("'idle_in_transaction_session_timeout'"),
        sa.literal_column(f"'{HANG_TIMEOUT}'"),
        sa.true(),
    ).label("value")
).cte("bounded")

_queue = sa.func.coalesce(t.outbox.c.options["queue"].as_string(), sql.word(""))
_is_open = sa.not_(sa.cast(sql.text("paused"), JSONB).has_key(_queue))

_DUE = Statement(
    sa.select(
        t.outbox.c.id,
        t.outbox.c.task,
        sql.json_text(t.outbox.c.args),
        sql.json_text(t.outbox.c.kwargs),
        sql.json_text(t.outbox.c.options),
        t.outbox.c.tries,
    )
    .where(
        t.outbox.c.available_at <= sa.func.now(),
        _is_open,
        sa.select(_bounded.c.value).scalar_subquery() == sa.literal_column(f"'{HANG_TIMEOUT}'"),
    )
    .order_by(t.outbox.c.available_at, t.outbox.c.id)
    .limit(sql.integer("batch"))
    .with_for_update(skip_locked=True)
)


def take_due(connection: Connection, batch: int, paused: Sequence[str] = ()) -> Sequence[Message]:
    """Lock up to `batch` due rows that no other relay has in hand, oldest first.

    Those for the queues that are `paused` stay where they are.

    The caller's transaction is bounded from here on: see `HANG_TIMEOUT`.

    No position is remembered: a transaction that commits late carries an old time.
    """
    return [
        Message(
            id=row["id"],
            task=row["task"],
            args=json.loads(row["args"]),
            kwargs=json.loads(row["kwargs"]),
            options=json.loads(row["options"]),
            tries=row["tries"],
        )
        for row in connection.rows(_DUE, {"batch": batch, "paused": json.dumps(paused)})
    ]


_ids = sa.cast(sql.text("ids"), ARRAY(sa.BigInteger))

_DELETE = Statement(sa.delete(t.outbox).where(t.outbox.c.id == sa.any_(_ids)))


def delete(connection: Connection, ids: Sequence[int]) -> None:
    """Remove rows that have been published."""
    # An array in its text form: drivers differ in how they take a list.
    connection.rows(_DELETE, {"ids": "{" + ",".join(map(str, ids)) + "}"})


_POSTPONE = Statement(
    sa.update(t.outbox)
    .where(t.outbox.c.id == sql.big("outbox_id"))
    .values(
        tries=t.outbox.c.tries + 1,
        last_error=sql.text("last_error"),
        available_at=sql.clock + sql.interval("delay"),
    )
)


def postpone(connection: Connection, id: int, error: str, delay: float) -> None:
    """Note why a row could not be published and look at it again `delay` seconds later."""
    parameters = {"outbox_id": id, "last_error": error, "delay": timedelta(seconds=delay)}
    connection.rows(_POSTPONE, parameters)


_NEXT = Statement(
    sa.select(sql.seconds(t.outbox.c.available_at - sql.clock).label("seconds"))
    .where(_is_open)
    .order_by(t.outbox.c.available_at, t.outbox.c.id)
    .limit(sa.literal_column("1"))
)


def seconds_to_next(connection: Connection, paused: Sequence[str] = ()) -> float | None:
    """How long until the next row is due (negative when one is); None for an empty outbox.

    Rows for the queues that are `paused` do not count.
    """
    row = one(connection, _NEXT, {"paused": json.dumps(paused)})
    return float(row["seconds"]) if row else None

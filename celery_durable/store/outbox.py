"""Parts of statements that put hints into the outbox, or delete them.

A hint is a message to publish at once, or at a time. `due` takes hints out of the outbox.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from celery_durable.store import sql
from celery_durable.store import tables as t

ADVANCE = "durable.advance"
COMPENSATE = "durable.compensate"


HARD_LIMIT_AFTER = 5.0
"""Seconds that a unit has to clean up, after its time limit, before its process is killed."""

HINT_COLUMNS = (
    "run_id", "token_id", "fence", "task", "args", "options", "queue", "priority",
    "single", "available_at"
)  # fmt: skip


HINTED_BY: tuple[sa.Column[Any], ...] = tuple(
    t.token.c[name]
    for name in (
        *("id", "run_id", "unit", "rollback", "wake_at", "crashes"),
        *("queue", "priority", "time_limit", "single", "fence"),
    )
)
"""The columns of a token that its hint is made of: what a statement returns that puts one.

Not all columns: psycopg parses a statement of more than 4096 bytes each time it is executed
(`MAX_CACHED_STATEMENT_LENGTH` in psycopg/_queries.py).
"""


def hint_of(token: Any, workflow: sa.ColumnElement[Any]) -> tuple[sa.ColumnElement[Any], ...]:
    """The row that tells a worker to look at `token`, in the order of `HINT_COLUMNS`.

    It is due when the token is: when that wakes, or at once, which is NULL. `token` has the columns
    of `durable_token`. Logs and Flower show the message by its workflow and unit.
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
        token.c.queue,
        priority_of(token),
        is_single(token),
        sql.ahead(token.c.wake_at),
    )


def priority_of(token: Any) -> sa.ColumnElement[Any]:
    """The priority of the token's message; to every broker none is the same as 0."""
    return sa.func.coalesce(token.c.priority, sa.literal_column("0"))


def is_single(token: Any) -> sa.ColumnElement[bool]:
    """True if the token has a message of its own.

    A time limit holds for a message, and a unit that may have killed its process must not be beside
    others.
    """
    return sa.or_(
        token.c.single, token.c.crashes > sa.literal_column("0"), token.c.time_limit.is_not(None)
    )


def options_of(token: Any, name: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The options with which the message of `token` is sent."""
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


LOOK_AT: Any = sql.clock + sa.literal_column(f"interval '{t.LOOK_AFTER} seconds'")
"""When recovery looks whether a hint that is put now was lost."""

AT_ONCE: sa.ColumnElement[Any] = sa.null()


def put_hints(tokens: Any, *, at: sa.ColumnElement[Any] | None = None) -> Any:
    """INSERT of a hint for each row of `tokens`, due when the token is, or `at` a time."""
    columns = list(hint_of(tokens, t.run.c.workflow))
    if at is not None:
        columns[-1] = at
    source = sa.select(*columns).join_from(tokens, t.run, t.run.c.id == tokens.c.run_id)
    return insert_hints(source)


def clear_timers(tokens: Any) -> Any:
    """DELETE of hints for later, for `tokens` that no longer need them."""
    return clear_hints(tokens, t.outbox.c.available_at > sql.clock)


def clear_hints(tokens: Any, *which: sa.ColumnElement[bool]) -> Any:
    """DELETE of the hints for `tokens`, or of `which` of them.

    Does not wait for a row that a relay has locked: it is just being published.
    """
    unneeded = (
        sa.select(t.outbox.c.id)
        .join_from(t.outbox, tokens, tokens.c.id == t.outbox.c.token_id)
        .where(*which)
        .with_for_update(skip_locked=True, of=t.outbox)
    )
    return sa.delete(t.outbox).where(t.outbox.c.id.in_(unneeded))


IS_AT_ONCE = sa.or_(t.outbox.c.available_at.is_(None), t.outbox.c.tries > sa.literal_column("0"))
"""True if the row is to be sent at once, or was, and the broker refused it."""


def replace_hints(tokens: Any, name: str) -> list[Any]:
    """INSERT of a hint for each row of `tokens`, due at once, and DELETE of those that were."""
    return [
        clear_hints(tokens, IS_AT_ONCE).cte(f"{name}_before"),
        put_hints(tokens, at=AT_ONCE).cte(name),
    ]

"""Parts of statements that put messages into the outbox, or delete them; and ordinary tasks.

A hint is a message to publish at once, or at a time; so is an ordinary task, which has no token.
`due` takes them out of the outbox.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from celery_durable.core.message import TaskMessage
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Parameters, Statement

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


_sent: Any = (
    sa.func.json_to_recordset(sql.json("sent"))
    .table_valued(
        sa.column("n", sa.Integer),
        sa.column("task", sa.Text),
        sa.column("args", sa.JSON),
        sa.column("kwargs", sa.JSON),
        sa.column("options", sa.JSON),
        sa.column("queue", sa.Text),
        sa.column("priority", sa.SmallInteger),
        sa.column("delay", sa.Double),
        name="sent",
    )
    .render_derived(name="sent", with_types=True)
)
"""The document of `tasks_parameters`: one parameter, however many tasks."""


def tasks_sent(held: Any | None = None) -> Any:
    """INSERT of ordinary tasks (`core.message`), in their order; if there is a row in `held`."""
    seconds = _sent.c.delay * sa.literal_column("interval '1 second'")
    row = {
        "task": _sent.c.task,
        "args": _sent.c.args,
        "kwargs": _sent.c.kwargs,
        "options": _sent.c.options,
        "queue": _sent.c.queue,
        "priority": _sent.c.priority,
        "available_at": sql.clock + seconds,
    }
    source: Any = _sent
    if held is not None:
        row["run_id"] = held.c.run_id
        source = sa.join(held, _sent, sa.true())
    rows = sa.select(*row.values()).select_from(source).order_by(_sent.c.n)
    return sa.insert(t.outbox).from_select(list(row), rows)


def tasks_parameters(messages: Sequence[TaskMessage]) -> Parameters:
    """The parameters of `tasks_sent`; what is JSON text already is not parsed again."""
    rows = [
        f'{{"n":{n},"task":{json.dumps(one.task)},"args":{one.args},"kwargs":{one.kwargs}'
        f',"options":{one.options},"queue":{json.dumps(one.queue)},"priority":{one.priority}'
        f',"delay":{json.dumps(one.delay)}}}'
        for n, one in enumerate(messages)
    ]
    return {"sent": "[" + ",".join(rows) + "]"}


_PUT_TASKS = Statement(tasks_sent())


def put_tasks(connection: Connection, messages: Sequence[TaskMessage]) -> None:
    """Put ordinary tasks into the outbox, in their order."""
    connection.rows(_PUT_TASKS, tasks_parameters(messages))


LOOK_AT: Any = sql.clock + sa.literal_column(f"interval '{t.LOOK_AFTER} seconds'")
"""When recovery looks whether a hint that is put now was lost."""

AT_ONCE: sa.ColumnElement[Any] = sa.null()


def put_hints(tokens: Any, *, at: sa.ColumnElement[Any] | None = None, single: bool = False) -> Any:
    """INSERT of a hint for each row of `tokens`, due when the token is, or `at` a time.

    `single`: each is sent in a message of its own.
    """
    columns = list(hint_of(tokens, t.run.c.workflow))
    if single:
        columns[HINT_COLUMNS.index("single")] = sa.true()
    if at is not None:
        columns[-1] = at
    source = sa.select(*columns).join_from(tokens, t.run, t.run.c.id == tokens.c.run_id)
    return insert_hints(source)


def put_hints_of_many(tokens: Any) -> Any:
    """`put_hints`, due at once, for any number of tokens: it looks the run of each up."""
    workflow = (
        sa.select(t.run.c.workflow)
        .where(t.run.c.id == tokens.c.run_id)
        .correlate(tokens)
        .offset(sa.literal_column("0"))
        .lateral("of_run")
    )
    columns = [*hint_of(tokens, workflow.c.workflow)[:-1], AT_ONCE]
    return insert_hints(sa.select(*columns).join_from(tokens, workflow, sa.true()))


def clear_timers(tokens: Any) -> Any:
    """DELETE of hints for later, for `tokens` that no longer need them."""
    return clear_hints(tokens, t.outbox.c.available_at > sql.clock)


def clear_hints(tokens: Any, *which: sa.ColumnElement[bool]) -> Any:
    """DELETE of the hints for `tokens`, or of `which` of them.

    Does not wait for a row that a relay has locked: it is just being published.
    """
    # Looked up token by token, and deleted by an array: what Postgres knows of the outbox, which is
    # nearly always empty, would have it read all of it for each token.
    unneeded = (
        sa.select(t.outbox.c.id)
        .where(t.outbox.c.token_id == tokens.c.id, *which)
        .correlate(tokens)
        .offset(sa.literal_column("0"))
        .with_for_update(skip_locked=True, of=t.outbox)
        .lateral("unneeded")
    )
    found = sa.select(unneeded.c.id).join_from(tokens, unneeded, sa.true())
    return sa.delete(t.outbox).where(sql.any_of(t.outbox.c.id, found))


IS_AT_ONCE = sa.or_(t.outbox.c.available_at.is_(None), t.outbox.c.tries > sa.literal_column("0"))
"""True if the row is to be sent at once, or was, and the broker refused it."""


def replace_hints(tokens: Any, name: str) -> list[Any]:
    """INSERT of a hint for each row of `tokens`, due at once, and DELETE of those that were."""
    return [
        clear_hints(tokens, IS_AT_ONCE).cte(f"{name}_before"),
        put_hints(tokens, at=AT_ONCE).cte(name),
    ]

"""Takes messages out of the outbox, in the place of a relay and a broker."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from kombu.serialization import loads

from celery_durable.ordinary.message import MESSAGE
from celery_durable.store import codec, sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement

EMBEDDED = {"link": "callbacks", "link_error": "errbacks", "chain": "chain"}
"""Options of a call, and what a message has of them."""

HEADERS = ("expires", "shadow")

_is_due = sa.or_(t.outbox.c.available_at.is_(None), t.outbox.c.available_at <= sql.clock)


@dataclass(frozen=True, slots=True)
class SentTask:
    """An ordinary task that a run has sent: a call of `task`, as Celery would send it."""

    task: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]


def _taking(is_hint: sa.ColumnElement[bool], *columns: sa.ColumnElement[Any]) -> Statement:
    due = (
        sa.select(t.outbox.c.id)
        .where(is_hint, _is_due)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    taken = (
        sa.delete(t.outbox).where(t.outbox.c.id.in_(due)).returning(t.outbox.c.id, *columns)
    ).cte("taken")
    return Statement(sa.select(taken).order_by(taken.c.id))


_is_task = t.outbox.c.token_id.is_(None)
_TAKE_HINTS = _taking(sa.not_(_is_task), sql.json_text(t.outbox.c.args))
_TASK = (
    t.outbox.c.task,
    sql.json_text(t.outbox.c.args),
    sql.json_text(t.outbox.c.kwargs),
    sql.json_text(t.outbox.c.options),
)
_TAKE_TASKS = _taking(_is_task, *_TASK)
_READ_TASKS = Statement(sa.select(*_TASK).where(_is_task).order_by(t.outbox.c.id))


def take_hints(connection: Connection) -> Sequence[UUID]:
    """Take the hints that are due; return their tokens, the oldest hint first.

    A hint names several tokens where the items of a map share a message.
    """
    return [
        UUID(token) for row in connection.rows(_TAKE_HINTS) for token in json.loads(row["args"])
    ]


def take_tasks(connection: Connection) -> Sequence[SentTask]:
    """Take the ordinary tasks that are due, the oldest first."""
    return _tasks(connection, _TAKE_TASKS)


def read_tasks(connection: Connection) -> Sequence[SentTask]:
    """Return the ordinary tasks in the outbox, the oldest first."""
    return _tasks(connection, _READ_TASKS)


def _tasks(connection: Connection, statement: Statement) -> Sequence[SentTask]:
    return [
        _sent(row["task"], *(codec.loads(row[name]) for name in ("args", "kwargs", "options")))
        for row in connection.rows(statement)
    ]


def _sent(task: str, args: Any, kwargs: Any, options: dict[str, Any]) -> SentTask:
    """Return a call; of a message as Celery has made it, the call that it was made of."""
    message: Any = options.pop(MESSAGE, None)
    if message is None:
        return SentTask(task, args, kwargs, options)
    embedded: Any
    if "body" in message:
        accept = [message["content_type"]]
        body = b64decode(message["body"])
        args, kwargs, embedded = loads(
            body, message["content_type"], message["content_encoding"], accept=accept
        )
    else:
        embedded = json.loads(message["embed"])
    called = {name: embedded[of] for name, of in EMBEDDED.items() if embedded.get(of)}
    headers = {name: message["headers"][name] for name in HEADERS if message["headers"].get(name)}
    priority = {"priority": message["priority"]} if message.get("priority") else {}
    return SentTask(task, args, kwargs, options | priority | headers | called)

"""Waits for a person: which there are, and what became of one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.status import Status
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement, one
from celery_durable.store.read.position import STATUS


@dataclass(frozen=True, slots=True)
class AskedWait:
    """A token that waits for a person; `until` is None where it waits for ever.

    `assignees` are those who may answer, any operator if there are none. `is_answered`: an answer
    has come, and no worker has taken it yet.
    """

    token_id: UUID
    run_id: UUID
    workflow: str
    version: int
    key: str | None
    node: str
    unit: str
    signal: str
    since: datetime
    until: datetime | None
    assignees: tuple[str, ...]
    is_answered: bool

    def may_answer(self, name: str) -> bool:
        """True if this person may answer."""
        return not self.assignees or name in self.assignees


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person has to know who answers a wait: how many answers the run has taken before.

    `snapshot`, JSON text, is what a step has kept that has suspended; None of any other wait.
    `input`, JSON text, is the run's.
    """

    wait: AskedWait
    consumed: int
    snapshot: str | None
    input: str


_has_come = sql.there_is(
    t.inbox.c.run_id == t.token.c.run_id,
    t.inbox.c.kind == sql.word("signal"),
    t.inbox.c.name == t.token.c.awaits,
    t.inbox.c.consumed_by.is_(None),
)

_asked = (
    sa.select(
        t.token.c.id.label("token_id"),
        t.token.c.run_id,
        t.run.c.workflow,
        t.run.c.version,
        t.run.c.key,
        t.token.c.node,
        t.token.c.unit,
        t.token.c.awaits.label("signal"),
        t.token.c.waiting_since.label("since"),
        t.token.c.wake_at.label("until"),
        sql.json_text(t.token.c.assignees),
        _has_come.label("is_answered"),
    )
    .join_from(t.token, t.run, t.run.c.id == t.token.c.run_id)
    .where(t.token.c.assignees.is_not(None))
)

_position = (t.token.c.waiting_since, t.token.c.id)


@lru_cache(maxsize=4)
def _page(*, is_mine: bool, is_later: bool) -> Statement:
    found: Any = _asked
    if is_mine:
        found = found.where(t.token.c.assignees.op("?")(sql.text("name")))
    if is_later:
        found = found.where(sa.tuple_(*_position) > sa.tuple_(sql.time("since"), sql.uuid("after")))
    return Statement(found.order_by(*_position).limit(sql.integer("limit")))


def waits(
    connection: Connection,
    *,
    name: str | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int = 100,
) -> Sequence[AskedWait]:
    """The waits for a person, the oldest first; with `name` those that name this one.

    `after` is when the last wait of the page before began, and its token.
    """
    statement = _page(is_mine=name is not None, is_later=after is not None)
    since, token = after or (None, None)
    parameters = {"name": name, "since": since, "after": token, "limit": limit}
    return [_wait_of(row) for row in connection.rows(statement, parameters)]


_TOKENS = Statement(
    sa.select(t.token.c.unit, t.token.c.id)
    .where(t.token.c.run_id == sql.uuid("run_id"), t.token.c.assignees.is_not(None))
    .order_by(*_position)
    .limit(sql.integer("limit"))
)


def tokens(connection: Connection, run_id: UUID, limit: int) -> Mapping[str, UUID]:
    """The tokens of a run that wait for a person, by their units, the oldest first."""
    rows = connection.rows(_TOKENS, {"run_id": run_id, "limit": limit})
    return {row["unit"]: row["id"] for row in rows}


_FOR_SIGNAL = Statement(
    _asked.where(t.token.c.run_id == sql.uuid("run_id"), t.token.c.awaits == sql.text("signal"))
)


def waits_for(connection: Connection, run_id: UUID, signal: str) -> Sequence[AskedWait]:
    """The waits of a run for a person that this signal answers."""
    rows = connection.rows(_FOR_SIGNAL, {"run_id": run_id, "signal": signal})
    return [_wait_of(row) for row in rows]


_taken = (
    sa.select(sa.func.count())
    .where(
        t.inbox.c.run_id == t.token.c.run_id,
        t.inbox.c.kind == sql.word("signal"),
        t.inbox.c.name == t.token.c.awaits,
        t.inbox.c.refused.is_(None),
        t.inbox.c.consumed_by.is_not(None),
    )
    .scalar_subquery()
)

_ONE = Statement(
    _asked.add_columns(
        _taken.label("consumed"), sql.json_text(t.token.c.snapshot), sql.json_text(t.run.c.input)
    ).where(t.token.c.id == sql.uuid("token_id"))
)


def asked(connection: Connection, token_id: UUID) -> Asked | None:
    """What the token waits for; None if it waits for no person now."""
    row = one(connection, _ONE, {"token_id": token_id})
    if row is None:
        return None
    own = {name: row[name] for name in ("consumed", "snapshot", "input")}
    return Asked(_wait_of({name: row[name] for name in row if name not in own}), **own)


def _wait_of(row: Row) -> AskedWait:
    return AskedWait(**{**row, "assignees": tuple(json.loads(row["assignees"]))})


@dataclass(frozen=True, slots=True)
class Standing:
    """What became of a wait for a signal, at the time `at`.

    `consumed` and `arrived` count the signals of the name. `taken_at` is when the one with the key
    of the wait came, `answered_at` when somebody answered last, `actor` is who. `has_ended`: the
    unit that waited is in the journal; `timed_out_at` since when, if nobody answered in time, and
    it failed. `node` is what the stored plan says of the node that waits
    for the signal; it is empty for a step that has suspended.
    """

    at: datetime
    workflow: str
    version: int
    key: str | None
    status: Status
    finished_at: datetime | None
    consumed: int
    arrived: int
    taken_at: datetime | None
    answered_at: datetime | None
    actor: str | None
    has_ended: bool
    timed_out_at: datetime | None
    node: Mapping[str, Any]


def _of_signal(what: Any, *conditions: Any) -> Any:
    """A value of the run's signals of the name; those that were refused do not count."""
    return (
        sa.select(what)
        .where(
            t.inbox.c.run_id == t.run.c.id,
            t.inbox.c.kind == sql.word("signal"),
            t.inbox.c.name == sql.text("signal"),
            t.inbox.c.refused.is_(None),
            *conditions,
        )
        .scalar_subquery()
    )


_answer = (
    sa.select(t.action.c.at, t.action.c.actor)
    .where(
        t.action.c.run_id == t.run.c.id,
        t.action.c.name == sql.word("resume"),
        t.action.c.what == sql.text("signal"),
    )
    .order_by(t.action.c.id.desc())
    .limit(sa.literal_column("1"))
    .lateral("answer")
)

_of_unit = (t.journal.c.run_id == t.run.c.id, t.journal.c.unit == sql.text("unit"))

_timed_out_at = (
    sa.select(t.journal.c.finished_at)
    .where(*_of_unit, t.journal.c.error.op("->>")(sql.word("type")) == sql.word("SignalTimeout"))
    .scalar_subquery()
)

_STANDING = Statement(
    sa.select(
        sql.clock.label("at"),
        t.run.c.workflow,
        t.run.c.version,
        t.run.c.key,
        STATUS,
        t.run.c.finished_at,
        _of_signal(sa.func.count(), t.inbox.c.consumed_by.is_not(None)).label("consumed"),
        _of_signal(sa.func.count()).label("arrived"),
        _of_signal(
            sa.func.max(t.inbox.c.created_at), t.inbox.c.key == sql.text("signal_key")
        ).label("taken_at"),
        _answer.c.at.label("answered_at"),
        _answer.c.actor,
        sql.there_is(*_of_unit).label("has_ended"),
        _timed_out_at.label("timed_out_at"),
        sql.json_text(t.definition.c.plan),
    )
    .select_from(t.run)
    .join(_answer, sa.true(), isouter=True)
    .join(
        t.definition,
        sa.and_(
            t.definition.c.workflow == t.run.c.workflow, t.definition.c.version == t.run.c.version
        ),
        isouter=True,
    )
    .where(t.run.c.id == sql.uuid("run_id"))
)


def standing(
    connection: Connection, run_id: UUID, signal: str, key: str, unit: str | None
) -> Standing | None:
    """What became of the wait of `unit` for a signal, which one with `key` answers.

    None if there is no such run.
    """
    parameters = {"run_id": run_id, "signal": signal, "signal_key": key, "unit": unit}
    row = one(connection, _STANDING, parameters)
    if row is None:
        return None
    facts = {name: value for name, value in row.items() if name != "plan"}
    node = _node(row["plan"], signal)
    return Standing(**{**facts, "status": Status(row["status"]), "node": node})


def _node(plan: str | None, signal: str) -> Mapping[str, Any]:
    nodes = json.loads(plan)["nodes"] if plan else []
    return next((node for node in nodes if node.get("signal") == signal), {})

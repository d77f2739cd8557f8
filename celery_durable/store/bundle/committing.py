"""Commits plain decisions on several tokens in one statement.

A plain decision is that of a unit that has completed and leaves no more behind than its record: its
token moves to the next unit, or leaves as a branch, or ends with its run. All others are committed
alone (`commit.statement`).

    moves   tokens of different runs; each keeps its claim, or releases it with a hint
    ends    tokens of different runs
    leaves  branches of one parent, which counts them once: their locks, then the parent's
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from json.encoder import encode_basestring_ascii as quoted
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.claim import Claim
from celery_durable.core.decision import Decision, End, JournalRecord, Leave, Move, Outcome
from celery_durable.core.pause import Pause
from celery_durable.core.status import Status
from celery_durable.core.token import Token
from celery_durable.core.values import value
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.bundle.given import (
    IS_HELD,
    RECORD,
    STANDING,
    ctid,
    given,
    held_row,
    locked,
)
from celery_durable.store.commit import fork
from celery_durable.store.commit.parameters import Routed, is_plain, is_untouched
from celery_durable.store.commit.statement import signals_deleted
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.outbox import HINTED_BY, hint_of, insert_hints
from celery_durable.store.pauses import IS_ANYTHING_PAUSED
from celery_durable.store.tokens import IS_DRAINING, RELEASED


@value(frozen=True, slots=True)
class Plain:
    """A plain decision, and where the token's message goes if its claim is released."""

    claim: Claim
    decision: Decision
    routed: Routed | None

    @property
    def size(self) -> int:
        """Characters of the result's text."""
        return sum(len(record.result or "") for record in self.decision.records)

    @property
    def kind(self) -> tuple[type, bool, UUID | None]:
        """Equal for decisions that one statement commits."""
        then = self.decision.then
        return type(then), self.routed is not None, self.decision.token.parent


def may_be_bundled(claim: Claim, decision: Decision) -> bool:
    """Return True if the decision is plain."""
    then, records, run = decision.then, decision.records, decision.run
    if not _is_plain_token(decision.token) or not all(map(_is_plain_record, records)):
        return False
    if (decision.starts, decision.consumes, decision.sends) != (None, None, ()):
        return False
    match then:
        case Move():
            is_at_once = then.delay <= 0 and run is None and len(records) == 1
            return is_at_once and is_plain(decision.token) and is_plain(then.token)
        case Leave():
            return not then.failed and len(records) == 1
        case End() if claim.run.parent_token is None and run is not None:
            # json_to_recordset would make no result of one that is null.
            return run.status is Status.COMPLETED and run.result != "null" and len(records) <= 1
        case _:
            return False


def _is_plain_token(token: Token) -> bool:
    """Return True if the token is at a unit that nothing has happened to before."""
    return is_untouched(token) and token.wait is None


def _is_plain_record(record: JournalRecord) -> bool:
    """Return True if the record is of a completed unit, and none of a child or a gathering."""
    return record.outcome is Outcome.COMPLETED and record.gathers is None and record.child is None


@value(frozen=True, slots=True)
class Written:
    """A decision that is written: when, whether the worker stops, whether a command has come.

    `pauses` are those that may hold the next unit, where anything is paused; whoever goes straight
    on reads them after the commit.
    """

    at: datetime
    draining: bool
    has_commands: bool
    is_anything_paused: bool = False
    pauses: tuple[Pause, ...] = ()


_ANSWER = (
    sql.clock.label("now"),
    IS_DRAINING.label("draining"),
)


def _held(*names: str) -> Any:
    """The tokens of the document that are as it says, and locked; `names` are what else it says."""
    is_calm = (held_row.c.flags == sa.literal_column("0"), held_row.c.wait.is_(None))
    return locked(given(*STANDING, *RECORD, *names), *IS_HELD, *is_calm)


def _recorded(done: Any, held: Any) -> Any:
    """INSERT of the records of the tokens in `done`, in the order in which they completed."""
    columns = {
        "run_id": done.c.run_id,
        "unit": held.c.unit,
        "node": held.c.node,
        "outcome": sql.word(Outcome.COMPLETED),
        "undoable": held.c.undoable,
        "attempt": held.c.attempt,
        # json_to_recordset makes SQL NULL of JSON null.
        "result": sa.func.coalesce(held.c.result, sa.cast(sql.word("null"), sa.JSON())),
        "worker": sql.uuid("worker"),
        "started_at": held.c.started_at,
    }
    columns |= {name: held.c[name] for name in ("part", "position", "input") if name in held.c}
    rows = (
        sa.select(*columns.values())
        .join_from(done, held, held.c.id == done.c.id)
        .where(held.c.recorded if "recorded" in held.c else sa.true())
        .order_by(held.c.n)
    )
    return sa.insert(t.journal).from_select(list(columns), rows).cte("recorded")


def _moving(*, releases: bool) -> Statement:
    to = ("to_node", "to_unit")
    where = ("workflow", "queue", "priority", "time_limit", "single") if releases else ()
    held = _held(*to, *where)
    values: dict[str, Any] = {
        "node": held.c.to_node,
        "unit": held.c.to_unit,
        "attempt": sa.literal_column("1"),
        "progress": sa.null(),
        "wake_at": sa.null(),
        "since": sql.clock,
    }
    returned: tuple[Any, ...] = (t.token.c.id, t.token.c.run_id)
    if releases:
        values |= RELEASED | {name: held.c[name] for name in where[1:]}
        returned = (*HINTED_BY, held.c.workflow)
    moved = (
        sa.update(t.token)
        .where(ctid == held.c.ctid)
        .values(values)
        .returning(*returned)
        .cte("moved")
    )
    parts = [_recorded(moved, held)]
    if releases:
        hint = sa.select(*hint_of(moved, moved.c.workflow)).select_from(moved)
        parts.append(insert_hints(hint).cte("hinted"))
    has_commands = sql.has_commands(moved.c.run_id).label("has_commands")
    # Who releases a token does not go on with it.
    asked = () if releases else (IS_ANYTHING_PAUSED.label("is_anything_paused"),)
    return Statement(sa.select(moved.c.id, *_ANSWER, has_commands, *asked).add_cte(*parts))


def _ending() -> Statement:
    held = _held("recorded", "run_result")
    ended = (
        sa.delete(t.token)
        .where(ctid == held.c.ctid)
        .returning(t.token.c.id, t.token.c.run_id, held.c.run_result)
        .cte("ended")
    )
    run = (
        sa.update(t.run)
        .where(t.run.c.id == ended.c.run_id)
        .values(
            status=sql.word(Status.COMPLETED),
            result=sa.func.coalesce(ended.c.run_result, t.run.c.result),
            updated_at=sql.clock,
            finished_at=sql.clock,
        )
        .cte("run_ended")
    )
    signals = signals_deleted(ended).cte("emptied")
    answer = sa.select(ended.c.id, *_ANSWER, sa.false().label("has_commands"))
    return Statement(answer.add_cte(_recorded(ended, held), run, signals))


def _leaving() -> Statement:
    held = _held("part", "position", "input")
    left = (
        sa.delete(t.token)
        .where(ctid == held.c.ctid, t.token.c.parent_id == sql.uuid("parent"))
        .returning(*fork.LEFT)
        .cte("left_now")
    )
    parts, puts_hint = fork.leave_together_parts(left)
    answer = sa.select(
        left.c.id, *_ANSWER, sa.false().label("has_commands"), puts_hint.label("puts_hint")
    )
    return Statement(answer.add_cte(_recorded(left, held), *parts))


_MOVE, _MOVE_AND_RELEASE = _moving(releases=False), _moving(releases=True)
_END, _LEAVE = _ending(), _leaving()


@value(frozen=True, slots=True)
class Answer:
    """The decisions that are written, by token; `puts_hint`: a hint was put for some token."""

    written: dict[UUID, Written]
    puts_hint: bool


def commit(connection: Connection, plain: Sequence[Plain]) -> Answer:
    """Write decisions of one `kind`, if their claims still hold and no flag is raised.

    All were claimed with one fence by one worker. What is locked, or not as it was, is left out.
    Raises `AlreadyRecorded`, with nothing written, if the journal has one of the units.
    """
    first = plain[0]
    parameters = {
        "given": "[" + ",".join(_text(one, n) for n, one in enumerate(plain)) + "]",
        "held_fence": first.claim.fence,
        "worker": first.claim.worker,
    }
    releases = first.routed is not None
    match first.decision.then:
        case Move():
            statement = _MOVE_AND_RELEASE if releases else _MOVE
        case Leave(chunk=chunk):
            statement = _LEAVE
            parameters |= {
                "parent": first.decision.token.parent,
                "workflow": first.claim.run.workflow,
                "chunk": chunk,
            }
        case _:
            statement = _END
    rows = connection.rows(statement, parameters)
    written = {
        row["id"]: Written(
            row["now"],
            bool(row["draining"]),
            row["has_commands"],
            row.get("is_anything_paused", False),
        )
        for row in rows
    }
    return Answer(written, releases or any(row.get("puts_hint") for row in rows))


def _text(plain: Plain, n: int) -> str:
    """The decision as JSON text; what is JSON text already is not parsed again."""
    decision = plain.decision
    token, then = decision.token, decision.then
    text = (
        f'{{"id":"{token.id}","unit":{quoted(token.unit)},"attempt":{token.attempt}'
        f',"n":{n},"recorded":{"true" if decision.records else "false"}'
    )
    for record in decision.records:
        text += (
            f',"node":{quoted(record.node)},"started_at":"{record.started_at.isoformat()}"'
            f',"undoable":{"true" if record.undoable else "false"},"result":{record.result}'
        )
        if record.part is not None:
            text += f',"part":{quoted(record.part)}'
        if record.position is not None:
            text += f',"position":{record.position}'
        if record.input is not None:
            text += f',"input":{record.input}'
    if isinstance(then, Move):
        text += f',"to_node":{quoted(then.token.node)},"to_unit":{quoted(then.token.unit)}'
        text += _routed_text(plain)
    if decision.run is not None and decision.run.result is not None:
        text += f',"run_result":{decision.run.result}'
    return text + "}"


def _routed_text(plain: Plain) -> str:
    routed = plain.routed
    if routed is None:
        return ""
    text = f',"workflow":{quoted(plain.claim.run.workflow)},"queue":{quoted(routed.queue)}'
    if routed.priority is not None:
        text += f',"priority":{routed.priority}'
    if routed.time_limit is not None:
        text += f',"time_limit":{routed.time_limit}'
    return text + f',"single":{"true" if routed.single else "false"}'

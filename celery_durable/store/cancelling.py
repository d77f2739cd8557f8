"""Cancelling a tree of runs: statements over many runs at once.

Locks: tokens are locked with SKIP LOCKED, so that nobody is waited for who may be waiting for us;
only the parents of branches that have been locked are waited for, in the order of their ids. Rows
of runs come last. Whoever else locks tokens has those of one run, and waits for no branch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert

from celery_durable.core.decision import JournalRecord
from celery_durable.core.status import Status
from celery_durable.core.token import Flags, ForChild, Token
from celery_durable.errors import ErrorRecord
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement
from celery_durable.store.outbox import (
    AT_ONCE,
    CALLS,
    TO_BE_LOOKED_AT,
    call_once,
    clear_hints,
    put_hints,
)
from celery_durable.store.rows import error_of, error_text, failures_of, failures_text, wait_of

_NONE: Any = sa.literal_column("0")
_wanted = sql.integer("flags")
_is_flagged = t.token.c.flags.op("&")(_wanted) == _wanted
_is_first = t.token.c.parent_id.is_(None)
_goes_forward = t.token.c.rollback.is_(None)

_child = t.run.alias("child")


def _any_of(column: Any, found: sa.Select[Any]) -> sa.ColumnElement[bool]:
    """`column IN (found)` by an index, whatever Postgres thinks of how many there are."""
    return cast("sa.ColumnElement[bool]", column == sa.any_(sa.func.array(found.scalar_subquery())))


_tree = (
    sa.select(t.run.c.id, _NONE.label("depth"))
    .where(t.run.c.id == sql.uuid("run_id"), t.run.c.finished_at.is_(None))
    .cte("tree", recursive=True)
)

# Looked up run by run: the OFFSET keeps Postgres from joining the whole table.
_children = (
    sa.select(_child.c.id)
    .where(_child.c.parent_run_id == _tree.c.id, _child.c.finished_at.is_(None))
    .offset(_NONE)
    .lateral("children")
)

_tree = _tree.union_all(
    sa.select(_children.c.id, _tree.c.depth + sa.literal_column("1")).join_from(
        _tree, _children, sa.true()
    )
)

_locked_firsts = (
    sa.select(t.token.c.id)
    .where(t.token.c.run_id == _tree.c.id, _is_first, _goes_forward, sa.not_(_is_flagged))
    .offset(_NONE)
    .with_for_update(skip_locked=True, of=t.token)
    .lateral("locked_firsts")
)
_unflagged = sa.select(_locked_firsts.c.id).join_from(_tree, _locked_firsts, sa.true())

_raised = (
    sa.update(t.token)
    .where(_any_of(t.token.c.id, _unflagged))
    .values(flags=t.token.c.flags.op("|")(_wanted), look_at=TO_BE_LOOKED_AT)
    .returning(t.token.c.run_id)
    .cte("raised")
)

_is_another_reason = t.run.c.cancel_reason.is_(None) & sql.text("reason").is_not(None)

_marked = (
    sa.update(t.run)
    .where(
        sa.or_(
            t.run.c.id == sql.uuid("run_id"),
            _any_of(t.run.c.id, sa.select(_raised.c.run_id)),
        ),
        t.run.c.finished_at.is_(None),
        sa.or_(t.run.c.cancel_requested_at.is_(None), _is_another_reason),
    )
    .values(
        cancel_requested_at=sa.func.coalesce(t.run.c.cancel_requested_at, sql.clock),
        cancel_reason=sa.func.coalesce(t.run.c.cancel_reason, sql.text("reason")),
    )
    .cte("marked")
)

_mine = t.token.c.run_id == _tree.c.id
_is_raised = _tree.c.id.in_(sa.select(_raised.c.run_id))

_ANNOUNCE = Statement(
    sa.select(
        _tree.c.id,
        _is_raised.label("is_raised"),
        sa.and_(
            sa.not_(_is_raised),
            sql.there_is(_mine, _is_first, _goes_forward, sa.not_(_is_flagged)),
        ).label("is_locked"),
        sql.there_is(
            _mine, _is_first, t.token.c.wait == sql.word("branches"), t.token.c.remaining > _NONE
        ).label("has_branches"),
    )
    .order_by(_tree.c.depth.desc())
    .add_cte(_marked)
)


@dataclass(frozen=True, slots=True)
class Announced:
    """A run of the tree. `is_raised`: its first token had no flags yet; or it `is_locked`.

    `has_branches`: or items of which none is open.
    """

    id: UUID
    is_raised: bool
    is_locked: bool
    has_branches: bool


def announce(
    connection: Connection, run_id: UUID, flags: Flags, reason: str | None
) -> Sequence[Announced]:
    """Raise flags on the first tokens of a tree; its unfinished runs, the lowest first.

    When none is raised and none is locked, all have the flags, and the tree is whole: a child that
    this statement cannot see yet is started by a token that it sees without flags.
    """
    parameters = {"run_id": run_id, "flags": int(flags), "reason": reason}
    return [Announced(**row) for row in connection.rows(_ANNOUNCE, parameters)]


_listed = sa.func.json_array_elements_text(sql.json("runs")).table_valued("value")
_runs = sa.select(sa.cast(_listed.c.value, sa.Uuid))
_is_theirs = t.token.c.run_id.in_(_runs)


def _listing(ids: Iterable[UUID]) -> str:
    return json.dumps([str(one) for one in ids])


# Branches that nobody has in hand end at once, however many they are. Those that wait for a child
# stay until it has ended; what is in hand is told by its flags. In step with `core.rollback`: a
# branch that is cancelled while it waits or is ready leaves, and nothing is recorded.
_locked = (
    sa.select(t.token.c.id, t.token.c.claimed_by, t.token.c.wait)
    .where(_is_theirs, t.token.c.parent_id.is_not(None))
    .order_by(t.token.c.id)
    .with_for_update(skip_locked=True)
    .cte("locked")
)
_idle = sa.select(_locked.c.id).where(
    _locked.c.claimed_by.is_(None),
    sa.or_(_locked.c.wait.is_(None), _locked.c.wait != sql.word("child")),
)
_ended = (
    sa.delete(t.token)
    .where(t.token.c.id.in_(_idle))
    .returning(t.token.c.id, t.token.c.parent_id)
    .cte("ended")
)
_others = (
    sa.update(t.token)
    .where(
        t.token.c.id.in_(sa.select(_locked.c.id).where(_locked.c.id.not_in(_idle))),
        sa.not_(_is_flagged),
    )
    .values(flags=t.token.c.flags.op("|")(_wanted), look_at=TO_BE_LOOKED_AT)
    .cte("others")
)
_END_BRANCHES = Statement(
    sa.select(_ended.c.parent_id.label("token_id"), sa.func.count().label("ended"))
    .group_by(_ended.c.parent_id)
    .add_cte(_others, clear_hints(_ended).cte("cleared"))
)

_counts: Any = (
    sa.func.json_to_recordset(sql.json("counts"))
    .table_valued(sa.column("token_id", sa.Uuid), sa.column("ended", sa.Integer), name="counts")
    .render_derived(with_types=True)
)
_LOCK_PARENTS = Statement(
    sa.select(t.token.c.id)
    .where(
        _is_theirs,
        t.token.c.wait == sql.word("branches"),
        sa.or_(t.token.c.id.in_(sa.select(_counts.c.token_id)), t.token.c.opened < t.token.c.total),
    )
    .order_by(t.token.c.id)
    .with_for_update()
)
_DROP_ITEMS = Statement(
    sa.delete(t.item).where(
        t.item.c.token_id.in_(
            sa.select(t.token.c.id).where(
                _is_theirs,
                t.token.c.wait == sql.word("branches"),
                t.token.c.opened < t.token.c.total,
            )
        )
    )
)
_left_now = sa.func.coalesce(
    sa.select(_counts.c.ended).where(_counts.c.token_id == t.token.c.id).scalar_subquery(), _NONE
)
_COUNT_DOWN = Statement(
    sa.update(t.token)
    .where(
        _is_theirs,
        t.token.c.wait == sql.word("branches"),
        sa.or_(t.token.c.id.in_(sa.select(_counts.c.token_id)), t.token.c.opened < t.token.c.total),
    )
    .values(
        remaining=t.token.c.remaining - _left_now - (t.token.c.total - t.token.c.opened),
        opened=t.token.c.total,
        look_at=TO_BE_LOOKED_AT,
    )
)


_LEFT = Statement(
    sa.select(
        sa.func.count().label("branches"),
        sa.func.coalesce(sa.func.bool_or(sa.not_(_is_flagged)), sa.false()).label("untold"),
    ).where(_is_theirs, t.token.c.parent_id.is_not(None))
)


@dataclass(frozen=True, slots=True)
class Left:
    """The branches that are left; `untold`: one of them was locked, and has no flags yet."""

    branches: int
    untold: bool


def end_branches(connection: Connection, runs: Sequence[UUID], flags: Flags) -> Left:
    """End the idle branches of runs whose cancel has been announced; tell the others.

    One that is locked is left out.
    """
    parameters = {"runs": _listing(runs), "flags": int(flags)}
    rows = connection.rows(_END_BRANCHES, parameters)
    _count_down(connection, runs, {row["token_id"]: row["ended"] for row in rows})
    (left,) = connection.rows(_LEFT, parameters)
    return Left(**left)


def _count_down(connection: Connection, runs: Sequence[UUID], ended: Mapping[UUID, int]) -> None:
    """Let branches go through the gates of their parents, and with them the items that wait."""
    counts = [{"token_id": str(token_id), "ended": n} for token_id, n in ended.items()]
    parameters = {"runs": _listing(runs), "counts": json.dumps(counts)}
    if connection.rows(_LOCK_PARENTS, parameters):
        connection.rows(_DROP_ITEMS, {"runs": parameters["runs"]})
        connection.rows(_COUNT_DOWN, parameters)


@dataclass(frozen=True, slots=True)
class Idle:
    """A cancelled token that nobody has claimed, and that has nothing to wait for any more.

    `child` is how the child has ended that it waited for.
    """

    token: Token
    waiting_since: datetime | None
    now: datetime
    child: tuple[Status, ErrorRecord | None] | None


_cancel: Any = sa.literal_column(str(int(Flags.CANCEL)))
_compensate: Any = sa.literal_column(str(int(Flags.COMPENSATE)))
_waits_for_child = t.token.c.wait == sql.word("child")

# What has to be undone is for a worker.
_has_to_undo = sa.and_(
    t.token.c.flags.op("&")(_compensate) != _NONE,
    sa.or_(
        sa.and_(_waits_for_child, _child.c.status == sql.word(Status.COMPLETED)),
        sa.and_(
            _is_first,
            sql.there_is(t.journal.c.run_id == t.token.c.run_id, t.journal.c.undoable),
        ),
    ),
)

_IDLE = Statement(
    sa.select(
        t.token.c.id,
        t.token.c.run_id,
        t.token.c.node,
        t.token.c.unit,
        t.token.c.attempt,
        t.token.c.flags,
        sql.json_text(t.token.c.failures),
        t.token.c.parent_id,
        t.token.c.part,
        t.token.c.position,
        t.token.c.wait,
        t.token.c.awaits,
        t.token.c.child_run_id,
        t.token.c.remaining,
        t.token.c.failed,
        t.token.c.waiting_since,
        _child.c.status.label("child_status"),
        sql.json_text(_child.c.error, "child_error"),
        _child.c.cancel_reason.label("child_reason"),
        sql.clock.label("now"),
    )
    .join_from(t.token, _child, _child.c.id == t.token.c.child_run_id, isouter=True)
    .where(
        _is_theirs,
        t.token.c.parent_id.is_not(None) == sql.boolean("branches"),
        t.token.c.claimed_by.is_(None),
        _goes_forward,
        t.token.c.flags.op("&")(_cancel) != _NONE,
        sa.or_(
            t.token.c.wait.is_(None),
            t.token.c.wait.in_([sql.word("signal"), sql.word("timer")]),
            sa.and_(t.token.c.wait == sql.word("branches"), t.token.c.remaining == _NONE),
            sa.and_(_waits_for_child, _child.c.finished_at.is_not(None)),
        ),
        sa.not_(sa.func.coalesce(_has_to_undo, sa.false())),
    )
    .limit(sql.integer("limit"))
    .with_for_update(skip_locked=True, of=t.token)
)

MOST = 5000
"""Tokens that one transaction ends."""


def idle(connection: Connection, runs: Sequence[UUID], *, branches: bool) -> Sequence[Idle]:
    """Lock what can end at once of these runs, `MOST` at most: branches, or first tokens."""
    parameters = {"runs": _listing(runs), "branches": branches, "limit": MOST}
    return [_idle_of(row) for row in connection.rows(_IDLE, parameters)]


def _idle_of(row: Row) -> Idle:
    token = Token(
        id=row["id"],
        run_id=row["run_id"],
        node=row["node"],
        unit=row["unit"],
        attempt=row["attempt"],
        flags=Flags(row["flags"]),
        failures=failures_of(row["failures"]),
        parent=row["parent_id"],
        part=row["part"],
        position=row["position"],
        wait=wait_of(row) if row["wait"] else None,
    )
    child = None
    if isinstance(token.wait, ForChild):
        status = Status(row["child_status"])
        error = error_of(row["child_error"])
        if status is Status.CANCELLED and error is None:
            error = ErrorRecord("RunCancelled", row["child_reason"] or "")
        child = (status, error)
    return Idle(token, row["waiting_since"], row["now"], child)


_recordset: Any = (
    sa.func.json_to_recordset(sql.json("records"))
    .table_valued(
        sa.column("run_id", sa.Uuid),
        sa.column("unit", sa.Text),
        sa.column("node", sa.Text),
        sa.column("part", sa.Text),
        sa.column("position", sa.Integer),
        sa.column("outcome", sa.Text),
        sa.column("attempt", sa.Integer),
        sa.column("child_run_id", sa.Uuid),
        sa.column("error", sa.JSON),
        sa.column("failures", sa.JSON),
        sa.column("started_at", sa.DateTime(timezone=True)),
        name="record",
    )
    .render_derived(with_types=True)
)
_RECORD = Statement(
    upsert(t.journal)
    .from_select([*_recordset.c.keys(), "undoable"], sa.select(*_recordset.c, sa.false()))
    .on_conflict_do_nothing(index_elements=["run_id", "unit"])
)


def record(connection: Connection, entries: Sequence[tuple[UUID, JournalRecord]]) -> None:
    """Write entries that no worker has had in hand; nothing of them can be undone."""
    if not entries:
        return
    rows = [
        {
            "run_id": str(run_id),
            "unit": entry.unit,
            "node": entry.node,
            "part": entry.part,
            "position": entry.position,
            "outcome": entry.outcome,
            "attempt": entry.attempt,
            "child_run_id": str(entry.child) if entry.child else None,
            "error": _parsed(error_text(entry.error)),
            "failures": _parsed(failures_text(entry.failures)),
            "started_at": entry.started_at.isoformat(),
        }
        for run_id, entry in entries
    ]
    connection.rows(_RECORD, {"records": json.dumps(rows)})


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)


_listed_tokens = sa.func.json_array_elements_text(sql.json("tokens")).table_valued("value")
_tokens = sa.select(sa.cast(_listed_tokens.c.value, sa.Uuid))
_gone = (
    sa.delete(t.token)
    .where(t.token.c.id.in_(_tokens))
    .returning(t.token.c.id, t.token.c.run_id)
    .cte("gone")
)
_DELETE = Statement(sa.select(_gone.c.id).add_cte(clear_hints(_gone).cte("cleared")))


def leave(connection: Connection, runs: Sequence[UUID], branches: Sequence[Token]) -> None:
    """Let these branches, which are locked, go through their gates."""
    connection.rows(_DELETE, {"tokens": _listing(token.id for token in branches)})
    ended: dict[UUID, int] = {}
    for token in branches:
        assert token.parent is not None
        ended[token.parent] = ended.get(token.parent, 0) + 1
    _count_down(connection, runs, ended)


_finished = (
    sa.update(t.run)
    .where(_any_of(t.run.c.id, sa.select(_gone.c.run_id)))
    .values(status=sql.word(Status.CANCELLED), updated_at=sql.clock, finished_at=sql.clock)
    .returning(t.run.c.id, t.run.c.parent_run_id, t.run.c.parent_token)
    .cte("finished")
)
_emptied = (
    sa.delete(t.inbox)
    .where(
        _any_of(t.inbox.c.run_id, sa.select(_gone.c.run_id)), t.inbox.c.kind == sql.word("signal")
    )
    .cte("emptied")
)
# Who waits within the tree is looked at by whoever cancels it.
_parents = (
    sa.select(t.token)
    .join_from(t.token, _finished, _finished.c.parent_token == t.token.c.id)
    .where(
        _waits_for_child,
        t.token.c.child_run_id == _finished.c.id,
        _finished.c.id == sql.uuid("run_id"),
    )
    .cte("parents")
)
_END = Statement(
    sa.select(_finished.c.id, _finished.c.parent_run_id).add_cte(
        _emptied,
        clear_hints(_gone).cte("cleared"),
        *call_once(_parents, "told"),
    )
)


def end(connection: Connection, top: UUID, tokens: Sequence[Token]) -> set[UUID]:
    """End the runs of these first tokens, which are locked; the parent of `top` is told.

    The runs that have started those that ended.
    """
    parameters = {"tokens": _listing(token.id for token in tokens), "run_id": top}
    rows = connection.rows(_END, parameters)
    return {row["parent_run_id"] for row in rows if row["parent_run_id"] is not None}


_is_told = sql.there_is(
    t.outbox.c.token_id == t.token.c.id, t.outbox.c.fence == t.token.c.fence, CALLS
)

_to_be_told = (
    sa.select(t.token)
    .where(
        _is_theirs,
        sa.not_(_is_told),
        t.token.c.claimed_by.is_(None),
        _goes_forward,
        sa.or_(
            t.token.c.wait.is_(None),
            t.token.c.wait.in_([sql.word("signal"), sql.word("timer")]),
            sa.and_(t.token.c.wait == sql.word("branches"), t.token.c.remaining == _NONE),
            sa.and_(
                _waits_for_child,
                sql.there_is(
                    _child.c.id == t.token.c.child_run_id, _child.c.finished_at.is_not(None)
                ),
            ),
        ),
    )
    .cte("to_be_told")
)
_HINT = Statement(put_hints(_to_be_told, at=AT_ONCE))


def put_hints_for(connection: Connection, runs: Sequence[UUID]) -> None:
    """Have workers look at what of these runs nobody has in hand and only they can end."""
    connection.rows(_HINT, {"runs": _listing(runs)})

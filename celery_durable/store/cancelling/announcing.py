"""Raises the flags of a cancel on the first token of every run of a tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.token import Flags
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.cancelling.selecting import (
    FLAGS,
    GOES_FORWARD,
    IS_FIRST,
    IS_FLAGGED,
    NONE,
    any_of,
    child,
)
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.outbox import LOOK_AT

_tree = (
    sa.select(t.run.c.id, NONE.label("depth"))
    .where(t.run.c.id == sql.uuid("run_id"), t.run.c.finished_at.is_(None))
    .cte("tree", recursive=True)
)

# Found run by run: the OFFSET keeps Postgres from joining the whole table.
_children = (
    sa.select(child.c.id)
    .where(child.c.parent_run_id == _tree.c.id, child.c.finished_at.is_(None))
    .offset(NONE)
    .lateral("children")
)

_tree = _tree.union_all(
    sa.select(_children.c.id, _tree.c.depth + sa.literal_column("1")).join_from(
        _tree, _children, sa.true()
    )
)

_locked_firsts = (
    sa.select(t.token.c.id)
    .where(t.token.c.run_id == _tree.c.id, IS_FIRST, GOES_FORWARD, sa.not_(IS_FLAGGED))
    .offset(NONE)
    .with_for_update(skip_locked=True, of=t.token)
    .lateral("locked_firsts")
)
_unflagged = sa.select(_locked_firsts.c.id).join_from(_tree, _locked_firsts, sa.true())

_raised = (
    sa.update(t.token)
    .where(any_of(t.token.c.id, _unflagged))
    .values(flags=t.token.c.flags.op("|")(FLAGS), look_at=LOOK_AT)
    .returning(t.token.c.run_id)
    .cte("raised")
)

_is_another_reason = t.run.c.cancel_reason.is_(None) & sql.text("reason").is_not(None)

_marked = (
    sa.update(t.run)
    .where(
        sa.or_(
            t.run.c.id == sql.uuid("run_id"),
            any_of(t.run.c.id, sa.select(_raised.c.run_id)),
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
            sql.there_is(_mine, IS_FIRST, GOES_FORWARD, sa.not_(IS_FLAGGED)),
        ).label("is_locked"),
        sql.there_is(
            _mine, IS_FIRST, t.token.c.wait == sql.word("branches"), t.token.c.remaining > NONE
        ).label("has_branches"),
    )
    .order_by(_tree.c.depth.desc())
    .add_cte(_marked)
)


@dataclass(frozen=True, slots=True)
class Announced:
    """An unfinished run of the tree.

    `is_raised`: its first token had no flags, and has them now. `is_locked`: its first token has no
    flags yet, for another transaction has locked it. `has_branches`: it has branches, or items of
    which none is open.
    """

    id: UUID
    is_raised: bool
    is_locked: bool
    has_branches: bool


def announce(
    connection: Connection, run_id: UUID, flags: Flags, reason: str | None
) -> Sequence[Announced]:
    """Raise flags on the first tokens of a tree; return its unfinished runs, the lowest first.

    The tree is complete once none is raised and none is locked: a child that this statement cannot
    see yet is started by a token that it sees without flags.
    """
    parameters = {"run_id": run_id, "flags": int(flags), "reason": reason}
    return [Announced(**row) for row in connection.rows(_ANNOUNCE, parameters)]

"""Raises the flags of a cancel on the first token of every run of a tree, or of many trees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.token import Flags
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.cancelling.selecting import (
    GOES_FORWARD,
    IS_FIRST,
    NONE,
    child,
)
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.outbox import LOOK_AT

_tree = (
    sa.select(t.run.c.id, NONE.label("depth"))
    .where(t.run.c.id == sa.any_(sql.uuids("tops")), t.run.c.finished_at.is_(None))
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

# A top may be below another: then it is found twice.
_found = (
    sa.select(_tree.c.id, sa.func.max(_tree.c.depth).label("depth"))
    .group_by(_tree.c.id)
    .cte("found")
)

# Only the run at the top took too long; those below are cancelled with it.
_flags = sa.case(
    (t.token.c.run_id == sa.any_(sql.uuids("tops")), sql.integer("top_flags")),
    else_=sql.integer("flags"),
)
_is_flagged = t.token.c.flags.op("&")(_flags) == _flags

_locked_firsts = (
    sa.select(t.token.c.id)
    .where(t.token.c.run_id == _found.c.id, IS_FIRST, GOES_FORWARD, sa.not_(_is_flagged))
    .offset(NONE)
    .with_for_update(skip_locked=True, of=t.token)
    .lateral("locked_firsts")
)
_unflagged = sa.select(_locked_firsts.c.id).join_from(_found, _locked_firsts, sa.true())

_raised = (
    sa.update(t.token)
    .where(sql.any_of(t.token.c.id, _unflagged))
    .values(flags=t.token.c.flags.op("|")(_flags), look_at=LOOK_AT)
    .returning(t.token.c.run_id)
    .cte("raised")
)

_is_another_reason = t.run.c.cancel_reason.is_(None) & sql.text("reason").is_not(None)

_marked = (
    sa.update(t.run)
    .where(
        sa.or_(
            t.run.c.id == sa.any_(sql.uuids("tops")),
            sql.any_of(t.run.c.id, sa.select(_raised.c.run_id)),
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

_mine = t.token.c.run_id == _found.c.id
_is_raised = _found.c.id.in_(sa.select(_raised.c.run_id))

_ANNOUNCE = Statement(
    sa.select(
        _found.c.id,
        (_found.c.depth == NONE).label("is_outermost"),
        _is_raised.label("is_raised"),
        sa.and_(
            sa.not_(_is_raised),
            sql.there_is(_mine, IS_FIRST, GOES_FORWARD, sa.not_(_is_flagged)),
        ).label("is_locked"),
        sql.there_is(
            _mine, IS_FIRST, t.token.c.wait == sql.word("branches"), t.token.c.remaining > NONE
        ).label("has_branches"),
    )
    .order_by(_found.c.depth.desc())
    .add_cte(_marked)
)


@dataclass(frozen=True, slots=True)
class Announced:
    """An unfinished run of a tree.

    `is_outermost`: it is a top, and not below another top. `is_raised`: its first token had no
    flags, and has them now. `is_locked`: its first token has no flags yet, for another transaction
    has locked it. `has_branches`: it has branches, or items of which none is open.
    """

    id: UUID
    is_outermost: bool
    is_raised: bool
    is_locked: bool
    has_branches: bool


def announce(
    connection: Connection, tops: Iterable[UUID], flags: Flags, reason: str | None
) -> Sequence[Announced]:
    """Raise flags on the first tokens of trees; return their unfinished runs, the lowest first.

    Of `flags`, runs below the tops get those of a cancel.
    A tree is complete once none is raised and none is locked: a child that this statement cannot
    see yet is started by a token that it sees without flags.
    """
    parameters = {
        "tops": sql.array(tops),
        "top_flags": int(flags),
        "flags": int(flags.of_cancel),
        "reason": reason,
    }
    return [Announced(**row) for row in connection.rows(_ANNOUNCE, parameters)]

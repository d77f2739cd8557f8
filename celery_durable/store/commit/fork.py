"""The parts of a commit that a token which forks, or a branch that leaves, adds.

The gate is on the parent's token: how many branches have not left (`remaining`), how many of those
that have left have failed, how many of all are opened. A branch leaves by DELETE of its own token,
which is its fence, and counts down in the same statement. The branch that brings `remaining` to 0
puts the parent's hint. Items for which there is no room yet are rows of `durable_item`; a branch
that leaves opens the next ones. Locks: the branch, siblings that have not begun, the parent, its
items.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from celery_durable.core.decision import Branch, Fork, Leave
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.outbox import (
    ADVANCE,
    AT_ONCE,
    HINT_COLUMNS,
    HINTED_BY,
    LOOK_AT,
    clear_hints,
    hint_of,
    insert_hints,
    is_single,
    options_of,
    priority_of,
)

GATE = {
    "remaining": sql.integer("total"),
    "failed": sa.literal_column("0"),
    "total": sql.integer("total"),
    "opened": sql.integer("window"),
}
"""The values of the gate on a token that forks."""

_branches: Any = (
    sa.func.json_to_recordset(sql.json("branches"))
    .table_valued(
        sa.column("unit", sa.Text),
        sa.column("part", sa.Text),
        sa.column("position", sa.Integer),
        sa.column("input", sa.JSON),
        sa.column("queue", sa.Text),
        sa.column("priority", sa.SmallInteger),
        sa.column("time_limit", sa.Double),
        name="branch",
    )
    .render_derived(name="branch", with_types=True)
)

_items: Any = (
    sa.func.json_to_recordset(sql.json("items"))
    .table_valued(sa.column("position", sa.Integer), sa.column("input", sa.JSON), name="waiting")
    .render_derived(name="waiting", with_types=True)
)

_new_id: sa.ColumnElement[Any] = sa.func.gen_random_uuid()


def _item_or_null(value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """`value`, or JSON null for SQL NULL, which json_to_recordset makes of an item that is null."""
    return sa.func.coalesce(value, sa.cast(sa.literal_column("'null'"), sa.JSON()))


def fork_parts(held: Any) -> list[Any]:
    """The token `held` forks: tokens and hints for branches that are opened, items for the rest."""
    columns = {
        "id": _new_id,
        "run_id": held.c.run_id,
        "parent_id": held.c.id,
        "node": held.c.node,
        "unit": _branches.c.unit,
        "part": _branches.c.part,
        "position": _branches.c.position,
        "input": sa.case(
            (_branches.c.part.is_(None), _item_or_null(_branches.c.input)),
            else_=_branches.c.input,
        ),
        "queue": _branches.c.queue,
        "priority": _branches.c.priority,
        "time_limit": _branches.c.time_limit,
        "single": sql.boolean("branches_single"),
        "fence": _new_id,
    }
    branches = sa.select(*columns.values()).select_from(held).join(_branches, sa.true())
    opened = (
        sa.insert(t.token)
        .from_select(list(columns), branches)
        .returning(*t.token.c)
        .cte("branches")
    )
    waiting = sa.select(held.c.id, _items.c.position, _item_or_null(_items.c.input))
    stored = (
        sa.insert(t.item)
        .from_select(
            ["token_id", "position", "input"], waiting.select_from(held).join(_items, sa.true())
        )
        .cte("items")
    )
    hinted = _hinted(opened, crowd=_crowd(opened)).cte("hinted_branches")
    return [hinted, stored]


NO_CROWD: Any = sa.literal_column("0")


def _crowd(opened: Any) -> Any:
    """The logarithm of how many messages of the same fork are sent before (`due.Lane`)."""
    before = sa.func.min(opened.c.position) // sql.integer("chunk")
    counted: Any = sa.cast(before + sa.literal_column("1"), sa.Double())
    return sa.func.floor(sa.func.ln(counted) / sa.literal_column("ln(2)"))


def _hinted(opened: Any, *, crowd: Any) -> Any:
    """INSERT of hints for new branches; a chunk of branches shares a message."""
    grouped = [
        opened.c.run_id,
        opened.c.node,
        opened.c.queue,
        opened.c.priority,
        opened.c.time_limit,
        opened.c.position // sql.integer("chunk"),
    ]
    first = opened.c.position
    named = sa.func.concat(sql.text("workflow"), sql.word("."), _first(opened.c.unit, first))
    columns = (
        opened.c.run_id,
        _first(opened.c.id, first),
        _first(opened.c.fence, first),
        sql.word(ADVANCE),
        sa.func.json_agg(aggregate_order_by(opened.c.id, first)),
        options_of(opened, named),
        opened.c.queue,
        priority_of(opened),
        sa.func.bool_or(is_single(opened)),
        AT_ONCE,
        crowd,
    )
    return sa.insert(t.outbox).from_select(
        [*HINT_COLUMNS, "crowd"], sa.select(*columns).group_by(*grouped)
    )


def _first(column: Any, order: Any) -> Any:
    """The value of `column` in the first row of a group."""
    return sa.func.array_agg(aggregate_order_by(column, order), type_=ARRAY(column.type))[1]


def leave_parts(held: Any, *, stops: bool) -> tuple[list[Any], sa.ColumnElement[bool]]:
    """The branch `held` leaves: the join, the items that it opens, the parent's hint.

    The second value is true if that puts a hint.
    """
    stopped = _stopped(held).cte("stopped") if stops else None
    gone = _count(stopped)
    joined = _joined(held, gone, stops=stops).cte("joined")
    taken = (
        sa.delete(t.item)
        .where(
            t.item.c.token_id == joined.c.id,
            # Not from 0: the index still holds the items before the window, which are deleted.
            sa.true()
            if stops
            else t.item.c.position.between(
                joined.c.opened - sql.integer("chunk"), joined.c.opened - sa.literal_column("1")
            ),
        )
        .returning(t.item.c.position, t.item.c.input)
        .cte("taken")
    )
    hinted, is_over = _parent_hinted(joined)
    if stopped is not None:
        return [taken, hinted, clear_hints(stopped).cte("cleared_of_stopped")], is_over
    opened = _hinted(_opened(held, taken), crowd=NO_CROWD).cte("hinted_branches")
    return [taken, hinted, opened], sa.or_(is_over, sa.exists(sa.select(taken.c.position)))


def _parent_hinted(joined: Any) -> tuple[Any, sa.ColumnElement[bool]]:
    """INSERT of the parent's hint if no branch remains, and whether that is so."""
    is_over = joined.c.remaining == sa.literal_column("0")
    hint = sa.select(*hint_of(joined, sql.text("workflow"))).where(is_over)
    return insert_hints(hint).cte("parent_hinted"), sa.exists().where(is_over)


LEFT = tuple(
    t.token.c[name]
    for name in ("id", "run_id", "parent_id", "node", "queue", "priority", "time_limit", "single")
)
"""The columns of branches that leave together: what the tokens that they make room for take on."""


def leave_together_parts(left: Any) -> tuple[list[Any], sa.ColumnElement[bool]]:
    """The branches `left`, all of the parent `parent`, leave: as `leave_parts`, counted once."""
    gone = sa.select(sa.func.count().label("n")).select_from(left).subquery("gone")
    chunk = sql.integer("chunk")
    p = t.token.c
    ended = p.total - p.remaining
    after = p.remaining - gone.c.n
    filled: Any = (ended + gone.c.n) // chunk - ended // chunk
    # Where every opened branch has ended there is room, too: the plan may have been edited.
    has_none_open = ended + gone.c.n >= p.opened
    step = sa.case(
        (p.flags != sa.literal_column("0"), sa.literal_column("0")),
        (has_none_open, sa.func.greatest(filled, sa.literal_column("1")) * chunk),
        else_=filled * chunk,
    )
    is_last = after == sa.literal_column("0")
    joined = (
        sa.update(t.token)
        .where(p.id == sql.uuid("parent"), gone.c.n > sa.literal_column("0"))
        .values(
            remaining=after,
            opened=sa.func.least(p.total, p.opened + step),
            hinted_at=sa.case((is_last, sql.clock), else_=p.hinted_at),
            look_at=sa.case((is_last, LOOK_AT), else_=p.look_at),
        )
        .returning(*HINTED_BY, p.remaining, p.opened, gone.c.n)
        .cte("joined")
    )
    taken = (
        sa.delete(t.item)
        .where(
            t.item.c.token_id == joined.c.id,
            # Those before the ones that are opened now are deleted; but the index still holds them.
            t.item.c.position.between(
                joined.c.opened - joined.c.n - chunk - chunk,
                joined.c.opened - sa.literal_column("1"),
            ),
        )
        .returning(t.item.c.position, t.item.c.input)
        .cte("taken")
    )
    hinted, is_over = _parent_hinted(joined)
    like = sa.select(*left.c).limit(sa.literal_column("1")).subquery("one")
    opened = _hinted(_opened(like, taken), crowd=NO_CROWD).cte("hinted_branches")
    return [taken, hinted, opened], sa.or_(is_over, sa.exists(sa.select(taken.c.position)))


def _stopped(held: Any) -> Any:
    """DELETE of siblings that nobody has ever claimed; a locked one is just being claimed."""
    never_claimed = (
        sa.select(t.token.c.id)
        .where(
            t.token.c.parent_id == sa.select(held.c.parent_id).scalar_subquery(),
            t.token.c.id != sql.uuid("token_id"),
            sa.not_(t.token.c.begun),
        )
        .with_for_update(skip_locked=True)
    )
    return sa.delete(t.token).where(t.token.c.id.in_(never_claimed)).returning(t.token.c.id)


def _count(stopped: Any) -> Any:
    if stopped is None:
        return sa.select(sa.literal_column("0").label("n")).subquery("gone")
    return sa.select(sa.func.count().label("n")).select_from(stopped).subquery("gone")


def _joined(held: Any, gone: Any, *, stops: bool) -> Any:
    p = t.token.c
    after = p.remaining - sa.literal_column("1") - gone.c.n
    if stops:
        after = after - (p.total - p.opened)
        opened: Any = p.total
    else:
        # There is room when a chunk has ended; or, after an edit of the plan, whenever every opened
        # branch has ended. A token that is flagged opens nothing: its run is cancelled.
        ended = p.total - after
        chunk = sql.integer("chunk")
        has_room = sa.or_(ended % chunk == sa.literal_column("0"), ended >= p.opened)
        step = sa.case(
            (sa.and_(has_room, p.flags == sa.literal_column("0")), chunk),
            else_=sa.literal_column("0"),
        )
        opened = sa.func.least(p.total, p.opened + step)
    is_last = after == sa.literal_column("0")
    return (
        sa.update(t.token)
        .where(p.id == held.c.parent_id, gone.c.n >= sa.literal_column("0"))
        .values(
            remaining=after,
            failed=p.failed + sql.integer("failed"),
            opened=opened,
            hinted_at=sa.case((is_last, sql.clock), else_=p.hinted_at),
            look_at=sa.case((is_last, LOOK_AT), else_=p.look_at),
        )
        .returning(*p)
    )


def _opened(held: Any, taken: Any) -> Any:
    """Tokens, like the one that leaves, for the items for which there is room now."""
    unit = sa.func.concat(held.c.node, sql.word("#"), taken.c.position)
    columns = {
        "id": _new_id,
        "run_id": held.c.run_id,
        "parent_id": held.c.parent_id,
        "node": held.c.node,
        "unit": unit,
        "position": taken.c.position,
        "input": taken.c.input,
        "queue": held.c.queue,
        "priority": held.c.priority,
        "time_limit": held.c.time_limit,
        "single": held.c.single,
        "fence": _new_id,
    }
    return (
        sa.insert(t.token)
        .from_select(
            list(columns), sa.select(*columns.values()).select_from(held).join(taken, sa.true())
        )
        .returning(*t.token.c)
        .cte("branches")
    )


def fork_parameters(fork: Fork) -> dict[str, Any]:
    """The parameters of a fork; the routing of its branches is filled in."""
    opened = fork.branches[: fork.window]
    waiting = fork.branches[fork.window :]
    return {
        "total": len(fork.branches),
        "window": fork.window,
        "chunk": fork.chunk,
        "branches_single": fork.single,
        "branches": "[" + ",".join(map(_branch_text, opened)) + "]",
        "items": "[" + ",".join(map(_item_text, waiting)) + "]",
    }


def leave_parameters(leave: Leave) -> dict[str, Any]:
    """The parameters of a branch that leaves."""
    return {"failed": int(leave.failed), "chunk": leave.chunk}


def _branch_text(branch: Branch) -> str:
    """The branch as JSON text; its input is JSON text already and is not parsed again."""
    routing = branch.routing
    fields = {
        "unit": branch.unit,
        "part": branch.part,
        "position": branch.position,
        "queue": routing.queue,
        "priority": routing.priority,
        "time_limit": routing.time_limit,
    }
    return _with_input(fields, branch)


def _item_text(branch: Branch) -> str:
    return _with_input({"position": branch.position}, branch)


def _with_input(fields: dict[str, Any], branch: Branch) -> str:
    return f'{json.dumps(fields)[:-1]},"input":{branch.input or "null"}}}'

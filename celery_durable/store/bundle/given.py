"""The document that a bundle's statement gets, and the tokens that it locks.

One JSON document is one parameter, whatever is in it. Arrays would be planned by their length, and
be another prepared statement for each type of their elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.store import sql
from celery_durable.store import tables as t

_TYPES: Mapping[str, Any] = {
    "id": sa.Uuid,
    # What the token's row must hold.
    "unit": sa.Text,
    "attempt": sa.Integer,
    # The order of completion, and the record of the unit; `recorded` is false if it has none.
    "n": sa.Integer,
    "recorded": sa.Boolean,
    "node": sa.Text,
    "started_at": sa.DateTime(timezone=True),
    "result": sa.JSON,
    "undoable": sa.Boolean,
    "part": sa.Text,
    "position": sa.Integer,
    "input": sa.JSON,
    # Where the token goes.
    "to_node": sa.Text,
    "to_unit": sa.Text,
    "workflow": sa.Text,
    "queue": sa.Text,
    "priority": sa.SmallInteger,
    "time_limit": sa.Double,
    "single": sa.Boolean,
    # Of one that is released: whether nobody had claimed it before.
    "is_first": sa.Boolean,
    # What the run's result is.
    "run_result": sa.JSON,
}

STANDING = ("id", "unit", "attempt")
RECORD = ("n", "node", "started_at", "result", "undoable")


def given(*names: str) -> Any:
    """The tokens of the document, with what it says of each under `names`."""
    columns = [sa.column(name, _TYPES[name]) for name in names]
    document = sa.func.json_to_recordset(sql.json("given"))
    found: Any = document.table_valued(*columns, name="document")
    found = found.render_derived(name="document", with_types=True)
    return sa.select(*found.c).where(found.c.id.between(*_ALL_IDS)).subquery("given")


# Postgres takes any document for a hundred rows, and would rather read a small table as a whole
# than look up a hundred rows in it; the plan stays when the table has grown. It takes what is
# between two values for one row in two hundred.
_ALL_IDS: tuple[Any, Any] = (
    sa.literal_column(f"'{UUID(int=0)}'::uuid"),
    sa.literal_column(f"'{UUID(int=2**128 - 1)}'::uuid"),
)


ctid: Any = sa.literal_column("durable_token.ctid")
"""Where a row of tokens is. A row that has changed since the statement began is not found by it."""

held_row = t.token.alias("held")
"""The rows of tokens that the conditions of `locked` speak of."""

_ROW_CTID: Any = sa.literal_column("held.ctid")


def locked(tokens: Any, *conditions: sa.ColumnElement[bool], waits: bool = False) -> Any:
    """The rows of `tokens` that meet `conditions` (of `held_row`), locked in the order of ids.

    Each is looked up by its key, whatever the statistics say. Those that another transaction has
    locked are left out; `waits`: they are waited for.
    """
    in_order = sa.select(*tokens.c).order_by(tokens.c.id).subquery("in_order")
    row = (
        sa.select(_ROW_CTID.label("ctid"))
        .select_from(held_row)
        .where(held_row.c.id == in_order.c.id, *conditions, *_as_given(in_order))
        .with_for_update(skip_locked=not waits)
        .lateral("row")
    )
    return sa.select(*in_order.c, row.c.ctid).join_from(in_order, row, sa.true()).cte("locked")


def _as_given(in_order: Any) -> list[sa.ColumnElement[bool]]:
    if "unit" not in in_order.c:
        return []
    return [held_row.c.unit == in_order.c.unit, held_row.c.attempt == in_order.c.attempt]


IS_HELD: tuple[sa.ColumnElement[bool], ...] = (
    held_row.c.fence == sql.uuid("held_fence"),
    held_row.c.claimed_by == sql.uuid("worker"),
)
"""The conditions of a claim that still holds."""


def id_list(ids: Iterable[UUID]) -> str:
    """The ids as a document: it says nothing else of the tokens."""
    return "[" + ",".join(f'{{"id":"{one}"}}' for one in ids) + "]"

"""Results of units, nodes and runs, put together from the journal when they are read.

No result is copied while a run advances: the result of a map, a loop or a child is in the journal
entries of its parts. One statement reads a tree of runs, however deep, however many children.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.sql.selectable import LateralFromClause

from celery_durable.core.decision import Outcome
from celery_durable.core.nodes import Gathers
from celery_durable.store import codec, sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement, one
from celery_durable.store.inheriting import of_origin
from celery_durable.store.rows import error_of

_columns = (
    t.journal.c.run_id,
    t.journal.c.unit,
    t.journal.c.node,
    t.journal.c.part,
    t.journal.c.position,
    t.journal.c.outcome,
    sql.json_text(of_origin(t.journal, "result"), "result"),
    t.journal.c.gathers,
    t.journal.c.child_run_id,
    sql.json_text(t.journal.c.error),
)

_UNIT = Statement(
    sa.select(*_columns).where(
        t.journal.c.run_id == sql.uuid("run_id"),
        t.journal.c.unit == sql.text("unit"),
        t.journal.c.outcome == sa.literal_column(f"'{Outcome.COMPLETED}'"),
    )
)

# The units of a node are a range of the key: "#" is followed by "$".
_parts = sa.select(*_columns).where(
    t.journal.c.run_id == sql.uuid("run_id"),
    t.journal.c.unit >= sql.text("from_unit"),
    t.journal.c.unit < sql.text("to_unit"),
    t.journal.c.position.is_not(None) | t.journal.c.part.is_not(None),
)

_PARTS = Statement(_parts.order_by(t.journal.c.position))

_LAST = Statement(_parts.order_by(t.journal.c.position.desc()).limit(sa.literal_column("1")))

_listed = sa.func.json_array_elements_text(sql.json("ids")).table_valued("value")
_ids = sa.select(sa.cast(_listed.c.value, sa.Uuid))

_node = t.journal.alias("node")
_next = t.journal.alias("next_iteration")

_is_of_a_completed_node = sa.and_(
    _node.c.run_id == t.journal.c.run_id,
    _node.c.unit == t.journal.c.node,
    _node.c.outcome == sql.word(Outcome.COMPLETED),
)

# Only the last iteration of a loop counts.
_is_a_part_that_counts = sa.and_(
    t.journal.c.position.is_not(None) | t.journal.c.part.is_not(None),
    sa.or_(
        _node.c.gathers.is_distinct_from(sql.word(Gathers.ITERATION)),
        sa.not_(
            sql.there_is(
                _next.c.run_id == t.journal.c.run_id,
                _next.c.unit
                == sa.func.concat(
                    t.journal.c.node,
                    sql.word("#"),
                    t.journal.c.position + sa.literal_column("1"),
                ),
            )
        ),
    ),
)

_counts = sa.or_(t.journal.c.unit == t.journal.c.node, _is_a_part_that_counts)


def entries_of(run_id: Any, *conditions: sa.ColumnElement[bool]) -> LateralFromClause:
    """The journal entries that the results of a run's completed nodes are made of.

    They are looked up by the journal's key for each row that they are joined to, and not at all
    where `conditions` on that row are false: the OFFSET keeps Postgres from joining whole tables.
    """
    return (
        sa.select(*_columns, t.journal.c.seq)
        .join_from(t.journal, _node, _is_of_a_completed_node)
        .where(t.journal.c.run_id == run_id, _counts, *conditions)
        .offset(sa.literal_column("0"))
        .lateral("entry")
    )


_entry_of_run = entries_of(sql.uuid("run_id"))

_ENTRIES = Statement(
    sa.select(*_entry_of_run.c).order_by(_entry_of_run.c.position, _entry_of_run.c.seq)
)

_child = t.run.alias("child")

_top = sa.select(
    t.run.c.id,
    # The result that `.returns` made is stored, and the journal of such a run is not needed.
    t.run.c.result.is_(None).label("is_gathered"),
    sa.literal_column("0").label("depth"),
).where(t.run.c.id.in_(_ids))

_above = _top.cte("below", recursive=True)

# Found run by run, by the journal's key: the OFFSET keeps Postgres from joining whole tables.
_children = (
    sa.select(_child.c.id, _child.c.result.is_(None).label("is_gathered"))
    .join_from(t.journal, _node, _is_of_a_completed_node)
    .join(_child, _child.c.id == t.journal.c.child_run_id)
    .where(
        t.journal.c.run_id == _above.c.id,
        t.journal.c.gathers == sql.word(Gathers.CHILD),
        _counts,
    )
    .offset(sa.literal_column("0"))
    .lateral("children")
)

_below = _above.union_all(
    sa.select(_children.c.id, _children.c.is_gathered, _above.c.depth + sa.literal_column("1"))
    .join_from(_above, _children, sa.true())
    .where(_above.c.is_gathered)
)

_entry = entries_of(_below.c.id, _below.c.is_gathered)

_TREE = Statement(
    sa.select(
        _below.c.id,
        sa.select(sa.cast(t.run.c.result, sa.Text))
        .where(t.run.c.id == _below.c.id)
        .scalar_subquery()
        .label("made"),
        *_entry.c,
    )
    .join_from(_below, _entry, sa.true(), isouter=True)
    .order_by(_below.c.depth.desc(), _entry.c.position, _entry.c.seq)
)

_made = sa.select(sa.func.pg_column_size(t.run.c.result)).where(t.run.c.id == _below.c.id)
_gathered = (
    sa.select(sa.func.sum(sa.func.pg_column_size(of_origin(t.journal, "result"))))
    .join_from(t.journal, _node, _is_of_a_completed_node)
    .where(_below.c.is_gathered, t.journal.c.run_id == _below.c.id, _counts)
)
_SIZE = Statement(
    sa.select(
        sa.func.sum(
            sa.func.coalesce(
                _made.scalar_subquery(), _gathered.scalar_subquery(), sa.literal_column("0")
            )
        ).label("bytes")
    ).select_from(_below)
)


def of_unit(connection: Connection, run_id: UUID, unit: str) -> tuple[Any] | None:
    """The result of a completed unit or node, in a tuple; None if it has not completed."""
    row = one(connection, _UNIT, {"run_id": run_id, "unit": unit})
    if row is None:
        return None
    if row["gathers"] is None:
        return (codec.loads(row["result"]),)
    rows = [row]
    if row["gathers"] != Gathers.CHILD:
        bounds = {"run_id": run_id, "from_unit": f"{unit}#", "to_unit": f"{unit}$"}
        rows += connection.rows(_LAST if row["gathers"] == Gathers.ITERATION else _PARTS, bounds)
    tree = Tree(connection, rows)
    return (tree.result_of(row),)


def of_run(connection: Connection, run_id: UUID) -> Mapping[str, Any]:
    """The results of the run's completed nodes, in order of completion."""
    entries = connection.rows(_ENTRIES, {"run_id": run_id})
    return Tree(connection, entries).results(run_id)


def of_child(connection: Connection, run_id: UUID) -> Any:
    """The result of a completed run: the one that `.returns` made, or its nodes' results."""
    tree = Tree(connection, ())
    tree.load([run_id])
    return tree.made[run_id]


def size_of_run(connection: Connection, run_id: UUID) -> int:
    """How many bytes, compressed, Postgres keeps of the parts of a completed run's result."""
    (row,) = connection.rows(_SIZE, {"ids": _listing([run_id])})
    return int(row["bytes"] or 0)


def _listing(run_ids: Collection[UUID]) -> str:
    return json.dumps([str(run_id) for run_id in run_ids])


class Tree:
    """Journal rows of runs and of all runs below them; `made` has the results of loaded runs."""

    def __init__(self, connection: Connection, rows: Sequence[Row]) -> None:
        self._connection = connection
        self.made: dict[UUID, Any] = {}
        self._nodes: dict[UUID, list[Row]] = {}
        self._parts: dict[tuple[UUID, str], list[Row]] = {}
        self._add(rows)
        self.load(children_of(rows))

    def load(self, run_ids: Collection[UUID]) -> None:
        """Read these runs and all below them, and make their results, the lowest first."""
        if not run_ids:
            return
        rows = self._connection.rows(_TREE, {"ids": _listing(run_ids)})
        self._add(row for row in rows if row["unit"] is not None)
        for run_id, made in {row["id"]: row["made"] for row in rows}.items():
            self.made[run_id] = self.results(run_id) if made is None else codec.loads(made)

    def _add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if row["unit"] == row["node"]:
                self._nodes.setdefault(row["run_id"], []).append(row)
            else:
                self._parts.setdefault((row["run_id"], row["node"]), []).append(row)

    def results(self, run_id: UUID) -> dict[str, Any]:
        """The results of the run's completed nodes."""
        return {row["node"]: self.result_of(row) for row in self._nodes.get(run_id, ())}

    def result_of(self, row: Row) -> Any:
        """The result of a journal entry; for a failed one, where failures are kept, its error."""
        if row["outcome"] != Outcome.COMPLETED:
            error = error_of(row["error"])
            assert error is not None
            kept = {"type": error.type, "message": error.message, "unit": error.unit}
            return {"error": kept}
        parts = self._parts.get((row["run_id"], row["node"]), [])
        match row["gathers"]:
            case Gathers.CHILD:
                return self.made[row["child_run_id"]]
            case Gathers.BRANCHES:
                return {part["part"]: self.result_of(part) for part in parts}
            case Gathers.ITEMS:
                return [self.result_of(part) for part in parts]
            case Gathers.ITERATION:
                return self.result_of(parts[-1])
            case _:
                return codec.loads(row["result"])


def children_of(rows: Iterable[Row]) -> list[UUID]:
    """The child runs that have the results of these entries."""
    return [row["child_run_id"] for row in rows if row["gathers"] == Gathers.CHILD]

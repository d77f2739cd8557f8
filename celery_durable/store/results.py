"""Results of units, nodes and runs, put together from the journal when they are read.

No result is copied as a run advances: what a map, a loop or a child gave is where its parts are. A
tree of runs is read a level at a time, however many children there are.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.decision import Gathers, Outcome
from celery_durable.store import codec, sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement, one
from celery_durable.store.rows import error_of

_columns = (
    t.journal.c.run_id,
    t.journal.c.unit,
    t.journal.c.node,
    t.journal.c.part,
    t.journal.c.position,
    t.journal.c.outcome,
    sql.json_text(t.journal.c.result),
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

_RUNS = Statement(sa.select(t.run.c.id, sql.json_text(t.run.c.result)).where(t.run.c.id.in_(_ids)))

_ENTRIES = Statement(
    sa.select(*_columns)
    .where(
        t.journal.c.run_id.in_(_ids),
        sa.or_(
            t.journal.c.unit == t.journal.c.node,
            t.journal.c.position.is_not(None),
            t.journal.c.part.is_not(None),
        ),
    )
    .order_by(t.journal.c.position, t.journal.c.seq)
)


def of_unit(connection: Connection, run_id: UUID, unit: str) -> tuple[Any] | None:
    """The result of a completed unit or node, in a tuple; None when it has not completed."""
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
    entries = connection.rows(_ENTRIES, {"ids": json.dumps([str(run_id)])})
    return Tree(connection, entries).results(run_id)


def of_child(connection: Connection, run_id: UUID) -> Any:
    """The result of a completed run: what `.returns` made, or its nodes' results."""
    tree = Tree(connection, ())
    tree.load([run_id])
    return tree.made(run_id)


class Tree:
    """Journal rows of runs and of all runs below them, a level read at a time."""

    def __init__(self, connection: Connection, rows: Sequence[Row]) -> None:
        self._connection = connection
        self._stored: dict[UUID, str] = {}
        self._nodes: dict[UUID, list[Row]] = {}
        self._parts: dict[tuple[UUID, str], list[Row]] = {}
        self._add(rows)
        self.load(children_of(rows))

    def load(self, run_ids: Collection[UUID]) -> None:
        """Read these runs and all below them."""
        while run_ids:
            ids = {"ids": json.dumps([str(run_id) for run_id in run_ids])}
            runs = self._connection.rows(_RUNS, ids)
            self._stored |= {row["id"]: row["result"] for row in runs if row["result"] is not None}
            # What `.returns` made is stored; such a run need not be looked into.
            looked_into = [row["id"] for row in runs if row["result"] is None]
            ids = {"ids": json.dumps([str(run_id) for run_id in looked_into])}
            rows = self._connection.rows(_ENTRIES, ids) if looked_into else []
            self._add(rows)
            run_ids = children_of(rows)

    def _add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if row["unit"] == row["node"]:
                self._nodes.setdefault(row["run_id"], []).append(row)
            else:
                self._parts.setdefault((row["run_id"], row["node"]), []).append(row)

    def results(self, run_id: UUID) -> dict[str, Any]:
        """The results of the run's completed nodes."""
        done = [row for row in self._nodes.get(run_id, ()) if row["outcome"] == Outcome.COMPLETED]
        return {row["node"]: self.result_of(row) for row in done}

    def made(self, run_id: UUID) -> Any:
        """The run's result."""
        stored = self._stored.get(run_id)
        return self.results(run_id) if stored is None else codec.loads(stored)

    def result_of(self, row: Row) -> Any:
        """The result of a journal entry; of one that failed, where that is kept, its error."""
        if row["outcome"] != Outcome.COMPLETED:
            error = error_of(row["error"])
            assert error is not None
            kept = {"type": error.type, "message": error.message, "unit": error.unit}
            return {"error": kept}
        parts = self._parts.get((row["run_id"], row["node"]), [])
        match row["gathers"]:
            case Gathers.CHILD:
                return self.made(row["child_run_id"])
            case Gathers.BRANCHES:
                return {part["part"]: self.result_of(part) for part in parts}
            case Gathers.ITEMS:
                return [self.result_of(part) for part in parts]
            case Gathers.ITERATION:
                return self.result_of(parts[-1])
            case _:
                return codec.loads(row["result"])


def children_of(rows: Iterable[Row]) -> list[UUID]:
    """The runs in which results of these entries are."""
    return [row["child_run_id"] for row in rows if row["gathers"] == Gathers.CHILD]

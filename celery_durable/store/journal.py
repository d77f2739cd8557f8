"""Reading what has been recorded. Writing it is part of a commit (`tokens`)."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.decision import Outcome
from celery_durable.core.names import compensated_by
from celery_durable.core.token import Token
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one

_listed_nodes = sa.func.json_array_elements_text(sql.json("nodes")).table_valued("value")

_in_hand = t.journal.alias("in_hand")

_UNDO = Statement(
    sa.select(t.journal.c.unit)
    .where(
        t.journal.c.run_id == sql.uuid("run_id"),
        t.journal.c.undoable,
        t.journal.c.node.in_(sa.select(_listed_nodes.c.value)),
        t.journal.c.seq
        < sa.func.coalesce(
            sa.select(_in_hand.c.seq)
            .where(_in_hand.c.run_id == sql.uuid("run_id"), _in_hand.c.unit == sql.text("after"))
            .scalar_subquery(),
            sa.literal_column("9223372036854775807"),
        ),
    )
    .order_by(t.journal.c.seq.desc())
    .limit(sa.literal_column("1"))
)


def next_undo(connection: Connection, token: Token, nodes: Collection[str]) -> str | None:
    """The newest completed unit of the run that is still to be undone, among those of `nodes`.

    On the way back it is the one that completed before the unit whose compensation is in hand.
    """
    after = compensated_by(token.unit) if token.rollback else None
    parameters = {"run_id": token.run_id, "after": after, "nodes": json.dumps(list(nodes))}
    row = one(connection, _UNDO, parameters)
    return row["unit"] if row else None


_RESULT = Statement(
    sa.select(sql.json_text(t.journal.c.result)).where(
        t.journal.c.run_id == sql.uuid("run_id"),
        t.journal.c.unit == sql.text("unit"),
        t.journal.c.outcome == sql.text("outcome"),
    )
)


def result(connection: Connection, run_id: UUID, unit: str) -> tuple[str | None] | None:
    """The JSON text of a completed unit's result, in a tuple; None when it has not completed."""
    parameters = {"run_id": run_id, "unit": unit, "outcome": Outcome.COMPLETED}
    row = one(connection, _RESULT, parameters)
    return (row["result"],) if row else None


_COMPLETED = Statement(
    sa.select(t.journal.c.unit)
    .where(
        t.journal.c.run_id == sql.uuid("run_id"),
        t.journal.c.unit == t.journal.c.node,
        t.journal.c.outcome == sql.text("outcome"),
    )
    .order_by(t.journal.c.seq)
)


def completed_nodes(connection: Connection, run_id: UUID) -> Sequence[str]:
    """The names of the nodes that have completed, in order of completion."""
    parameters = {"run_id": run_id, "outcome": Outcome.COMPLETED}
    return [row["unit"] for row in connection.rows(_COMPLETED, parameters)]

"""Adds what processes have counted to the sums of all (`durable_metric`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from celery_durable.process.tally import Series
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement

_counted: Any = (
    sa.func.json_to_recordset(sql.json("counted"))
    .table_valued(
        sa.column("name", sa.Text),
        sa.column("labels", JSONB),
        sa.column("value", sa.Double),
        name="counted",
    )
    .render_derived(name="counted", with_types=True)
)

# In one order, so that two processes that add at once do not lock each other out.
_new = upsert(t.metric).from_select(
    ["name", "labels", "value"],
    sa.select(*_counted.c).order_by(_counted.c.name, _counted.c.labels),
)

_ADD = Statement(
    _new.on_conflict_do_update(
        index_elements=[t.metric.c.name, t.metric.c.labels],
        set_={"value": t.metric.c.value + _new.excluded.value},
    )
)


def add(connection: Connection, counts: Mapping[Series, float]) -> None:
    """Add counts to their series. The labels of a series are the values alone, in their order."""
    rows = [
        {"name": name, "labels": [*labels], "value": count}
        for (name, labels), count in counts.items()
    ]
    connection.rows(_ADD, {"counted": json.dumps(rows)})


_COUNTED = Statement(sa.select(t.metric.c.name, sql.json_text(t.metric.c.labels), t.metric.c.value))


def counted(connection: Connection) -> Sequence[tuple[Series, float]]:
    """All series and their sums."""
    return [
        ((row["name"], tuple(json.loads(row["labels"]))), float(row["value"]))
        for row in connection.rows(_COUNTED)
    ]

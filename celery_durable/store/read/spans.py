"""When the units of a run were executed, for its timeline.

The parts of a node (its branches, items or iterations) are read up to a number; of more than that
Postgres counts how many ended in each part of the time, so that what is read does not grow.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.decision import Outcome
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.read.history import ENTRY, JournalEntry, entry_of
from celery_durable.store.read.overview import IS_MINE, IS_OF_COUNTED, IS_OWN, IS_UNDO

COLUMNS = 120
"""Into how many parts of equal length a timeline is divided to count in."""

EARLIER = -1
"""Stands for the time before a timeline: what a run has taken over from the one before it."""


@dataclass(frozen=True, slots=True)
class Density:
    """How many parts of a node ended in each column of a timeline, and how many of them failed.

    `began_at` is when the first of them began.
    """

    ended: Mapping[int, int]
    failed: Mapping[int, int]
    began_at: datetime

    @property
    def total(self) -> int:
        """How many have ended."""
        return sum(self.ended.values())


_PARTS = Statement(
    sa.select(*ENTRY)
    .where(IS_MINE, IS_OF_COUNTED, sa.not_(IS_OWN))
    .order_by(t.journal.c.seq)
    .limit(sql.integer("limit"))
)


def parts(
    connection: Connection, run_id: UUID, nodes: Collection[str], limit: int
) -> Sequence[JournalEntry]:
    """The parts of these nodes that ended first, without results, and their compensations."""
    parameters = {"run_id": run_id, "counted": json.dumps(sorted(nodes)), "limit": limit}
    return [entry_of(row) for row in connection.rows(_PARTS, parameters)]


_passed = sql.seconds(t.journal.c.finished_at - sql.time("begin"))
_column = sa.cast(sa.func.floor(_passed / sql.number("seconds")), sa.BigInteger)
_within = sa.func.greatest(
    sa.func.least(_column, sa.literal_column(str(COLUMNS - 1))), sa.literal_column(str(EARLIER))
)

_DENSITIES = Statement(
    sa.select(
        t.journal.c.node,
        IS_UNDO.label("is_undo"),
        _within.label("column"),
        sa.func.count().label("ended"),
        sa.func.count().filter(t.journal.c.outcome == sql.word(Outcome.FAILED)).label("failed"),
        sa.func.min(t.journal.c.started_at).label("began_at"),
    )
    .where(IS_MINE, IS_OF_COUNTED, sa.not_(IS_OWN))
    .group_by(t.journal.c.node, IS_UNDO, _within)
)


def densities(
    connection: Connection,
    run_id: UUID,
    nodes: Collection[str],
    begin: datetime,
    end: datetime,
) -> Mapping[tuple[str, bool], Density]:
    """How the parts of these nodes, and (True) their compensations, lie between two times."""
    seconds = max((end - begin).total_seconds(), 1e-6) / COLUMNS
    parameters = {
        "run_id": run_id,
        "counted": json.dumps(sorted(nodes)),
        "begin": begin,
        "seconds": seconds,
    }
    ended: dict[tuple[str, bool], dict[int, int]] = defaultdict(dict)
    failed: dict[tuple[str, bool], dict[int, int]] = defaultdict(dict)
    began: dict[tuple[str, bool], datetime] = {}
    for row in connection.rows(_DENSITIES, parameters) if nodes else []:
        key = row["node"], row["is_undo"]
        ended[key][row["column"]] = row["ended"]
        began_at: datetime = row["began_at"]
        began[key] = min(began.get(key, began_at), began_at)
        if row["failed"]:
            failed[key][row["column"]] = row["failed"]
    return {key: Density(counts, failed[key], began[key]) for key, counts in ended.items()}

"""The units of a run that have ended, a page at a time: all, or those of one node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.decision import Outcome
from celery_durable.core.names import COMPENSATE, SEPARATOR
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.read.history import ENTRY, JournalEntry, entry_of


@dataclass(frozen=True, slots=True)
class UnitFilter:
    """Which units: of a node, or its items and iterations or their compensations; that ended so."""

    node: str | None = None
    is_undo: bool | None = None
    outcome: Outcome | None = None
    after: str | None = None

    def conditions(self) -> frozenset[str]:
        """The names of the conditions that hold for the units."""
        asked = {
            "node": self.node is not None,
            "undo": self.is_undo is True,
            "no undo": self.is_undo is False,
            "outcome": self.outcome is not None,
            "after": self.after is not None,
        }
        return frozenset(name for name, is_asked in asked.items() if is_asked)

    def parameters(self) -> Mapping[str, Any]:
        """The parameters of the conditions."""
        return {
            # The units of a node are a range of the key: "#" is followed by "$".
            "from_unit": f"{self.node}{SEPARATOR}",
            "to_unit": f"{self.node}$",
            "outcome": self.outcome,
            "after": self.after,
        }


_entry = t.journal.alias("entry")
_last = t.journal.alias("last")
_is_undo = _entry.c.unit.like(sql.word(f"%#{COMPENSATE}"))

_CONDITIONS: Mapping[str, tuple[sa.ColumnElement[bool], ...]] = {
    "node": (_entry.c.unit >= sql.text("from_unit"), _entry.c.unit < sql.text("to_unit")),
    "undo": (_is_undo,),
    "no undo": (sa.not_(_is_undo),),
    "outcome": (_entry.c.outcome == sql.text("outcome"),),
    "after": (
        _entry.c.seq
        > sa.select(_last.c.seq)
        .where(_last.c.run_id == sql.uuid("run_id"), _last.c.unit == sql.text("after"))
        .scalar_subquery(),
    ),
}


@lru_cache(maxsize=64)
def _page(conditions: frozenset[str]) -> Statement:
    """The statement for a page of the units of which the conditions are true.

    The page is found before anything large is read.
    """
    these = [one for name in sorted(conditions) for one in _CONDITIONS[name]]
    page = (
        sa.select(_entry.c.unit)
        .where(_entry.c.run_id == sql.uuid("run_id"), *these)
        .order_by(_entry.c.seq)
        .limit(sql.integer("limit"))
    )
    return Statement(
        sa.select(*ENTRY)
        .where(t.journal.c.run_id == sql.uuid("run_id"), sql.any_of(t.journal.c.unit, page))
        .order_by(t.journal.c.seq)
    )


def statement_for(found: UnitFilter) -> Statement:
    """The statement that reads a page of these units."""
    return _page(found.conditions())


def page(
    connection: Connection, run_id: UUID, found: UnitFilter, limit: int
) -> Sequence[JournalEntry]:
    """The units that ended after `found.after`, in order of completion, without results."""
    parameters = {**found.parameters(), "run_id": run_id, "limit": limit}
    return [entry_of(row) for row in connection.rows(statement_for(found), parameters)]


_UNIT = Statement(
    sa.select(*ENTRY).where(
        t.journal.c.run_id == sql.uuid("run_id"), t.journal.c.unit == sql.text("unit")
    )
)


def unit(connection: Connection, run_id: UUID, name: str) -> JournalEntry | None:
    """The unit of this name, without its result; None if none has ended."""
    rows = connection.rows(_UNIT, {"run_id": run_id, "unit": name})
    return entry_of(rows[0]) if rows else None

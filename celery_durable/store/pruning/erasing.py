"""Deletes runs with all that belongs to them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert

from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one

_ids: Any = sa.any_(sql.uuids("ids"))

# A run that has ended has no token, and no hint; if one was left, it goes too. Tasks that its units
# have sent, and that are due later, are nobody's rows to delete: they have no token.
_tokens = sa.delete(t.token).where(t.token.c.run_id == _ids).returning(t.token.c.id).cte("tokens")
_hint = (
    sa.select(t.outbox.c.id)
    .where(t.outbox.c.token_id == _tokens.c.id)
    .with_for_update(skip_locked=True)
    .offset(sa.literal_column("0"))
    .lateral("hint")
)
_hints = sa.select(_hint.c.id).join_from(_tokens, _hint, sa.true())
_OTHERS = (
    sa.delete(t.item).where(sql.any_of(t.item.c.token_id, sa.select(_tokens.c.id))).cte("items"),
    sa.delete(t.outbox).where(sql.any_of(t.outbox.c.id, _hints)).cte("hints"),
    sa.delete(t.inbox).where(t.inbox.c.run_id == _ids).cte("signals"),
    sa.delete(t.action).where(t.action.c.run_id == _ids).cte("actions"),
)
_runs = (
    sa.delete(t.run)
    .where(t.run.c.id == _ids)
    .returning(t.run.c.id, t.run.c.forked_from)
    .cte("runs")
)
_journal = sa.delete(t.journal).where(t.journal.c.run_id == _ids).cte("journal")

_counted = sa.select(
    sa.func.count().label("runs"), sa.func.count(_runs.c.forked_from).label("forks")
).select_from(_runs)

_ERASE = Statement(_counted.add_cte(*_OTHERS, _journal))

_left = (
    upsert(t.leftover)
    .from_select(["run_id"], sa.select(_runs.c.id))
    .on_conflict_do_nothing(index_elements=["run_id"])
    .cte("left_over")
)
_BURY = Statement(_counted.add_cte(*_OTHERS, _left))


def erase(connection: Connection, runs: Iterable[UUID]) -> tuple[int, int]:
    """Delete locked runs and all that belongs to them; return how many, and how many were forks."""
    return _deleted(connection, _ERASE, runs)


def bury(connection: Connection, run: UUID) -> tuple[int, int]:
    """Delete a locked run alone, and note that its journal and its children are left over."""
    return _deleted(connection, _BURY, [run])


def _deleted(connection: Connection, statement: Statement, runs: Iterable[UUID]) -> tuple[int, int]:
    row = one(connection, statement, {"ids": sql.array(runs)})
    return (row["runs"], row["forks"]) if row else (0, 0)


_mine = (
    sa.select(t.leftover.c.run_id)
    .where(t.leftover.c.run_id == sql.uuid("run_id"))
    .with_for_update(skip_locked=True)
    .cte("mine")
)
_units = sa.select(t.journal.c.unit).where(t.journal.c.run_id == sql.uuid("run_id"))
_one: Any = sa.literal_column("1")
_page_end = sa.func.coalesce(
    _units.order_by(t.journal.c.unit)
    .offset(sql.integer("limit") - _one)
    .limit(_one)
    .scalar_subquery(),
    _units.order_by(t.journal.c.unit.desc()).limit(_one).scalar_subquery(),
)
_page = (
    sa.delete(t.journal)
    .where(
        t.journal.c.run_id == sql.uuid("run_id"),
        t.journal.c.unit <= _page_end,
        sa.exists(sa.select(_mine.c.run_id)),
    )
    .returning(t.journal.c.unit)
    .cte("page")
)
_CLEAR = Statement(sa.select(sa.func.count().label("units")).select_from(_page))


def clear_journal(connection: Connection, run: UUID, limit: int) -> int:
    """Delete up to `limit` rows of a deleted run's journal; return how many.

    Does nothing while another process does it.
    """
    row = one(connection, _CLEAR, {"run_id": run, "limit": limit})
    return int(row["units"]) if row else 0


_FORGET = Statement(
    sa.delete(t.leftover).where(
        t.leftover.c.run_id == sql.uuid("run_id"),
        sa.not_(sql.there_is(t.run.c.parent_run_id == t.leftover.c.run_id)),
        sa.not_(sql.there_is(t.journal.c.run_id == t.leftover.c.run_id)),
    )
)


def forget(connection: Connection, run: UUID) -> None:
    """Forget a deleted run, if no child run and no row of its journal is left."""
    connection.rows(_FORGET, {"run_id": run})

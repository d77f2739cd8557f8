"""Deletes hints for tokens that are gone; a relay would send each at its time, for nothing."""

from __future__ import annotations

import sqlalchemy as sa

from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one

_page = (
    sa.select(t.outbox.c.id, t.outbox.c.token_id)
    .where(t.outbox.c.id > sql.big("after"))
    .order_by(t.outbox.c.id)
    .limit(sql.integer("page"))
    .cte("page")
)
# A hint is never committed before its token.
_without_token = sa.select(_page.c.id).where(
    _page.c.token_id.is_not(None), sa.not_(sql.there_is(t.token.c.id == _page.c.token_id))
)
_strays = (
    sa.select(t.outbox.c.id)
    .where(sql.any_of(t.outbox.c.id, _without_token))
    .with_for_update(skip_locked=True)
)
_deleted = sa.delete(t.outbox).where(sql.any_of(t.outbox.c.id, _strays)).cte("deleted")

_SWEEP = Statement(
    sa.select(
        sa.case((sa.func.count() == sql.integer("page"), sa.func.max(_page.c.id))).label("reached")
    ).add_cte(_deleted)
)


def sweep(connection: Connection, after: int, page: int) -> int | None:
    """Delete strays among the `page` rows of the outbox after the id `after`.

    Returns the last id that was looked at; None at the end of the outbox. Tasks that units have
    sent have no token, and stay.
    """
    row = one(connection, _SWEEP, {"after": after, "page": page})
    return row["reached"] if row else None

"""The lease that relays share for pruning: one of them prunes at a time."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert

from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one

# A relay that gets no lease writes and locks nothing; see `scan_lease`.
# A time further off than any lease is from before the clock was set back.
_is_taken = sa.and_(
    t.recovery.c.prune_at > sql.clock, t.recovery.c.prune_at <= sql.clock + sql.interval("longest")
)
_until = sql.clock + sql.interval("lease")
_lease = sa.select(sa.literal_column("1"), sql.clock, _until).where(
    sa.not_(sa.exists().where(_is_taken))
)
_taken = upsert(t.recovery).from_select(["id", "next_at", "prune_at"], _lease)

_TAKE = Statement(
    _taken.on_conflict_do_update(
        index_elements=["id"],
        set_={"prune_at": _taken.excluded.prune_at},
        where=sa.not_(sa.func.coalesce(_is_taken, sa.false())),
    ).returning(t.recovery.c.id)
)


def take(connection: Connection, lease: timedelta, longest: timedelta) -> bool:
    """Take the lease; False while another relay has it, or pauses after it.

    Nobody else gets it before `lease` is over; none is longer than `longest`.
    """
    return one(connection, _TAKE, {"lease": lease, "longest": longest}) is not None


_KEEP = Statement(sa.update(t.recovery).values(prune_at=_until))


def keep(connection: Connection, lease: timedelta) -> None:
    """Keep the lease for so long from now; after a pass it is the pause of all."""
    connection.rows(_KEEP, {"lease": lease})

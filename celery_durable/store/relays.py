"""The rows of relays: that each is there, and what keeps it from publishing.

Nothing depends on them but what people are told (`read.facts`).
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement

_LONG_AGO: sa.ColumnElement[bool] = t.relay.c.seen_at < sql.clock - sa.literal_column(
    "interval '1 hour'"
)

_outage = sql.text("outage")
_new = insert(t.relay).values(
    id=sql.uuid("id"),
    hostname=sql.text("hostname"),
    pid=sql.integer("pid"),
    outage=_outage,
    outage_since=sa.case((_outage.is_not(None), sql.clock)),
)
_SEEN = Statement(
    _new.on_conflict_do_update(
        index_elements=[t.relay.c.id],
        set_={
            "seen_at": sql.clock,
            "outage": _new.excluded.outage,
            "outage_since": sa.case(
                (
                    _new.excluded.outage.is_not(None),
                    sa.func.coalesce(t.relay.c.outage_since, sql.clock),
                )
            ),
        },
    )
)

_FORGET = Statement(sa.delete(t.relay).where(_LONG_AGO))
_GONE = Statement(sa.delete(t.relay).where(sa.or_(t.relay.c.id == sql.uuid("id"), _LONG_AGO)))


@dataclass(frozen=True, slots=True)
class RelayFacts:
    """One relay, in a worker or a process of its own."""

    id: UUID
    hostname: str
    pid: int


def seen(connection: Connection, relay: RelayFacts, outage: str | None) -> None:
    """Write that the relay is there, and what keeps it from publishing; None for nothing."""
    connection.rows(
        _SEEN,
        {"id": relay.id, "hostname": relay.hostname, "pid": relay.pid, "outage": outage},
    )


def gone(connection: Connection, relay: RelayFacts) -> None:
    """Delete the relay's row, and those of relays that have long not been seen."""
    connection.rows(_GONE, {"id": relay.id})


def forget(connection: Connection) -> None:
    """Delete the rows of relays that have long not been seen."""
    connection.rows(_FORGET)

"""The lease that relays share for scanning tokens: who scans the next page, and when (ADR 0015)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from celery_durable.store import inbox, lost_hints, signals, sql, workers
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one
from celery_durable.store.lost_hints import Paces

# A relay that gets no lease writes and locks nothing. Of relays that ask at once, one writes; the
# others wait for it and then find the lease taken.
# A time further off than any lease is from before the clock was set back.
_is_soon = sa.and_(
    t.recovery.c.next_at > sql.clock, t.recovery.c.next_at <= sql.clock + sql.interval("lease")
)
_is_free = sa.not_(sa.exists().where(_is_soon))
_lease = sa.select(sa.literal_column("1"), sql.clock + sql.interval("lease")).where(_is_free)
_taken = upsert(t.recovery).from_select(["id", "next_at"], _lease)

_paces_now = lost_hints.PACES.subquery("paces_now")

_TAKE = Statement(
    _taken.on_conflict_do_update(
        index_elements=["id"],
        set_={"next_at": _taken.excluded.next_at},
        where=sa.not_(_is_soon),
    ).returning(
        t.recovery.c.reached,
        sql.json_text(t.recovery.c.paces),
        sql.json_text(
            sa.select(sa.func.json_object_agg(*_paces_now.c)).scalar_subquery(), "paces_now"
        ),
        lost_hints.HAS_COME.label("has_come"),
        inbox.HAS_COMMANDS.label("has_commands"),
        sa.or_(workers.HAS_LONG_ENDED, signals.HAS_UNCONSUMED).label("has_old"),
    )
)


@dataclass(frozen=True, slots=True)
class ScanLease:
    """The right to scan the page of tokens after `reached`; None: a new round begins.

    `paces` is what the holder before has written, `paces_now` what is seen now. The rest is what
    there is to do besides: tokens whose time has come, commands, and what may be forgotten.
    """

    reached: UUID | None
    paces: Paces
    paces_now: Paces
    has_come: bool
    has_commands: bool
    has_old: bool


def take(connection: Connection, ttl: timedelta, age: timedelta) -> ScanLease | None:
    """Take the lease; None while another relay holds it, or pauses after it.

    No other relay gets it until `end` and the pause that follows, or until `ttl` is over. Every
    pause is shorter than `ttl`. `age` is the one after which ended workers may be forgotten.
    """
    row = one(connection, _TAKE, {"lease": ttl, "age": age, **lost_hints.TIMES})
    if row is None:
        return None
    paces, now = json.loads(row["paces"]), json.loads(row["paces_now"] or "{}")
    return ScanLease(**{**row, "paces": paces, "paces_now": now})


_END = Statement(
    sa.update(t.recovery).values(
        reached=sql.uuid("reached"),
        next_at=sql.clock + sql.interval("pause"),
        looked_at=sa.case((sql.boolean("saw_all"), sql.clock), else_=t.recovery.c.looked_at),
        paces=sa.cast(sql.text("paces"), JSONB),
    )
)


def end(
    connection: Connection, reached: UUID | None, pause: timedelta, paces: Paces, *, saw_all: bool
) -> None:
    """End the lease after its page was scanned; the next one begins after `pause`.

    `saw_all`: every token whose time had come was looked at too.
    """
    parameters = {"reached": reached, "pause": pause, "saw_all": saw_all}
    connection.rows(_END, {**parameters, "paces": json.dumps(paces)})


_PACES = Statement(sa.select(sql.json_text(t.recovery.c.paces)))


def known_paces(connection: Connection) -> Paces:
    """The paces that the last holder of the lease has written."""
    row = one(connection, _PACES, {})
    return json.loads(row["paces"]) if row else {}

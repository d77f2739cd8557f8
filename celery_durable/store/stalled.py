"""Finding claimable tokens that nothing is about to move: their hints got lost.

Whether a token is claimable may depend on other rows, so each must be looked at. That is done a
page at a time, in the order of the primary key; no index helps, so no step has to keep one up to
date (ADR 0015). Relays share one round of all pages, and take turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert

from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one
from celery_durable.store.outbox import AT_ONCE, CALLS, put_hints
from celery_durable.store.tokens import IS_CLAIMABLE

_doublings = sa.func.power(
    sa.literal_column("2"), sa.func.least(t.token.c.hints, sa.literal_column("30"))
)

_seconds = sa.func.least(sql.number("first_after") * _doublings, sql.number("at_most"))

_patience: Any = sa.literal_column("interval '1 second'") * _seconds

# What is asked or waited for may have come at any time; what is only due was due from its time on.
_is_only_due = sa.and_(t.token.c.flags == sa.literal_column("0"), t.token.c.wake_at <= sql.clock)
_due_since: Any = sa.func.greatest(t.token.c.hinted_at, t.token.c.wake_at)

_hinted_already = sa.exists().where(
    t.outbox.c.token_id == t.token.c.id,
    t.outbox.c.fence == t.token.c.fence,
    sa.or_(CALLS, t.outbox.c.available_at <= sql.clock),
)

_first, _last = UUID(int=0), UUID(int=2**128 - 1)

_page_end = (
    sa.select(t.token.c.id)
    .where(t.token.c.id > sql.uuid("after"))
    .order_by(t.token.c.id)
    .offset(sql.integer("page") - sa.literal_column("1"))
    .limit(sa.literal_column("1"))
    .cte("page_end")
)

_reached = sa.select(_page_end.c.id).scalar_subquery()

_stalled = (
    sa.select(t.token.c.id)
    .where(
        t.token.c.id > sql.uuid("after"),
        t.token.c.id <= sa.func.coalesce(_reached, sql.uuid("last")),
        t.token.c.claimed_by.is_(None),
        # Of two that look at once, the second waits for nothing: it skips what the first has
        # locked, and finds `hinted_at` changed in what the first has committed.
        sa.or_(
            sa.case((_is_only_due, _due_since), else_=t.token.c.hinted_at) + _patience < sql.clock,
            # Nothing was hinted in a time to come: it is from before the clock was set back.
            t.token.c.hinted_at > sql.clock,
        ),
        # CASE, because AND promises no order: few are claimable, and the rest need no second look.
        sa.case((IS_CLAIMABLE, sa.not_(_hinted_already)), else_=sa.false()),
    )
    .with_for_update(skip_locked=True)
)

_again = (
    sa.update(t.token)
    .where(t.token.c.id.in_(_stalled))
    .values(hinted_at=sql.clock, hints=t.token.c.hints + 1)
    .returning(*t.token.c)
    .cte("again")
)

_HINT_AGAIN = Statement(
    sa.select(
        _reached.label("reached"),
        sa.select(sa.func.count()).select_from(_again).scalar_subquery().label("hinted"),
    ).add_cte(put_hints(_again, at=AT_ONCE).cte("hinted"))
)


@dataclass(frozen=True, slots=True)
class Page:
    """How many hints a page of tokens needed, and its last token; None: no token comes after it."""

    hinted: int
    reached: UUID | None


def hint_again(
    connection: Connection,
    after: UUID | None,
    page: int,
    first_after: timedelta,
    at_most: timedelta,
) -> Page:
    """Look at the next `page` tokens, and put a hint for each whose last one must be lost.

    A hint is taken for lost after `first_after`, then after twice as long each time, never longer
    than `at_most`: a hint that waits in a long broker queue is not lost, and the queue must not be
    flooded.
    """
    parameters = {
        "after": after or _first,
        "last": _last,
        "page": page,
        "first_after": first_after.total_seconds(),
        "at_most": at_most.total_seconds(),
    }
    row = one(connection, _HINT_AGAIN, parameters)
    assert row is not None
    return Page(**row)


# Nothing is written, nor locked, by those whose turn it is not. Of those who come at once, one
# writes; the others wait for it and then find that it is not their turn.
# A time further off than anybody ever says is from before the clock was set back.
_is_soon = sa.and_(
    t.recovery.c.next_at > sql.clock, t.recovery.c.next_at <= sql.clock + sql.interval("lease")
)
_is_their_turn = sa.not_(sa.exists().where(_is_soon))
_turn = sa.select(sa.literal_column("1"), sql.clock + sql.interval("lease")).where(_is_their_turn)
_taken = upsert(t.recovery).from_select(["id", "next_at"], _turn)

_TAKE_TURN = Statement(
    _taken.on_conflict_do_update(
        index_elements=["id"],
        set_={"next_at": _taken.excluded.next_at},
        where=sa.not_(_is_soon),
    ).returning(t.recovery.c.reached)
)


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to look at the page of tokens after this one; None: a round begins."""

    reached: UUID | None


def take_turn(connection: Connection, lease: timedelta) -> Turn | None:
    """The next turn, or None when it is not time for one.

    Nobody else gets one until `end_turn`, or until `lease` is over. Every pause is shorter.
    """
    row = one(connection, _TAKE_TURN, {"lease": lease})
    return Turn(**row) if row else None


_END_TURN = Statement(
    sa.update(t.recovery).values(
        reached=sql.uuid("reached"), next_at=sql.clock + sql.interval("pause")
    )
)


def end_turn(connection: Connection, reached: UUID | None, pause: timedelta) -> None:
    """The page has been looked at; the next turn is after `pause`."""
    connection.rows(_END_TURN, {"reached": reached, "pause": pause})

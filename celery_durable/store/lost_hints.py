"""Finding claimable tokens that nothing is about to move: their hints got lost.

A token whose hint has been put, or sent, says when to look at it (`look_at`); a look costs the same
however many wait for something else. Whatever else may have been lost is found by looking at all of
them, a page at a time, in the order of the primary key; that is no hurry. Relays share both, and
take turns (ADR 0015).

How long a hint may take is a matter of its queue: of how long those waited that its consumers have
taken last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one
from celery_durable.store.outbox import AT_ONCE, CALLS, put_hints
from celery_durable.store.tokens import IS_CLAIMABLE

Paces = Mapping[str, float]
"""Seconds that hints wait in a queue until somebody follows them, by queue."""

PACE_SHOWN_FOR = 30.0
"""Seconds for which what somebody has in hand says how quickly its queue moves."""

LOOKED_BACK = timedelta(minutes=1)
FURTHEST = timedelta(minutes=15)
"""How long a commit takes at most that writes when to look; how far off that is at most. A time
further off is from before the clock was set back.
"""

_second: Any = sa.literal_column("interval '1 second'")

_waited = sql.seconds(t.token.c.since - sa.func.greatest(t.token.c.hinted_at, t.token.c.wake_at))
_is_recent = t.token.c.since > sql.clock - PACE_SHOWN_FOR * _second
_idle = sql.seconds(sql.clock - sa.func.max(t.token.c.since))

_PACES = Statement(
    sa.select(
        t.token.c.queue,
        # Where nothing was taken for long, all that consume it may be busy; or only some.
        sa.func.greatest(
            sa.func.max(_waited).filter(_is_recent),
            sa.func.least(_idle, sa.literal_column(str(PACE_SHOWN_FOR))),
        ).label("pace"),
    )
    .where(t.token.c.claimed_by.is_not(None), t.token.c.wait.is_(None))
    .group_by(t.token.c.queue)
)


def paces(connection: Connection) -> Paces:
    """What is in hand now, and how long its hints had waited."""
    return {row["queue"]: float(row["pace"]) for row in connection.rows(_PACES)}


_doublings = sa.func.power(
    sa.literal_column("2"), sa.func.least(t.token.c.hints, sa.literal_column("30"))
)

_pace: Any = sa.func.coalesce(
    sa.cast(sa.cast(sql.text("paces"), JSONB)[t.token.c.queue].astext, sa.Double()),
    sa.literal_column("0"),
)

_patience: Any = _second * sa.func.greatest(
    sa.func.least(sql.number("first_after") * _doublings, sql.number("at_most")), 2 * _pace
)

# What is asked or waited for may have come at any time; what is only due was due from its time on.
_is_only_due = sa.and_(t.token.c.flags == sa.literal_column("0"), t.token.c.wake_at <= sql.clock)
_due_since: Any = sa.func.greatest(t.token.c.hinted_at, t.token.c.wake_at)
_since: Any = sa.case((_is_only_due, _due_since), else_=t.token.c.hinted_at)

# Nothing was hinted in a time to come: it is from before the clock was set back.
_is_overdue = sa.or_(_since + _patience < sql.clock, t.token.c.hinted_at > sql.clock)

_is_hinted = sa.exists().where(
    t.outbox.c.token_id == t.token.c.id,
    t.outbox.c.fence == t.token.c.fence,
    sa.or_(CALLS, t.outbox.c.available_at <= sql.clock),
)

# To a queue that none of the live workers consumes one message is enough. A process that does not
# know what its worker consumes may consume anything; where none has registered, nobody knows.
_is_live = t.worker.c.ended_at.is_(None)
_may_consume = sa.or_(
    t.worker.c.queues.contains(sa.func.to_jsonb(t.token.c.queue)),
    t.worker.c.queues == sa.cast(sql.word("[]"), JSONB),
)
_is_consumed = sa.or_(
    sa.exists().where(_is_live, _may_consume), sa.not_(sa.exists().where(_is_live))
)

# CASE, because AND promises no order: few are claimable, and the rest need no second look.
_may_be_lost = sa.case((IS_CLAIMABLE, sa.and_(sa.not_(_is_hinted), _is_consumed)), else_=sa.false())

_ids = sa.select(t.token.c.id)

# Never with `clock_timestamp()`, which no index helps to find.
_looked_at = sa.select(
    sa.func.least(t.recovery.c.looked_at, sa.func.now()) - sql.interval("back")
).scalar_subquery()
_is_unclaimed = t.token.c.claimed_by.is_(None)
_has_come = (
    _ids.where(
        _is_unclaimed,
        t.token.c.look_at
        > sa.func.coalesce(_looked_at, sa.literal_column("'-infinity'::timestamptz")),
        t.token.c.look_at <= sa.func.now(),
    )
    .order_by(t.token.c.look_at)
    .limit(sql.integer("page"))
)
_is_too_far = t.token.c.look_at > sa.func.now() + sql.interval("furthest")
_before_a_set_back = _ids.where(_is_unclaimed, _is_too_far).limit(sql.integer("page"))

_judged = (
    sa.select(
        t.token.c.id,
        sa.and_(_may_be_lost, _is_overdue).label("is_lost"),
        _may_be_lost.label("may_be_lost"),
        sa.func.greatest(_since + _patience, sql.clock + _second).label("look_at"),
    )
    .where(
        t.token.c.id.in_(
            _has_come.subquery("has_come")
            .select()
            .union_all(_before_a_set_back.subquery("too_far").select())
        ),
        _is_unclaimed,
    )
    .with_for_update(skip_locked=True)
    .cte("judged")
)


def _is_after(when: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The time at which to look again, within bounds."""
    return sa.func.least(when, sql.clock + sql.number("at_most") * _second)


_next_patience = sql.clock + 2 * _patience

_looked = (
    sa.update(t.token)
    .where(t.token.c.id == _judged.c.id)
    .values(
        hinted_at=sa.case((_judged.c.is_lost, sql.clock), else_=t.token.c.hinted_at),
        hints=t.token.c.hints + sa.cast(_judged.c.is_lost, sa.Integer),
        look_at=sa.case(
            (_judged.c.is_lost, _is_after(_next_patience)),
            (_judged.c.may_be_lost, _is_after(_judged.c.look_at)),
            else_=sa.null(),
        ),
    )
    .returning(*t.token.c, _judged.c.is_lost)
    .cte("looked")
)

_lost = sa.select(_looked).where(_looked.c.is_lost).cte("lost")


def _count(rows: Any) -> Any:
    return sa.select(sa.func.count()).select_from(rows).scalar_subquery()


_LOOK = Statement(
    sa.select(_count(_looked).label("seen"), _count(_lost).label("hinted")).add_cte(
        put_hints(_lost, at=AT_ONCE).cte("hinted")
    )
)


@dataclass(frozen=True, slots=True)
class Look:
    """How many tokens it was time to look at, and how many of them needed a hint."""

    seen: int
    hinted: int


@dataclass(frozen=True, slots=True)
class Patience:
    """When a hint is taken for lost: after `first_after`, or after twice what its queue's pace is;
    then after twice as long each time, never more than `at_most` by itself.

    So a hint that waits in a long broker queue is not sent again, and no queue is flooded.
    """

    first_after: timedelta
    at_most: timedelta
    paces: Paces

    @property
    def parameters(self) -> dict[str, Any]:
        """As the statements take them."""
        return {
            "first_after": self.first_after.total_seconds(),
            "at_most": self.at_most.total_seconds(),
            "paces": json.dumps(self.paces),
        }


def look(connection: Connection, page: int, patience: Patience) -> Look:
    """Look at up to `page` tokens whose time to be looked at has come."""
    where = {"page": page, "back": LOOKED_BACK, "furthest": FURTHEST}
    row = one(connection, _LOOK, {**where, **patience.parameters})
    assert row is not None
    return Look(**row)


_first, _last = UUID(int=0), UUID(int=2**128 - 1)

_page_end = (
    _ids.where(t.token.c.id > sql.uuid("after"))
    .order_by(t.token.c.id)
    .offset(sql.integer("page") - sa.literal_column("1"))
    .limit(sa.literal_column("1"))
    .cte("page_end")
)

_reached = sa.select(_page_end.c.id).scalar_subquery()

_stalled = _ids.where(
    t.token.c.id > sql.uuid("after"),
    t.token.c.id <= sa.func.coalesce(_reached, sql.uuid("last")),
    _is_unclaimed,
    # Of two that look at once, the second waits for nothing: it skips what the first has locked,
    # and finds `hinted_at` changed in what the first has committed.
    _is_overdue,
    _may_be_lost,
).with_for_update(skip_locked=True)

_again = (
    sa.update(t.token)
    .where(t.token.c.id.in_(_stalled))
    .values(
        hinted_at=sql.clock,
        hints=t.token.c.hints + 1,
        look_at=_is_after(_next_patience),
    )
    .returning(*t.token.c)
    .cte("again")
)

_HINT_AGAIN = Statement(
    sa.select(_reached.label("reached"), _count(_again).label("hinted")).add_cte(
        put_hints(_again, at=AT_ONCE).cte("hinted")
    )
)


@dataclass(frozen=True, slots=True)
class Page:
    """How many hints a page of tokens needed, and its last token; None: no token comes after it."""

    hinted: int
    reached: UUID | None


def hint_again(connection: Connection, after: UUID | None, page: int, patience: Patience) -> Page:
    """Look at the next `page` tokens, and put a hint for each whose last one must be lost."""
    where = {"after": after or _first, "last": _last, "page": page}
    row = one(connection, _HINT_AGAIN, {**where, **patience.parameters})
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
    ).returning(t.recovery.c.reached, sql.json_text(t.recovery.c.paces))
)


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to look at the page of tokens after this one; None: a round begins.

    `paces` is what those said who had their turn before.
    """

    reached: UUID | None
    paces: Paces


def take_turn(connection: Connection, lease: timedelta) -> Turn | None:
    """The next turn, or None when it is not time for one.

    Nobody else gets one until `end_turn`, or until `lease` is over. Every pause is shorter.
    """
    row = one(connection, _TAKE_TURN, {"lease": lease})
    return Turn(row["reached"], json.loads(row["paces"])) if row else None


_END_TURN = Statement(
    sa.update(t.recovery).values(
        reached=sql.uuid("reached"),
        next_at=sql.clock + sql.interval("pause"),
        looked_at=sa.case((sql.boolean("saw_all"), sql.clock), else_=t.recovery.c.looked_at),
        paces=sa.cast(sql.text("paces"), JSONB),
    )
)


def end_turn(
    connection: Connection, reached: UUID | None, pause: timedelta, paces: Paces, *, saw_all: bool
) -> None:
    """The page has been looked at; the next turn is after `pause`.

    `saw_all`: so has every token whose time had come.
    """
    parameters = {"reached": reached, "pause": pause, "saw_all": saw_all}
    connection.rows(_END_TURN, {**parameters, "paces": json.dumps(paces)})


_KNOWN_PACES = Statement(sa.select(sql.json_text(t.recovery.c.paces)))


def known_paces(connection: Connection) -> Paces:
    """What those said who had their turn last."""
    row = one(connection, _KNOWN_PACES, {})
    return json.loads(row["paces"]) if row else {}

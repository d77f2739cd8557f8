"""Finds claimable tokens whose hints were lost, and puts new hints for them.

A token whose hint was put or sent has a time at which to look at it (`look_at`). Looking at those
costs the same however many tokens wait for something else. What else may have been lost is found,
without hurry, by a scan of all tokens: a page at a time, in the order of the primary key. Relays
share both, one at a time (`scan_lease`; ADR 0015).

How long a hint may take depends on its queue: on how long the hints waited that its consumers have
followed last.
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

from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one
from celery_durable.store.outbox import AT_ONCE, IS_AT_ONCE, put_hints
from celery_durable.store.tokens import IS_CLAIMABLE

Paces = Mapping[str, float]
"""Seconds that hints wait until a worker follows them, by queue."""

PACE_SHOWN_FOR = 30.0
"""Seconds after its claim for which a token says how quickly its queue moves."""

LOOKED_BACK = timedelta(minutes=1)
FURTHEST = timedelta(minutes=15)
"""The longest time that a commit which writes `look_at` takes; the furthest `look_at` from now. A
time further off is from before the clock was set back.
"""

TIMES: Mapping[str, timedelta] = {"back": LOOKED_BACK, "furthest": FURTHEST}
"""Parameters of what finds the tokens whose time to be looked at has come."""

_second: Any = sa.literal_column("interval '1 second'")

_waited = sql.seconds(t.token.c.since - sa.func.greatest(t.token.c.hinted_at, t.token.c.wake_at))
_is_recent = t.token.c.since > sql.clock - PACE_SHOWN_FOR * _second
_idle = sql.seconds(sql.clock - sa.func.max(t.token.c.since))

PACES = (
    sa.select(
        t.token.c.queue,
        # Where nothing was claimed for long, all consumers of the queue may be busy, or only some.
        sa.func.greatest(
            sa.func.max(_waited).filter(_is_recent),
            sa.func.least(_idle, sa.literal_column(str(PACE_SHOWN_FOR))),
        ).label("pace"),
    )
    .where(t.token.c.claimed_by.is_not(None), t.token.c.wait.is_(None))
    .group_by(t.token.c.queue)
)
"""The queue and the pace of the tokens that are claimed now."""

_PACES = Statement(PACES)


def paces(connection: Connection) -> Paces:
    """How long the hints of the tokens that are claimed now had waited, by queue."""
    return {row["queue"]: float(row["pace"]) for row in connection.rows(_PACES)}


_doublings = sa.func.power(
    sa.literal_column("2"), sa.func.least(t.token.c.hints, sa.literal_column("30"))
)

_pace: Any = sa.func.coalesce(
    sa.cast(sa.cast(sql.text("paces"), JSONB)[t.token.c.queue].astext, sa.Double()),
    sa.literal_column("0"),
)

_timeout: Any = _second * sa.func.greatest(
    sa.func.least(sql.number("first_after") * _doublings, sql.number("at_most")), 2 * _pace
)

# A flag, or what a token waits for, may have come at any time. A token that is only due was due
# from its time on.
_is_only_due = sa.and_(t.token.c.flags == sa.literal_column("0"), t.token.c.wake_at <= sql.clock)
_due_since: Any = sa.func.greatest(t.token.c.hinted_at, t.token.c.wake_at)
_since: Any = sa.case((_is_only_due, _due_since), else_=t.token.c.hinted_at)

# A `hinted_at` in the future is from before the clock was set back.
_is_overdue = sa.or_(_since + _timeout < sql.clock, t.token.c.hinted_at > sql.clock)

_is_hinted = sa.exists().where(
    t.outbox.c.token_id == t.token.c.id,
    t.outbox.c.fence == t.token.c.fence,
    sa.or_(IS_AT_ONCE, t.outbox.c.available_at <= sql.clock),
)

# One message is enough for a queue that no live worker consumes. A process that does not know what
# its worker consumes may consume anything; where no worker is registered, nothing is known.
_is_live = t.worker.c.ended_at.is_(None)
_may_consume = sa.or_(
    t.worker.c.queues.contains(sa.func.to_jsonb(t.token.c.queue)),
    t.worker.c.queues == sa.cast(sql.word("[]"), JSONB),
)
_is_consumed = sa.or_(
    sa.exists().where(_is_live, _may_consume), sa.not_(sa.exists().where(_is_live))
)


_needs_hint = sa.and_(sa.not_(_is_hinted), _is_consumed)


# CASE, because AND promises no order: few tokens are claimable, and only those need the rest.
def _if_claimable(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    return sa.case((IS_CLAIMABLE, condition), else_=sa.false())


_may_be_lost = _if_claimable(_needs_hint)
_is_published = _if_claimable(sa.not_(_is_hinted))

_ids = sa.select(t.token.c.id)

# `now()`, not `clock_timestamp()`: no index finds a time that may change from row to row.
_looked_at = sa.select(
    sa.func.least(t.recovery.c.looked_at, sa.func.now()) - sql.interval("back")
).scalar_subquery()
_is_unclaimed = t.token.c.claimed_by.is_(None)
_coming = _ids.where(
    _is_unclaimed,
    t.token.c.look_at > sa.func.coalesce(_looked_at, sa.literal_column("'-infinity'::timestamptz")),
    t.token.c.look_at <= sa.func.now(),
).order_by(t.token.c.look_at)
_has_come = _coming.limit(sql.integer("page"))
_is_too_far = t.token.c.look_at > sa.func.now() + sql.interval("furthest")
_far = _ids.where(_is_unclaimed, _is_too_far)
_before_a_set_back = _far.limit(sql.integer("page"))

HAS_COME = sa.or_(sql.is_found(_coming), sql.is_found(_far.order_by(t.token.c.look_at)))
"""True if `look` would find a token to look at; with the parameters `TIMES`."""

_judged = (
    sa.select(
        t.token.c.id,
        sa.and_(_may_be_lost, _is_overdue).label("is_lost"),
        _may_be_lost.label("may_be_lost"),
        _is_published.label("is_published"),
        sa.func.greatest(_since + _timeout, sql.clock + _second).label("look_at"),
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


def _capped(when: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The time at which to look again, at most `at_most` seconds from now."""
    return sa.func.least(when, sql.clock + sql.number("at_most") * _second)


_next_look_at = sql.clock + 2 * _timeout

_looked = (
    sa.update(t.token)
    .where(t.token.c.id == _judged.c.id)
    .values(
        hinted_at=sa.case((_judged.c.is_lost, sql.clock), else_=t.token.c.hinted_at),
        hints=t.token.c.hints + sa.cast(_judged.c.is_lost, sa.Integer),
        look_at=sa.case(
            (_judged.c.is_lost, _capped(_next_look_at)),
            (_judged.c.may_be_lost, _capped(_judged.c.look_at)),
            # Nobody consumes its queue. Who looks at queues finds it by this (`read.fleet`).
            (_judged.c.is_published, sql.clock + sql.number("at_most") * _second),
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
    """How many tokens were looked at, whose time had come, and how many of them got a hint."""

    seen: int
    hinted: int


@dataclass(frozen=True, slots=True)
class HintTimeouts:
    """How long after it was put a hint counts as lost.

    First `first_after`, then twice as long each time, up to `at_most`; never less than twice the
    pace of its queue. So a hint that waits in a long broker queue is not sent again, and no queue
    is flooded.
    """

    first_after: timedelta
    at_most: timedelta
    paces: Paces

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the statements."""
        return {
            "first_after": self.first_after.total_seconds(),
            "at_most": self.at_most.total_seconds(),
            "paces": json.dumps(self.paces),
        }


def look(connection: Connection, page: int, timeouts: HintTimeouts) -> Look:
    """Look at up to `page` tokens whose `look_at` has come; put hints for lost ones."""
    row = one(connection, _LOOK, {**TIMES, "page": page, **timeouts.parameters})
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
    # Of two scans at once the second waits for nothing: it skips what the first has locked, and
    # finds `hinted_at` changed in what the first has committed.
    _if_claimable(sa.and_(_is_overdue, _needs_hint)),
).with_for_update(skip_locked=True)

_again = (
    sa.update(t.token)
    .where(t.token.c.id.in_(_stalled))
    .values(
        hinted_at=sql.clock,
        hints=t.token.c.hints + 1,
        look_at=_capped(_next_look_at),
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
    """How many hints a page of tokens needed, and its last token; None: it was the last page."""

    hinted: int
    reached: UUID | None


def hint_again(
    connection: Connection, after: UUID | None, page: int, timeouts: HintTimeouts
) -> Page:
    """Scan the `page` tokens after `after`; put hints for those that lost theirs."""
    where = {"after": after or _first, "last": _last, "page": page}
    row = one(connection, _HINT_AGAIN, {**where, **timeouts.parameters})
    assert row is not None
    return Page(**row)

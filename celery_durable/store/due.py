"""Looks for outbox rows that are due, and takes them in their order.

A row that is due at once is in a *lane*: there is one for each queue, priority and crowd. In a lane
the oldest go first, by id. A relay remembers how far it has come (`background.backlog`), since an
index may hold many deleted rows: Postgres removes them only when no transaction in the whole
cluster may still see them. https://www.postgresql.org/docs/current/routine-vacuuming.html

A row that has a time moves into its lane when the time has come, with a new id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from celery_durable.store import codec, sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one
from celery_durable.store.outbox import ADVANCE, IS_AT_ONCE, LOOK_AT


class Lane(NamedTuple):
    """Rows that are due at once, of one queue; `queue` is empty where the app's routes decide.

    `crowd` is the logarithm, to base 2, of how many rows its run has put before it in the same
    statement: the thousands of rows of a large map are in lanes of their own.
    """

    queue: str
    priority: int
    crowd: int


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look has found: first and last id of each lane, and the seconds to the next time.

    `newest` is the largest id, also of rows that have a time; None if there was none to see.
    """

    lanes: Mapping[Lane, tuple[int, int]]
    seconds_to_next: float | None
    newest: int | None = None

    @property
    def queues(self) -> set[str]:
        """The queues for which rows are due."""
        return {lane.queue for lane in self.lanes}

    @property
    def has_come(self) -> bool:
        """True if the time of a row has come."""
        return self.seconds_to_next is not None and self.seconds_to_next <= 0


NOTHING = Sight({}, None)

# Below `now()`, not `clock_timestamp()`: no index finds a time that may change from row to row.
_at_once = t.outbox.c.available_at.is_(None)
_ends = sa.func.min(t.outbox.c.id), sa.func.max(t.outbox.c.id)
_lane = t.outbox.c.queue, t.outbox.c.priority, t.outbox.c.crowd
_everything = sa.select(*_lane, *_ends).where(_at_once)
# Found by the index of the ids: that of the lanes would be read from its beginning.
_newest = (
    sa.select(*_lane, *(end.filter(_at_once) for end in _ends))
    .where(t.outbox.c.id > sql.big("after"))
    .having(sa.func.bool_or(_at_once))
)

_is_timed = t.outbox.c.available_at > sa.func.now() - sql.interval("back")

_seconds_to_next = (
    sa.select(sql.seconds(t.outbox.c.available_at - sql.clock))
    .where(_is_timed)
    .order_by(t.outbox.c.available_at)
    .limit(sa.literal_column("1"))
    .scalar_subquery()
    .label("seconds_to_next")
)


# From the end, and no further back than a relay has come: deleted rows may lie there.
_last = (
    sa.select(t.outbox.c.id)
    .where(t.outbox.c.id > sql.big("after"))
    .order_by(t.outbox.c.id.desc())
    .limit(sa.literal_column("1"))
    .scalar_subquery()
    .label("newest")
)


def _looking(rows: Any) -> Statement:
    lanes = sql.json_rows(rows.group_by(*_lane), "lanes")
    return Statement(sa.select(lanes, _seconds_to_next, _last))


_LOOK, _LOOK_AT_EVERYTHING = _looking(_newest), _looking(_everything)


def look(connection: Connection, after: int, back: float, *, everything: bool = False) -> Sight:
    """Look which rows are due: of ids above `after`, or of all where `everything` is true.

    Times that came more than `back` seconds ago are left out.
    """
    parameters = {"after": after, "back": timedelta(seconds=back)}
    row = one(connection, _LOOK_AT_EVERYTHING if everything else _LOOK, parameters)
    assert row is not None
    found = json.loads(row["lanes"] or "[]")
    lanes = {Lane(*lane): (first, last) for *lane, first, last in found}
    seconds = row["seconds_to_next"]
    return Sight(lanes, None if seconds is None else float(seconds), row["newest"])


_has_come = (
    sa.select(t.outbox.c.id)
    .where(_is_timed, t.outbox.c.available_at <= sa.func.now())
    .order_by(t.outbox.c.available_at)
    .limit(sql.integer("batch"))
    .with_for_update(skip_locked=True)
)

_MOVE_INTO_LANES = Statement(
    sa.update(t.outbox)
    .where(t.outbox.c.id.in_(_has_come))
    .values(id=sa.literal_column("DEFAULT"), available_at=sa.null())
    .returning(t.outbox.c.id)
)


def move_into_lanes(connection: Connection, back: float, batch: int) -> int:
    """Move up to `batch` rows whose time has come into their lanes; return how many."""
    return len(connection.rows(_MOVE_INTO_LANES, {"back": timedelta(seconds=back), "batch": batch}))


@dataclass(frozen=True, slots=True)
class DueMessage:
    """One due row of the outbox; it is a hint if it has a `token_id`.

    `runs` are those that it is about. `single`: its token has a message of its own. `crowd` is that
    of its lane. `others` are rows that this message stands for, too.
    """

    id: int
    task: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]
    tries: int
    token_id: UUID | None = None
    single: bool = False
    crowd: int = 0
    others: tuple[int, ...] = ()
    runs: tuple[UUID, ...] = ()

    @property
    def queue(self) -> str | None:
        """The queue it is for; None where the app's routes decide."""
        return self.options.get("queue")

    @property
    def may_be_bundled(self) -> bool:
        """True if a message may name this hint's token beside others."""
        is_first_try = self.tries == 0  # what the broker has refused is sent alone
        is_one_hint = self.task == ADVANCE and len(self.args) == 1
        return is_one_hint and is_first_try and not self.single

    @property
    def says(self) -> object:
        """Equal for hints that say the same: of these one is enough."""
        return self.id if self.token_id is None else (self.task, *self.args)


HANG_TIMEOUT = "30s"
"""For how long a relay's transaction may wait for the broker; then Postgres ends it."""

_bounded = sa.select(
    sa.func.set_config(
        sa.literal_column("'idle_in_transaction_session_timeout'"),
        sa.literal_column(f"'{HANG_TIMEOUT}'"),
        sa.true(),
    ).label("value")
).cte("bounded")

_TAKE = Statement(
    sa.select(
        t.outbox.c.id,
        t.outbox.c.task,
        sql.json_text(t.outbox.c.args),
        sql.json_text(t.outbox.c.kwargs),
        sql.json_text(t.outbox.c.options),
        t.outbox.c.tries,
        t.outbox.c.run_id,
        t.outbox.c.token_id,
        t.outbox.c.single,
    )
    .where(
        t.outbox.c.available_at.is_(None),
        t.outbox.c.queue == sql.text("queue"),
        t.outbox.c.priority == sql.integer("priority"),
        t.outbox.c.crowd == sql.integer("crowd"),
        t.outbox.c.id > sql.big("after"),
        t.outbox.c.id <= sql.big("until"),
        sa.select(_bounded.c.value).scalar_subquery() == sa.literal_column(f"'{HANG_TIMEOUT}'"),
    )
    .order_by(t.outbox.c.id)
    .limit(sql.integer("batch"))
    .with_for_update(skip_locked=True)
)


def take(
    connection: Connection, lane: Lane, after: int, until: int, batch: int
) -> Sequence[DueMessage]:
    """Lock up to `batch` rows of the lane that no other relay has locked, the oldest first.

    From here on `HANG_TIMEOUT` bounds the caller's transaction.
    """
    where = {**lane._asdict(), "after": after, "until": until}
    return [
        DueMessage(
            id=row["id"],
            task=row["task"],
            args=json.loads(row["args"]),
            kwargs=json.loads(row["kwargs"]),
            options=codec.loads(row["options"]),
            tries=row["tries"],
            token_id=row["token_id"],
            single=row["single"],
            crowd=lane.crowd,
            runs=() if row["run_id"] is None else (row["run_id"],),
        )
        for row in connection.rows(_TAKE, {**where, "batch": batch})
    ]


_ids = sql.ids("ids")

_gone = sa.delete(t.outbox).where(t.outbox.c.id == sa.any_(_ids)).returning(t.outbox.c.token_id)
_sent = _gone.cte("sent")

# A locked token is being worked on, and gets a `look_at` when its claim is released.
_unwatched = (
    sa.select(t.token.c.id)
    .join_from(_sent, t.token, t.token.c.id == _sent.c.token_id)
    .where(t.token.c.look_at.is_(None), t.token.c.claimed_by.is_(None))
    .with_for_update(skip_locked=True, of=t.token)
)

_DELETE = Statement(sa.update(t.token).where(t.token.c.id.in_(_unwatched)).values(look_at=LOOK_AT))


def delete(connection: Connection, ids: Sequence[int]) -> None:
    """Delete rows that have been published.

    From now on their messages may get lost. So tokens that waited for a time, a signal or a child,
    and had no `look_at`, get one.
    """
    # An array in its text form: drivers differ in how they take a list.
    connection.rows(_DELETE, {"ids": "{" + ",".join(map(str, ids)) + "}"})


_postponed = (
    sa.update(t.outbox)
    .where(t.outbox.c.id == sql.big("outbox_id"))
    .values(
        tries=t.outbox.c.tries + 1,
        last_error=sql.text("last_error"),
        available_at=sql.later("delay"),
    )
    .returning(t.outbox.c.id, t.outbox.c.token_id)
    .cte("postponed")
)

_others = (
    sa.select(t.outbox.c.id)
    .join_from(t.outbox, _postponed, t.outbox.c.token_id == _postponed.c.token_id)
    .where(t.outbox.c.id != _postponed.c.id, IS_AT_ONCE)
    .with_for_update(skip_locked=True, of=t.outbox)
)

_POSTPONE = Statement(sa.delete(t.outbox).where(t.outbox.c.id.in_(_others)))


def postpone(connection: Connection, id: int, error: str, delay: float) -> None:
    """Write down why a row could not be published; it is due again `delay` seconds later.

    Deletes other hints for the same token that are due: the broker would refuse them too.
    """
    parameters = {"outbox_id": id, "last_error": error, "delay": timedelta(seconds=delay)}
    connection.rows(_POSTPONE, parameters)

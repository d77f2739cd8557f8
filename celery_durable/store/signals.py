"""Signals: stores them in the inbox, and reads them for the token that waits.

Sending a signal writes a row and hints, and locks nothing. A signal is consumed in one place, in
the commit of the token that waits (`commit.statement`), so an early, a late and a simultaneous
signal are one case. A consumed signal stays until the run ends: so a key that comes again is known.

`refuse` takes a signal out of the way whose data does not fit: it counts as consumed, and says why
it was refused. It loses its key, so that it may be sent again, set right.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert

from celery_durable.core.claim import Claim
from celery_durable.core.names import SEPARATOR
from celery_durable.core.status import Status
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement, one
from celery_durable.store.outbox import AT_ONCE, HINTED_BY, put_hints, put_hints_of_many
from celery_durable.store.read.position import STATUS

HINTED_WAITERS = 20
"""Of the tokens that wait for one name, so many get a hint for each signal: the oldest ones."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a signal that was sent.

    `outcome`: it is `stored` until the run consumes it; or it is a `duplicate`, its key has been
    seen under this name; or it is `refused`, the run has ended. `reason` says so in words. `status`
    is the run's when it was looked at. `warning`: it is stored, and no node waits for this name.
    """

    outcome: Literal["stored", "duplicate", "refused"]
    reason: str
    status: Status
    warning: str | None = None

    @property
    def accepted(self) -> bool:
        """True if the run has, or has had, this signal."""
        return self.outcome != "refused"


_open_run = (
    sa.select(t.run.c.id)
    .where(t.run.c.id == sql.uuid("run_id"), t.run.c.finished_at.is_(None))
    .cte("open_run")
)

_new = {
    "run_id": _open_run.c.id,
    "kind": sql.word("signal"),
    "name": sql.text("name"),
    "payload": sql.json("payload"),
    "key": sql.text("key"),
    "trace": sql.json("trace"),
}

_stored = (
    upsert(t.inbox)
    .from_select(list(_new), sa.select(*_new.values()))
    .on_conflict_do_nothing(index_elements=["run_id", "name", "key"])
    .returning(t.inbox.c.id)
    .cte("stored")
)

_mine = t.token.c.run_id == sql.uuid("run_id")
_is_stored = sa.exists(sa.select(_stored.c.id))

_waiting = (
    sa.select(t.token)
    .where(_mine, t.token.c.awaits == sql.text("name"), _is_stored)
    .order_by(t.token.c.waiting_since)
    .limit(sa.literal_column(str(HINTED_WAITERS)))
)

# Other tokens may park for this very signal before the caller's transaction commits it: branches
# that are claimed or soon will be, and the run's first token wherever it is.
_others = t.token.c.awaits.is_distinct_from(sql.text("name"))
_in_hand = sa.select(t.token).where(
    _mine, t.token.c.claimed_by.is_not(None), t.token.c.parent_id.is_not(None), _others, _is_stored
)
_first = sa.select(t.token).where(_mine, t.token.c.parent_id.is_(None), _others, _is_stored)

_soon = (
    sa.select(t.token)
    .where(
        _mine,
        t.token.c.claimed_by.is_(None),
        t.token.c.parent_id.is_not(None),
        t.token.c.wait.is_(None),
        _is_stored,
    )
    .limit(sa.literal_column(str(HINTED_WAITERS)))
)

_to_hint = sa.union_all(
    _waiting.subquery().select(), _in_hand, _soon.subquery().select(), _first
).cte("told")

_SEND = Statement(sa.select(_stored.c.id).add_cte(put_hints(_to_hint, at=AT_ONCE).cte("hinted")))

_is_awaited = sql.there_is(_mine, t.token.c.awaits == sql.text("name"))

_STATUS = Statement(
    sa.select(
        STATUS,
        t.run.c.finished_at.is_not(None).label("has_ended"),
        t.run.c.workflow,
        t.run.c.version,
        # Read only if no token waits for the name now.
        sa.select(sql.json_text(t.definition.c.plan))
        .where(
            t.definition.c.workflow == t.run.c.workflow,
            t.definition.c.version == t.run.c.version,
            sa.not_(_is_awaited),
        )
        .scalar_subquery()
        .label("plan"),
    ).where(t.run.c.id == sql.uuid("run_id"))
)


def send(
    connection: Connection,
    run_id: UUID,
    name: str,
    payload: str,
    key: str | None,
    *,
    trace: str | None = None,
) -> Delivery | None:
    """Put a signal into the run's inbox, and hints for tokens that wait; None if there is no run.

    `payload` is JSON text, and so is `trace`, the sender's. Waits for a transaction that has
    written the same key and is not committed.
    """
    parameters = {"run_id": run_id, "name": name, "payload": payload, "key": key, "trace": trace}
    is_stored = one(connection, _SEND, parameters) is not None
    row = one(connection, _STATUS, {"run_id": run_id, "name": name})
    if row is None:
        return None
    status = Status(row["status"])
    if is_stored:
        reason = f"{name!r} waits in the inbox until the run consumes it"
        return Delivery("stored", reason, status, _warning(row, name))
    if row["has_ended"]:
        return Delivery("refused", f"the run is {status} already", status)
    return Delivery("duplicate", f"{name!r} with key {key!r} has arrived before", status)


_open_runs = (
    sa.select(t.run.c.id)
    .where(t.run.c.id == sa.any_(sql.uuids("runs")), t.run.c.finished_at.is_(None))
    .order_by(t.run.c.id)
    .cte("open_runs")
)
_new_ones = {**_new, "run_id": _open_runs.c.id}
_stored_ones = (
    upsert(t.inbox)
    .from_select(list(_new_ones), sa.select(*_new_ones.values()))
    .on_conflict_do_nothing(index_elements=["run_id", "name", "key"])
    .returning(t.inbox.c.run_id)
    .cte("stored")
)


# All tokens of these runs in one scan: those that wait for the name, and those that may do so soon,
# as above; of each kind of each run so many.
_kind = sa.case(
    (t.token.c.awaits == sql.text("name"), sql.word("waits")),
    (t.token.c.parent_id.is_(None), sql.word("first")),
    (t.token.c.claimed_by.is_not(None), sql.word("in hand")),
    (t.token.c.wait.is_(None), sql.word("soon")),
)
_place: Any = sa.func.row_number().over(
    partition_by=[t.token.c.run_id, _kind], order_by=t.token.c.waiting_since
)
_theirs = (
    sa.select(*HINTED_BY, _kind.label("kind"), _place.label("place"))
    .where(sql.any_of(t.token.c.run_id, sa.select(_stored_ones.c.run_id)))
    .cte("theirs")
)
_told_of_all = (
    sa.select(_theirs)
    .where(
        sa.or_(
            _theirs.c.kind == sql.word("in hand"),
            sa.and_(
                _theirs.c.kind.is_not(None),
                _theirs.c.place <= sa.literal_column(str(HINTED_WAITERS)),
            ),
        )
    )
    .cte("told")
)
_SEND_TO_MANY = Statement(
    sa.select(_stored_ones.c.run_id).add_cte(put_hints_of_many(_told_of_all).cte("hinted"))
)


def send_to_many(
    connection: Connection,
    runs: Iterable[UUID],
    name: str,
    payload: str,
    key: str | None,
    *,
    trace: str | None = None,
) -> set[UUID]:
    """`send` to those of the runs that have not ended, and have no such key; return which."""
    parameters = {
        "runs": sql.array(runs),
        "name": name,
        "payload": payload,
        "key": key,
        "trace": trace,
    }
    return {row["run_id"] for row in connection.rows(_SEND_TO_MANY, parameters)}


HAS_ARRIVED = sql.there_is(
    t.inbox.c.run_id == t.run.c.id,
    t.inbox.c.name == sql.text("signal"),
    t.inbox.c.key == sql.text("signal_key"),
)
"""True of a run that has, or has had, the signal with this key."""


def warning(connection: Connection, run_id: UUID, name: str) -> str | None:
    """The warning for a signal that the run has got though no node waits for it."""
    row = one(connection, _STATUS, {"run_id": run_id, "name": name})
    return _warning(row, name) if row else None


def _warning(row: Row, name: str) -> str | None:
    """The warning for a name that no node waits for; a step may still suspend for any name."""
    nodes = json.loads(row["plan"])["nodes"] if row["plan"] else []
    waits = sorted({node["signal"] for node in nodes if "signal" in node})
    units = {node["name"] for node in nodes if "signal" not in node}
    # A suspended unit waits for its own name, unless it names another.
    if not nodes or name in waits or name.partition(SEPARATOR)[0] in units:
        return None
    known = f"it waits for {', '.join(map(repr, waits))}" if waits else "none of them waits for one"
    return (
        f"no node of {row['workflow']!r} version {row['version']} waits for the signal {name!r}"
        f" ({known}); it is kept in case a step suspends for it"
    )


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal that nobody has consumed. `payload` is JSON text, and so is `trace`."""

    id: int
    payload: str
    trace: str | None
    key: str | None = None


_OLDEST = Statement(
    sa.select(
        t.inbox.c.id,
        sql.json_text(t.inbox.c.payload),
        sql.json_text(t.inbox.c.trace),
        t.inbox.c.key,
    )
    .where(
        t.inbox.c.run_id == sql.uuid("run_id"),
        t.inbox.c.kind == sql.word("signal"),
        t.inbox.c.name == sql.text("name"),
        t.inbox.c.consumed_by.is_(None),
    )
    .order_by(t.inbox.c.id)
    .limit(sa.literal_column("1"))
)


def oldest(connection: Connection, run_id: UUID, name: str) -> Signal | None:
    """The oldest signal of this name that nobody has consumed."""
    row = one(connection, _OLDEST, {"run_id": run_id, "name": name})
    return Signal(**row) if row else None


_REFUSE = Statement(
    sa.update(t.inbox)
    .where(
        t.inbox.c.id == sql.big("message"),
        t.inbox.c.consumed_by.is_(None),
        sql.there_is(
            t.token.c.id == sql.uuid("token_id"),
            t.token.c.fence == sql.uuid("held_fence"),
            t.token.c.claimed_by == sql.uuid("worker"),
        ),
    )
    .values(consumed_by=sql.uuid("token_id"), refused=sql.text("why"), key=sa.null())
    .returning(t.inbox.c.id)
)


def refuse(connection: Connection, claim: Claim, message: int, why: str) -> bool:
    """Take a signal out of the way whose data does not fit; its token goes on waiting.

    False if it is consumed already, or the claim is no longer ours.
    """
    parameters = {
        "message": message,
        "token_id": claim.token.id,
        "held_fence": claim.fence,
        "worker": claim.worker,
        "why": why,
    }
    return one(connection, _REFUSE, parameters) is not None


_COUNTED = Statement(
    sa.select(
        sa.func.count().filter(t.inbox.c.consumed_by.is_not(None)).label("consumed"),
        sa.func.count().label("arrived"),
        sql.clock.label("at"),
    ).where(
        t.inbox.c.run_id == sql.uuid("run_id"),
        t.inbox.c.kind == sql.word("signal"),
        t.inbox.c.name == sql.text("name"),
        t.inbox.c.refused.is_(None),
    )
)


@dataclass(frozen=True, slots=True)
class Counted:
    """How many signals of a name have arrived, and how many of them are consumed, at `at`."""

    consumed: int
    arrived: int
    at: datetime


def counted(connection: Connection, run_id: UUID, name: str) -> Counted:
    """Count the signals of this name; those that were refused do not count."""
    row = one(connection, _COUNTED, {"run_id": run_id, "name": name})
    assert row is not None
    return Counted(**row)


_CONSUMED = Statement(
    sa.select(sql.json_text(t.inbox.c.payload))
    .where(
        t.inbox.c.run_id == sql.uuid("run_id"),
        t.inbox.c.kind == sql.word("signal"),
        t.inbox.c.name == sql.text("name"),
        t.inbox.c.consumed_by.is_not(None),
        t.inbox.c.refused.is_(None),
    )
    .order_by(t.inbox.c.id.desc())
    .limit(sa.literal_column("1"))
)


def last_consumed(connection: Connection, run_id: UUID, name: str) -> str | None:
    """The payload, JSON text, of the newest signal of this name that the run has consumed."""
    row = one(connection, _CONSUMED, {"run_id": run_id, "name": name})
    return row["payload"] if row else None


_is_unconsumed = (t.inbox.c.consumed_by.is_(None), t.inbox.c.kind == sql.word("signal"))

HAS_UNCONSUMED = sql.is_found(
    sa.select(t.inbox.c.run_id).where(*_is_unconsumed).order_by(t.inbox.c.run_id)
)
"""True if any signal is not consumed yet; its run may have ended."""

_ORPHANS = Statement(
    sa.delete(t.inbox).where(
        # A signal is committed after the start of its run: who sees the one sees the other.
        sa.not_(sql.there_is(t.run.c.id == t.inbox.c.run_id, t.run.c.finished_at.is_(None))),
        *_is_unconsumed,
    )
)


def forget_late(connection: Connection) -> None:
    """Delete signals that were committed while their runs were ending, or being pruned."""
    connection.rows(_ORPHANS)

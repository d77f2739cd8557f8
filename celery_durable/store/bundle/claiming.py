"""Claims tokens together, looks at their claims again, and releases them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.claim import Claim
from celery_durable.core.token import Flags
from celery_durable.core.values import value
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.bundle.given import IS_HELD, ctid, given, held_row, id_list, locked
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.outbox import AT_ONCE, HINTED_BY, put_hints
from celery_durable.store.pauses import is_paused
from celery_durable.store.rows import claim_of
from celery_durable.store.tokens import (
    CLAIM,
    CLAIMED_BY_ME,
    IS_CLAIMABLE,
    IS_DRAINING,
    IS_IN_TIME,
    IS_LIVE,
    IS_QUIET,
    RELEASED,
)

_row = held_row.c
_listed = given("id")

_may_be_bundled = sa.and_(
    _row.claimed_by.is_(None),
    _row.wait.is_(None),
    _row.flags == sa.literal_column("0"),
    sa.or_(_row.wake_at.is_(None), _row.wake_at <= sql.clock),
    # What may kill its process, or has a time limit, is executed alone.
    _row.crashes == sa.literal_column("0"),
    _row.time_limit.is_(None),
    sa.not_(_row.single),
    sa.not_(is_paused(_row)),
)

# A claim that is sent again, because its answer was lost, finds its own fence.
_is_mine = _row.fence == sql.uuid("new_fence")


def _claiming(*, waits: bool) -> Statement:
    free = locked(_listed, sa.or_(_is_mine, _may_be_bundled), waits=waits)
    # A row that it has waited for has moved: it is found by its id.
    is_free = t.token.c.id == free.c.id if waits else ctid == free.c.ctid
    return Statement(
        sa.update(t.token)
        .values(CLAIMED_BY_ME)
        .where(is_free, t.run.c.id == t.token.c.run_id, IS_IN_TIME, IS_LIVE, IS_QUIET)
        .returning(*CLAIM)
    )


_CLAIM_TOGETHER, _CLAIM_AGAIN = _claiming(waits=False), _claiming(waits=True)


def claim(
    connection: Connection,
    token_ids: Sequence[UUID],
    worker: UUID,
    fence: UUID,
    *,
    again: bool = False,
) -> Sequence[Claim]:
    """Claim those of the tokens that are ready, and that may share a process with others.

    Leaves out a token that is locked, waits, is flagged, has crashed, has a time limit or is
    `single`. Sent twice with one fence, it is one claim; the second time, `again`, it waits for
    locked rows, for they may be claimed with this fence already.
    """
    parameters = {"given": id_list(token_ids), "worker": worker, "new_fence": fence}
    statement = _CLAIM_AGAIN if again else _CLAIM_TOGETHER
    rows = {row["id"]: row for row in connection.rows(statement, parameters)}
    return [claim_of(rows[one], fence, worker) for one in token_ids if one in rows]


_unclaimed = (
    sa.select(t.token)
    .join_from(_listed, t.token, t.token.c.id == _listed.c.id)
    .where(t.token.c.claimed_by.is_(None), sa.case((IS_CLAIMABLE, sa.true()), else_=sa.false()))
    .cte("unclaimed")
)

_HINT = Statement(put_hints(_unclaimed, at=AT_ONCE, single=True))


def hint(connection: Connection, token_ids: Sequence[UUID]) -> None:
    """Put a hint for each of the tokens that may be claimed, in a message of its own.

    It locks none of them.
    """
    connection.rows(_HINT, {"given": id_list(token_ids)})


@value(frozen=True, slots=True)
class Look:
    """What a claim that still holds is like now."""

    at: datetime
    flags: Flags
    draining: bool
    has_commands: bool
    is_paused: bool = False


_LOOK = Statement(
    sa.select(
        held_row.c.id,
        held_row.c.flags,
        sql.clock.label("now"),
        IS_DRAINING.label("draining"),
        sql.has_commands(held_row.c.run_id).label("has_commands"),
        is_paused(held_row.c).label("is_paused"),
    )
    .join_from(_listed, held_row, held_row.c.id == _listed.c.id)
    .where(*IS_HELD, IS_LIVE)
)


def look(
    connection: Connection, token_ids: Sequence[UUID], worker: UUID, fence: UUID
) -> Mapping[UUID, Look]:
    """Look at claims again; those that are no longer ours are left out.

    All are, if the worker that has claimed them has been declared dead.
    """
    parameters = {"given": id_list(token_ids), "worker": worker, "held_fence": fence}
    return {
        row["id"]: Look(
            row["now"],
            Flags(row["flags"]),
            bool(row["draining"]),
            row["has_commands"],
            row["is_paused"],
        )
        for row in connection.rows(_LOOK, parameters)
    }


_held = locked(given("id", "is_first"), *IS_HELD)

_released = (
    sa.update(t.token)
    .where(ctid == _held.c.ctid)
    .values(
        {
            **RELEASED,
            "single": sql.boolean("single"),
            "begun": sa.and_(t.token.c.begun, sa.not_(_held.c.is_first)),
        }
    )
    .returning(*HINTED_BY)
    .cte("released")
)

_RELEASE_TOGETHER = Statement(
    sa.select(_released.c.id).add_cte(put_hints(_released, at=AT_ONCE).cte("hinted"))
)


def release(connection: Connection, claims: Sequence[Claim], *, single: bool) -> set[UUID]:
    """Release claims with nothing done, and put a hint for each token; return which were released.

    `single`: each token gets a message of its own. Leaves out a token that is locked.
    """
    listed = [{"id": str(claim.token.id), "is_first": claim.is_first} for claim in claims]
    parameters = {
        "given": json.dumps(listed),
        "worker": claims[0].worker,
        "held_fence": claims[0].fence,
        "single": single,
    }
    return {row["id"] for row in connection.rows(_RELEASE_TOGETHER, parameters)}

"""What a unit says of itself while it executes, and what it is told then."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.claim import Claim
from celery_durable.core.token import Flags
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one

_BEAT = Statement(
    sa.update(t.token)
    .where(t.token.c.id == sql.uuid("token_id"), t.token.c.fence == sql.uuid("held_fence"))
    .values(progress=sa.func.coalesce(sql.json("note"), t.token.c.progress))
    .returning(t.token.c.flags)
)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What others ask of the unit in hand; `is_ours` is False once the claim is another's."""

    flags: Flags
    is_ours: bool = True


def beat(connection: Connection, claim: Claim, note: str | None) -> Heartbeat:
    """Write `note`, JSON text, where one is given, and look at the flags."""
    parameters: dict[str, UUID | str | None] = {
        "token_id": claim.token.id,
        "held_fence": claim.fence,
        "note": note,
    }
    row = one(connection, _BEAT, parameters)
    if row is None:
        return Heartbeat(Flags.NONE, is_ours=False)
    return Heartbeat(Flags(row["flags"]))

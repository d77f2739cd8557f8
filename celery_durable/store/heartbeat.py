"""The heartbeat of a unit: writes its progress, and reads the flags on its token."""

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
    """The flags on the token of the unit. `is_ours`: the worker still has the claim."""

    flags: Flags
    is_ours: bool = True


def beat(connection: Connection, claim: Claim, note: str | None) -> Heartbeat:
    """Write `note`, JSON text, unless it is None, and read the flags."""
    parameters: dict[str, UUID | str | None] = {
        "token_id": claim.token.id,
        "held_fence": claim.fence,
        "note": note,
    }
    row = one(connection, _BEAT, parameters)
    if row is None:
        return Heartbeat(Flags.NONE, is_ours=False)
    return Heartbeat(Flags(row["flags"]))

"""Commands that have arrived and wait to be applied.

Whoever sends a command inserts a row here and a hint; no token is locked, so a caller's long
transaction blocks no worker. Applying it is a transaction of its own, by whoever comes first: the
sender, the handler of the hint, or recovery.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.status import FINISHED
from celery_durable.core.token import Flags
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.outbox import put_hints

CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Cancel:
    """The command to end a run, with or without compensating what completed."""

    compensate: bool
    reason: str | None

    @property
    def flags(self) -> Flags:
        """What the command raises on the run's tokens."""
        return Flags.CANCEL | (Flags.COMPENSATE if self.compensate else Flags.NONE)


_SEND = Statement(
    sa.insert(t.inbox).values(
        run_id=sql.uuid("run_id"),
        kind=sa.literal_column("'command'"),
        name=sql.text("name"),
        payload=sql.json("payload"),
    )
)


def send(connection: Connection, run_id: UUID, command: Cancel) -> None:
    """Put a command into the run's inbox."""
    parameters = {"run_id": run_id, "name": CANCEL, "payload": json.dumps(asdict(command))}
    connection.rows(_SEND, parameters)


_TAKE = Statement(
    sa.delete(t.inbox)
    .where(
        t.inbox.c.run_id == sql.uuid("run_id"),
        t.inbox.c.kind == sa.literal_column("'command'"),
        t.inbox.c.name == sa.literal_column(f"'{CANCEL}'"),
    )
    .returning(sql.json_text(t.inbox.c.payload))
)


def take_cancels(connection: Connection, run_id: UUID) -> Sequence[Cancel]:
    """Remove the run's cancels; their flags must be raised in the same transaction."""
    rows = connection.rows(_TAKE, {"run_id": run_id})
    return [Cancel(**json.loads(row["payload"])) for row in rows]


_RAISE = Statement(
    sa.update(t.token)
    .where(t.token.c.run_id == sql.uuid("run_id"))
    .values(flags=t.token.c.flags.op("|")(sql.integer("flags")))
    .returning(t.token.c.id)
)

_REASON = Statement(
    sa.update(t.run)
    .where(
        t.run.c.id == sql.uuid("run_id"),
        t.run.c.status.not_in([sa.literal_column(f"'{status}'") for status in FINISHED]),
    )
    .values(cancel_reason=sa.func.coalesce(t.run.c.cancel_reason, sql.text("reason")))
)


def apply_cancel(connection: Connection, run_id: UUID, command: Cancel) -> None:
    """Raise the command's flags on the run's tokens. Locks tokens first, then the run."""
    connection.rows(_RAISE, {"run_id": run_id, "flags": int(command.flags)})
    if command.reason is not None:
        connection.rows(_REASON, {"run_id": run_id, "reason": command.reason})


_HINT = Statement(
    put_hints(
        sa.select(t.token).where(t.token.c.run_id == sql.uuid("run_id")).cte("told"), now=True
    )
)


def put_hint(connection: Connection, run_id: UUID) -> None:
    """Have somebody look at the run's token now; nothing happens when the run has ended."""
    connection.rows(_HINT, {"run_id": run_id})


_PENDING = Statement(
    sa.select(t.inbox.c.run_id)
    .where(t.inbox.c.kind == sa.literal_column("'command'"), t.inbox.c.consumed_by.is_(None))
    .distinct()
    .limit(sql.integer("batch"))
)


def runs_with_commands(connection: Connection, batch: int) -> Sequence[UUID]:
    """Runs that have a command nobody has applied yet."""
    return [row["run_id"] for row in connection.rows(_PENDING, {"batch": batch})]

"""Commands: stores them in the inbox, where they wait to be applied.

Sending a command inserts a row and a hint, and locks no token: a caller's long transaction blocks
no worker. The sender, the worker that follows the hint or recovery applies it
(`background.cancelling`). `signals` has the signals.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.token import Flags
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.outbox import AT_ONCE, put_hints

CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Cancel:
    """The command to end a run, with or without compensating what completed.

    `timed_out`: the run took too long, and fails.
    """

    compensate: bool
    reason: str | None
    timed_out: bool = False
    id: int | None = None
    """The id of its row, once it is in the inbox."""

    @property
    def flags(self) -> Flags:
        """The flags that the command raises on the run's tokens."""
        flags = Flags.CANCEL
        if self.compensate:
            flags |= Flags.COMPENSATE
        if self.timed_out:
            flags |= Flags.RUN_TIMEOUT
        return flags

    @property
    def payload(self) -> str:
        """What is stored of it, as JSON text."""
        fields = {"compensate": self.compensate, "reason": self.reason}
        return json.dumps({**fields, "timed_out": True} if self.timed_out else fields)


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
    parameters = {"run_id": run_id, "name": CANCEL, "payload": command.payload}
    connection.rows(_SEND, parameters)


# Those that were asked already, or go back, would only be asked the same again.
IS_TO_BE_ASKED = sql.there_is(
    t.token.c.run_id == t.run.c.id,
    t.token.c.parent_id.is_(None),
    t.token.c.rollback.is_(None),
    t.token.c.flags.op("&")(sql.integer("flags")) != sql.integer("flags"),
)
"""True of a run that has not ended and of which a cancel with these flags changes anything."""

_SEND_TO_MANY = Statement(
    sa.insert(t.inbox)
    .from_select(
        ["run_id", "kind", "name", "payload"],
        sa.select(t.run.c.id, sql.word("command"), sql.word(CANCEL), sql.json("payload")).where(
            t.run.c.id == sa.any_(sql.uuids("runs")), t.run.c.finished_at.is_(None), IS_TO_BE_ASKED
        ),
    )
    .returning(t.inbox.c.run_id)
)


def send_to_many(connection: Connection, runs: Iterable[UUID], command: Cancel) -> Sequence[UUID]:
    """Put a command into the inboxes of those that it changes; return which.

    It puts no hints: the caller applies the command at once, and if it dies, recovery does.
    """
    parameters = {
        "runs": sql.array(runs),
        "flags": int(command.flags),
        "payload": command.payload,
    }
    return [row["run_id"] for row in connection.rows(_SEND_TO_MANY, parameters)]


_cancels = (
    t.inbox.c.run_id == sa.any_(sql.uuids("runs")),
    t.inbox.c.kind == sql.word("command"),
    t.inbox.c.name == sql.word(CANCEL),
)

_READ = Statement(
    sa.select(t.inbox.c.id, t.inbox.c.run_id, sql.json_text(t.inbox.c.payload)).where(*_cancels)
)

_ids = sql.ids("ids")
_REMOVE = Statement(sa.delete(t.inbox).where(t.inbox.c.id == sa.any_(_ids)).returning(t.inbox.c.id))


def cancels(connection: Connection, runs: Iterable[UUID]) -> Mapping[UUID, Sequence[Cancel]]:
    """The cancels that are not applied yet, of those of these runs that have any."""
    found: dict[UUID, list[Cancel]] = {}
    for row in connection.rows(_READ, {"runs": sql.array(runs)}):
        command = Cancel(**json.loads(row["payload"]), id=row["id"])
        found.setdefault(row["run_id"], []).append(command)
    return found


def remove(connection: Connection, ids: Sequence[int]) -> bool:
    """Delete commands, which have been applied; return True if any was still there."""
    return bool(connection.rows(_REMOVE, {"ids": "{" + ",".join(map(str, ids)) + "}"}))


_first = (
    sa.select(t.token)
    .where(t.token.c.run_id == sql.uuid("run_id"), t.token.c.parent_id.is_(None))
    .cte("first")
)

_HINT = Statement(put_hints(_first, at=AT_ONCE))


def put_hint(connection: Connection, run_id: UUID) -> None:
    """Put a hint for the run's first token, due at once; does nothing if the run has ended.

    Safe in a caller's long transaction: it locks no hint that is there already.
    """
    connection.rows(_HINT, {"run_id": run_id})


_is_pending = (t.inbox.c.kind == sa.literal_column("'command'"), t.inbox.c.consumed_by.is_(None))

HAS_COMMANDS = sql.is_found(
    sa.select(t.inbox.c.run_id).where(*_is_pending).order_by(t.inbox.c.run_id)
)
"""True if any run has a command which is not applied yet."""

_PENDING = Statement(
    sa.select(t.inbox.c.run_id).where(*_is_pending).distinct().limit(sql.integer("batch"))
)


def runs_with_commands(connection: Connection, batch: int) -> Sequence[UUID]:
    """Up to `batch` runs that have a command which is not applied yet."""
    return [row["run_id"] for row in connection.rows(_PENDING, {"batch": batch})]

"""Commands that have arrived and wait to be applied.

Whoever sends a command inserts a row here and a hint; no token is locked, so a caller's long
transaction blocks no worker. Applying it is a transaction of its own, by whoever comes first: the
sender, the handler of the hint, or recovery. It locks the run's tokens, branches before their
parent; to the run's children it speaks through their inboxes. Signals are in `signals`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.token import Flags
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Row, Statement
from celery_durable.store.outbox import AT_ONCE, TO_BE_LOOKED_AT, call_once, clear_hints, put_hints

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


_cancels = (
    t.inbox.c.run_id == sql.uuid("run_id"),
    t.inbox.c.kind == sql.word("command"),
    t.inbox.c.name == sql.word(CANCEL),
)

_READ = Statement(sa.select(sql.json_text(t.inbox.c.payload)).where(*_cancels))

_TAKE = Statement(sa.delete(t.inbox).where(*_cancels).returning(sql.json_text(t.inbox.c.payload)))


def cancels(connection: Connection, run_id: UUID) -> Sequence[Cancel]:
    """The run's cancels that are not applied."""
    return _commands(connection.rows(_READ, {"run_id": run_id}))


def take_cancels(connection: Connection, run_id: UUID) -> Sequence[Cancel]:
    """Remove the run's cancels; they must be applied in the same transaction."""
    return _commands(connection.rows(_TAKE, {"run_id": run_id}))


def _commands(rows: Sequence[Row]) -> Sequence[Cancel]:
    return [Cancel(**json.loads(row["payload"])) for row in rows]


_flags_raised = {
    "flags": t.token.c.flags.op("|")(sql.integer("flags")),
    "look_at": TO_BE_LOOKED_AT,
}

_RAISE = Statement(
    sa.update(t.token)
    .where(t.token.c.run_id == sql.uuid("run_id"), t.token.c.parent_id.is_(None))
    .values(_flags_raised)
)

_REASON = Statement(
    sa.update(t.run)
    .where(t.run.c.id == sql.uuid("run_id"), t.run.c.finished_at.is_(None))
    .values(cancel_reason=sa.func.coalesce(t.run.c.cancel_reason, sql.text("reason")))
)


def announce(connection: Connection, run_id: UUID, command: Cancel) -> None:
    """Raise the command's flags on the run's first token: it forks no more and opens no more.

    This commits before the command is applied, and the command stays in the inbox until then: what
    had forked or opened by now is seen by whoever applies it. Locks the token, then the run.
    """
    connection.rows(_RAISE, {"run_id": run_id, "flags": int(command.flags)})
    if command.reason is not None:
        connection.rows(_REASON, {"run_id": run_id, "reason": command.reason})


# Branches that nobody has in hand end at once, however many they are. Those that wait for a child
# stay until it has ended; what is in hand is told by its flags. In step with `core.rollback`: a
# branch that is cancelled while it waits or is ready leaves, and nothing is recorded.
#
# All are locked first, whatever becomes of them, in one order: two cancels that are applied at once
# wait for each other and lock nothing crosswise.
_locked = (
    sa.select(t.token.c.id, t.token.c.claimed_by, t.token.c.wait)
    .where(t.token.c.run_id == sql.uuid("run_id"), t.token.c.parent_id.is_not(None))
    .order_by(t.token.c.id)
    .with_for_update()
    .cte("locked")
)

_idle = sa.select(_locked.c.id).where(
    _locked.c.claimed_by.is_(None),
    sa.or_(_locked.c.wait.is_(None), _locked.c.wait != sql.word("child")),
)

_ended = sa.delete(t.token).where(t.token.c.id.in_(_idle)).returning(t.token.c.id).cte("ended")

_END_BRANCHES = Statement(sa.select(_ended.c.id).add_cte(clear_hints(_ended).cte("cleared")))

_others = (
    sa.select(t.token.c.id)
    .where(t.token.c.run_id == sql.uuid("run_id"), t.token.c.parent_id.is_not(None))
    .order_by(t.token.c.id)
    .with_for_update()
)

_raised = (
    sa.update(t.token)
    .where(t.token.c.id.in_(_others))
    .values(_flags_raised)
    .returning(*t.token.c)
    .cte("raised")
)

# In hand when the idle ones were ended, and given back since: nobody else tells these.
_given_back = sa.select(_raised).where(_raised.c.claimed_by.is_(None)).cte("given_back")

_RAISE_BRANCHES = Statement(sa.select(_raised.c.id).add_cte(*call_once(_given_back, "hinted")))

_COUNT_DOWN = Statement(
    sa.update(t.token)
    .where(t.token.c.run_id == sql.uuid("run_id"), t.token.c.parent_id.is_(None))
    .values(
        **_flags_raised,
        remaining=t.token.c.remaining - sql.integer("ended") - (t.token.c.total - t.token.c.opened),
        opened=t.token.c.total,
    )
    .returning(t.token.c.id)
)

_DROP_ITEMS = Statement(sa.delete(t.item).where(t.item.c.token_id == sql.uuid("token_id")))

_children = (
    sa.select(t.run.c.id)
    .where(t.run.c.parent_run_id == sql.uuid("run_id"), t.run.c.finished_at.is_(None))
    .cte("children")
)

_told = (
    sa.insert(t.inbox)
    .from_select(
        ["run_id", "kind", "name", "payload"],
        sa.select(_children.c.id, sql.word("command"), sql.word(CANCEL), sql.json("payload")),
    )
    .cte("told")
)

_child_tokens = (
    sa.select(t.token)
    .where(t.token.c.run_id.in_(sa.select(_children.c.id)), t.token.c.parent_id.is_(None))
    .cte("child_tokens")
)

_TELL_CHILDREN = Statement(
    sa.select(_children.c.id).add_cte(_told, *call_once(_child_tokens, "hinted"))
)


def apply_cancel(connection: Connection, run_id: UUID, command: Cancel) -> None:
    """End the run's idle branches, raise the flags on the others, and tell the run's children.

    It has been announced. Locks branches, then the parent, then its items. The children are read in
    a statement after the tokens are locked: a child that is being started meanwhile is there, or
    its parent's token is flagged and does not start it.
    """
    mine = {"run_id": run_id}
    flags = {**mine, "flags": int(command.flags)}
    ended = connection.rows(_END_BRANCHES, mine)
    connection.rows(_RAISE_BRANCHES, flags)
    for row in connection.rows(_COUNT_DOWN, {**flags, "ended": len(ended)}):
        connection.rows(_DROP_ITEMS, {"token_id": row["id"]})
    connection.rows(_TELL_CHILDREN, {**mine, "payload": json.dumps(asdict(command))})


_first = (
    sa.select(t.token)
    .where(t.token.c.run_id == sql.uuid("run_id"), t.token.c.parent_id.is_(None))
    .cte("first")
)

_HINT = Statement(put_hints(_first, at=AT_ONCE))
_CALL = Statement(sa.select(_first.c.id).add_cte(*call_once(_first, "hinted")))


def put_hint(connection: Connection, run_id: UUID) -> None:
    """Have somebody look at the run's first token now; nothing happens when the run has ended.

    For a caller's transaction: no hint that there is already is locked for as long as that lasts.
    """
    connection.rows(_HINT, {"run_id": run_id})


def call(connection: Connection, run_id: UUID) -> None:
    """The same by one hint, in place of those that are due."""
    connection.rows(_CALL, {"run_id": run_id})


_PENDING = Statement(
    sa.select(t.inbox.c.run_id)
    .where(t.inbox.c.kind == sa.literal_column("'command'"), t.inbox.c.consumed_by.is_(None))
    .distinct()
    .limit(sql.integer("batch"))
)


def runs_with_commands(connection: Connection, batch: int) -> Sequence[UUID]:
    """Runs that have a command nobody has applied yet."""
    return [row["run_id"] for row in connection.rows(_PENDING, {"batch": batch})]

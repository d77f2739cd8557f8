"""Starts a run under a key that another run may have.

Nothing is locked before the key moves: the UPDATE that takes it from a run finds it there, and the
run as it was decided upon, or finds nothing. Then another start was quicker, and all is looked at
again. A start with the same key waits in its INSERT for a transaction that moves the key.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from uuid import UUID

from celery_durable.core.child import NewRun
from celery_durable.core.keys import KeyConflict, KeyPolicy
from celery_durable.errors import ConfigurationError, RunExists
from celery_durable.store import inbox, runs
from celery_durable.store.connection import Connection
from celery_durable.store.runs import KeyHolder

LOOKS = 3
"""Looks for the run that has the key; it may be deleted in between, or be invisible for ever."""


@dataclass(frozen=True, slots=True)
class Started:
    """What a start has done.

    `id` is the new run's, or that of the run that has the key (`created` is False then).
    `cancelled` is the run from which the key was taken while it was unfinished.
    `has_other_input`: the run that was there has another input than the new one would have.
    """

    id: UUID
    created: bool = True
    cancelled: UUID | None = None
    has_other_input: bool = False


def start_with_key(connection: Connection, new: NewRun, delay: float, policy: KeyPolicy) -> Started:
    """Start a run that has a key, in the transaction of `connection`. Raises `RunExists`."""
    assert new.key is not None
    cancelled, looks = None, 0
    while not runs.start(connection, [new], delay):
        holder = runs.holder_of(connection, new.workflow, new.key)
        if holder is None:
            looks += 1
            if looks == LOOKS:
                raise ConfigurationError(
                    f"A run of {new.workflow!r} with key {new.key!r} exists, but this transaction"
                    " cannot see it; use READ COMMITTED, or a new transaction."
                )
            continue
        match policy.conflict(holder.status):
            case KeyConflict.KEPT:
                other = _is_other_input(holder.input, new.input)
                return Started(holder.id, created=False, has_other_input=other)
            case KeyConflict.REFUSED:
                raise RunExists(holder.id, new.workflow, new.key, holder.status)
            case KeyConflict.FREED:
                runs.free_key(connection, holder.id, new.key, has_ended=True)
            case KeyConflict.CANCELLED:
                if _cancelled(connection, holder, new):
                    cancelled = holder.id
    return Started(new.id, cancelled=cancelled)


def _cancelled(connection: Connection, holder: KeyHolder, new: NewRun) -> bool:
    """Take the key from a run and cancel it; return False if it has ended, or lost the key."""
    assert new.key is not None
    if not runs.free_key(connection, holder.id, new.key, has_ended=False):
        return False
    reason = f"replaced by run {new.id}, which was started with the same key"
    inbox.send(connection, holder.id, inbox.Cancel(compensate=False, reason=reason))
    inbox.put_hint(connection, holder.id)
    return True


def _is_other_input(stored: str, text: str) -> bool:
    """Return True if two JSON texts differ, and not only in how they are written."""
    return stored != text and json.loads(stored) != json.loads(text)

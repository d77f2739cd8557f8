"""What happened to a token.

`undo` is the newest completed unit that has a compensator and has not been undone. The shell reads
it from the journal for an event that may lead into a rollback or happens in one: whenever the unit
failed, a flag is up, or the token is rolling back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from celery_durable.core.failure import ErrorRecord


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The unit's callable returned. `result` is JSON text."""

    result: str | None
    started_at: datetime
    undo: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The unit's callable raised, or what it returned cannot be stored.

    `may_retry` is False when another try cannot help. `delay` is what the handler asked for in
    seconds, None for the policy's own; `counts` tells whether this try counts. `chance` in [0, 1)
    is for jitter.
    """

    error: ErrorRecord
    started_at: datetime
    may_retry: bool = True
    delay: float | None = None
    counts: bool = True
    chance: float = 0.0
    undo: str | None = None


@dataclass(frozen=True, slots=True)
class Crashed:
    """Workers died executing this unit as often as is allowed; it is not executed again."""

    error: ErrorRecord
    started_at: datetime
    undo: str | None = None


@dataclass(frozen=True, slots=True)
class Flagged:
    """The claim found a flag up; nothing was executed. `due_in` is as in the claim."""

    due_in: float = 0.0
    undo: str | None = None


Event = Succeeded | Failed | Crashed | Flagged

"""What happened to a token."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from celery_durable.core.child import Child
from celery_durable.core.status import Status
from celery_durable.core.values import value
from celery_durable.errors import ErrorRecord


@value(frozen=True, slots=True)
class Iteration:
    """The answers of a loop's own functions: `until`, and `feedback` as JSON text.

    `error` is what one of them raised.
    """

    is_done: bool = False
    next_input: str | None = None
    error: ErrorRecord | None = None


@value(frozen=True, slots=True)
class Succeeded:
    """The unit's callable returned. `result` is JSON text.

    `by_hand`: nothing was called, an operator has said what the result is.
    """

    result: str | None
    started_at: datetime
    iteration: Iteration | None = None
    by_hand: bool = False


@value(frozen=True, slots=True)
class Failed:
    """The unit's callable raised, or what it returned cannot be stored.

    `may_retry` is False when another try cannot help. `delay` is what the handler asked for in
    seconds, None for the policy's own; `counts` tells whether this try counts, `is_bounded` whether
    `max_attempts` holds for it. `chance` in [0, 1) is for jitter.
    """

    error: ErrorRecord
    started_at: datetime
    may_retry: bool = True
    delay: float | None = None
    counts: bool = True
    is_bounded: bool = True
    chance: float = 0.0


@value(frozen=True, slots=True)
class Crashed:
    """Workers died executing this unit as often as is allowed; it is not executed again."""

    error: ErrorRecord
    started_at: datetime


@value(frozen=True, slots=True)
class Flagged:
    """The claim found a flag up, and nothing was executed. `due_in` is as in the claim."""

    due_in: float | None = 0.0


@value(frozen=True, slots=True)
class Suspended:
    """The unit's callable waits for an answer. `timeout` is in seconds.

    `assignees` are those who may give it; any operator if there are none.
    """

    snapshot: str | None
    started_at: datetime
    signal: str | None = None
    timeout: float | None = None
    assignees: tuple[str, ...] = ()


@value(frozen=True, slots=True)
class Arrived:
    """The token has arrived at a node that calls no step: branches, or a signal not there yet.

    `assignees` are those who may answer, if a function has said so.
    """

    assignees: tuple[str, ...] | None = None


@value(frozen=True, slots=True)
class Signalled:
    """The oldest signal of the name that is waited for; `message` is its row in the inbox.

    `trace` is its sender's, JSON text.
    """

    message: int
    payload: str
    started_at: datetime
    trace: str | None = None


@value(frozen=True, slots=True)
class Elapsed:
    """The time of a sleep, or of a wait for a signal, is up; `error` is the latter's failure."""

    error: ErrorRecord
    started_at: datetime


@value(frozen=True, slots=True)
class SleepRequested:
    """A sleep lasts `seconds`; they are negative when its time has passed already."""

    seconds: float
    started_at: datetime


@value(frozen=True, slots=True)
class Chosen:
    """A route's selector has answered. `part` is the case, None where there is none to take."""

    answer: str
    part: str | None
    started_at: datetime


@value(frozen=True, slots=True)
class Listed:
    """The items of a map, each JSON text."""

    items: tuple[str, ...]
    started_at: datetime


@value(frozen=True, slots=True)
class ChildRequested:
    """A child run is ready to start, or in a rollback to be undone, in the commit's transaction."""

    child: Child
    started_at: datetime


@value(frozen=True, slots=True)
class ChildEnded:
    """The child that was waited for has ended. `error` is what the unit fails with, if it fails."""

    child: UUID
    status: Status
    error: ErrorRecord
    started_at: datetime
    iteration: Iteration | None = None


@value(frozen=True, slots=True)
class Joined:
    """No branch remains. `error` is the first failed branch's, None where none has failed.

    How many have failed, and of how many, is in what the token waited for.
    """

    error: ErrorRecord | None
    started_at: datetime


Event = (
    Succeeded
    | Failed
    | Crashed
    | Flagged
    | Suspended
    | Arrived
    | Signalled
    | Elapsed
    | SleepRequested
    | Chosen
    | Listed
    | ChildRequested
    | ChildEnded
    | Joined
)

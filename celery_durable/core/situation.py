"""What there is to know of a run and its surroundings, of which `why` makes reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from celery_durable.core.pause import Paused
from celery_durable.core.reason import Diagnosis
from celery_durable.core.status import Status
from celery_durable.core.token import Token

RELAY_IS_GONE_AFTER = timedelta(seconds=15)
"""A relay that has not said for so long that it is there is gone (`background.presence`)."""


@dataclass(frozen=True, slots=True)
class Hint:
    """The hint of a token in the outbox, and what the broker said when it refused it last."""

    available_at: datetime | None = None
    tries: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Consumer:
    """A worker process: what it consumes and knows, and how much it has in hand.

    `is_dead`: its lock is free, and nobody has said so yet. `took_at`: since when it has the latest
    of what it has in hand.
    """

    id: UUID
    hostname: str
    pid: int
    queues: frozenset[str]
    knows: Mapping[str, Sequence[str]]
    slots: int
    busy: int
    expires_at: datetime
    draining: bool = False
    is_dead: bool = False
    took_at: datetime | None = None

    def is_live(self, at: datetime) -> bool:
        """True if it has not died, and has renewed in time."""
        return not self.is_dead and self.expires_at >= at

    def takes(self, queue: str, at: datetime) -> bool:
        """True if it takes new messages of the queue."""
        consumes = not self.queues or queue in self.queues
        return consumes and self.is_live(at) and not self.draining


@dataclass(frozen=True, slots=True)
class SeenRelay:
    """A relay, and what keeps it from publishing, if something does."""

    hostname: str
    pid: int
    seen_at: datetime
    outage: str | None = None
    outage_since: datetime | None = None

    def is_live(self, at: datetime) -> bool:
        """True if it has said lately that it is there."""
        return at - self.seen_at < RELAY_IS_GONE_AFTER


@dataclass(frozen=True, slots=True)
class Locker:
    """A transaction of somebody else's that the library waits for."""

    pid: int
    user: str
    state: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """A token, who has claimed it since when, its hint, and how often its unit may be tried."""

    token: Token
    since: datetime
    hinted_at: datetime
    queue: str
    wake_at: datetime | None = None
    waiting_since: datetime | None = None
    begun: bool = False
    claimed_by: UUID | None = None
    hint: Hint | None = None
    progress: str = ""
    deadline_at: datetime | None = None
    max_attempts: int | None = None
    came_at: datetime | None = None

    @property
    def due_at(self) -> datetime:
        """When it became due; a hint may have been sent again since."""
        return max(filter(None, (self.since, self.wake_at, self.came_at)))

    def arrived(self, at: datetime) -> Standing:
        """The same where what it waited for came at `at`; its time limit means nothing now."""
        return replace(self, came_at=at, wake_at=None)


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to know of a run and its surroundings at one moment, `at`.

    `signals`: when the first signal of each name came, of those that are not consumed. `refusals`:
    why the last signal of a name was refused, where none has been taken since. `not_undone`: the
    compensations that have failed for good.
    """

    at: datetime
    run_id: UUID
    workflow: str
    version: int
    status: Status
    tokens: Sequence[Standing] = ()
    workers: Sequence[Consumer] = ()
    relays: Sequence[SeenRelay] = ()
    lockers: Sequence[Locker] = ()
    signals: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    refusals: Mapping[str, str] = field(default_factory=dict[str, str])
    pauses: Sequence[Paused] = ()
    children: Mapping[UUID, Diagnosis] = field(default_factory=dict[UUID, Diagnosis])
    finished_at: datetime | None = None
    retried_as: UUID | None = None
    error: str | None = None
    not_undone: Sequence[str] = ()
    cancel_requested_at: datetime | None = None
    cancel_reason: str | None = None
    cancelled_by: str | None = None

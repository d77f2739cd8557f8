"""Workers and queues, as people are shown them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from celery_durable.core.situation import Consumer


class WorkerState(StrEnum):
    """What a worker process is up to, as its row and its lock say.

    `dead`: its lock is free. `overdue`: it has not renewed in time. A relay ends the row of either.
    """

    ALIVE = "alive"
    DRAINING = "draining"
    OVERDUE = "overdue"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Executing:
    """A unit that a worker has claimed, and since when."""

    run_id: UUID
    workflow: str
    unit: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo(Consumer):
    """One worker process that has not ended.

    `slots` is how many messages it executes at once, `busy` how many tokens it has claimed: under
    load a message has several. `executing` are these, the longest first, at most 16. `knows` are
    the positions at which it can execute runs, by `workflow@version`. `node_id` is shared by the
    processes of one Celery worker. One without a lock is found dead by its `expires_at` only.
    """

    state: WorkerState
    node_id: UUID
    pool: str
    started_at: datetime
    renewed_at: datetime
    has_lock: bool
    executing: tuple[Executing, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """What waits for one queue, and who consumes it.

    `due` and `later` are messages in the outbox; those that the broker has `refused`, with its
    words in `refusal`, are tried again later. `published` tokens have a message on its way that no
    worker has followed yet; `claimed` ones are being executed. `waiting_since` is since when the
    oldest of `due` and `published` waits. `workers` are live processes that take messages, with
    their `slots`, of which `busy` are in use. The counts named in `at_least` stopped at a bound.
    """

    queue: str
    due: int = 0
    later: int = 0
    refused: int = 0
    refusal: str | None = None
    published: int = 0
    claimed: int = 0
    waiting_since: datetime | None = None
    workers: int = 0
    slots: int = 0
    busy: int = 0
    at_least: tuple[str, ...] = ()

    @property
    def holds_work(self) -> bool:
        """True if something waits for a worker of the queue, now or later."""
        return self.due + self.later + self.published + self.claimed > 0

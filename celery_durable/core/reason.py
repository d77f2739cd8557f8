"""Reasons why a run stands where it stands, as users see them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from celery_durable.core.status import Status


class Code(StrEnum):
    """What keeps a run, or a unit of it, from going on."""

    ENDED = "ended"
    NOT_UNDONE = "not_undone"
    SIGNAL = "signal"
    SLEEPING = "sleeping"
    CHILD = "child"
    BRANCHES = "branches"
    RETRYING = "retrying"
    DELAYED = "delayed"
    PAUSED = "paused"
    EXHAUSTED = "exhausted"
    CANCELLING = "cancelling"
    EXECUTING = "executing"
    WORKER_LOST = "worker_lost"
    LOCKED = "locked"
    ON_ITS_WAY = "on_its_way"
    NO_RELAY = "no_relay"
    BROKER_UNAVAILABLE = "broker_unavailable"
    REFUSED = "refused"
    UNPUBLISHED = "unpublished"
    NO_CONSUMER = "no_consumer"
    UNKNOWN = "unknown"
    BUSY = "busy"
    DEAF = "deaf"


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason why a run does not go on.

    `text` is a sentence without its times: it has been so `since`, and will be at the latest
    `until`. `help` is what moves the run on; empty where nothing has to be done. A command in it
    has a line of its own, the last, and `<app>` stands for what Celery's -A takes. `unit` is the
    unit that it is about. `inner` are the reasons of the child, or of the branches, that it waits
    for; `run_id` is the run that stands by it, for those of a child the child.
    """

    code: Code
    text: str
    since: datetime | None = None
    until: datetime | None = None
    help: str = ""
    unit: str | None = None
    inner: tuple[Reason, ...] = ()
    run_id: UUID | None = None

    def __str__(self) -> str:
        times = [f"since {self.since:%Y-%m-%d %H:%M:%S}Z"] if self.since else []
        times += [f"until {self.until:%Y-%m-%d %H:%M:%S}Z"] if self.until else []
        lines = [f"{self.text}{' (' + ', '.join(times) + ')' if times else ''}."]
        lines += [f"-> {line}" for line in self.help.splitlines()]
        lines += [f"  {line}" for reason in self.inner for line in str(reason).splitlines()]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a run stands where it stood at `at`; the reasons are outermost first."""

    run_id: UUID
    status: Status
    at: datetime
    reasons: tuple[Reason, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.reasons))

"""What people read of reasons, and of what unfinished runs stand at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from celery_durable.core.reason import Code, Reason
from celery_durable.core.status import Status
from celery_durable.store.read.standstill import READY

STANDS_AT: Mapping[str, str] = {
    Code.EXECUTING: "a unit is executed",
    READY: "ready, and not begun",
    Code.RETRYING: "a unit waits for its next try",
    Code.DELAYED: "begins later",
    Code.SIGNAL: "waits for a signal",
    Code.CHILD: "waits for a child run",
    Code.BRANCHES: "waits for branches or items",
    Code.SLEEPING: "sleeps",
    Code.PAUSED: "paused",
    Code.EXHAUSTED: "used up its tries",
}
"""By the kinds of `store.read.standstill`."""

IN_SHORT: Mapping[Code, str] = {
    Code.ENDED: "ended",
    Code.NOT_UNDONE: "not all undone",
    Code.SIGNAL: "waits for a signal",
    Code.SLEEPING: "sleeps",
    Code.CHILD: "waits for a child",
    Code.BRANCHES: "waits for branches",
    Code.RETRYING: "tried again later",
    Code.DELAYED: "begins later",
    Code.PAUSED: "paused",
    Code.EXHAUSTED: "used up its tries",
    Code.CANCELLING: "being cancelled",
    Code.EXECUTING: "executing",
    Code.WORKER_LOST: "its worker is gone",
    Code.LOCKED: "locked by a transaction",
    Code.ON_ITS_WAY: "on its way",
    Code.NO_RELAY: "no relay runs",
    Code.BROKER_UNAVAILABLE: "the broker is away",
    Code.REFUSED: "refused by the broker",
    Code.UNPUBLISHED: "not published yet",
    Code.NO_CONSUMER: "nobody consumes its queue",
    Code.UNKNOWN: "no worker knows it",
    Code.BUSY: "all workers are busy",
    Code.DEAF: "workers take nothing",
}
"""A reason in a cell of a table."""

IN_ORDER = frozenset({Code.ENDED, Code.EXECUTING, Code.ON_ITS_WAY, Code.SLEEPING, Code.DELAYED})
"""Reasons that nobody has to do anything about."""

WAITS = frozenset({Code.SIGNAL, Code.CHILD, Code.BRANCHES, Code.RETRYING, Code.CANCELLING})
"""Reasons that are as the workflow has it, and may take long."""

ON_THE_PAGE: Mapping[Code, tuple[str, str]] = {
    Code.ENDED: ("Retry it", "retry"),
    Code.NOT_UNDONE: ("Compensate again", "retry_compensation"),
    Code.SIGNAL: ("Answer it", "resume"),
    Code.RETRYING: ("Try it now", "retry_now"),
    Code.EXHAUSTED: ("Try it again", "retry_now"),
    Code.PAUSED: ("Unpause it", "unpause"),
}
"""What the page of a run can do about a reason: in words, and by which action."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """What helps: in words, by what the page itself does, or by a command; each may be empty.

    `action` is the name of what the page does, `title` what it is called.
    """

    text: str = ""
    title: str = ""
    action: str = ""
    command: str = ""


def remedy_of(reason: Reason, app: str) -> Remedy:
    """What helps against a reason; `app` is what Celery's -A takes."""
    if not reason.help:
        return Remedy()
    *lines, last = reason.help.splitlines()
    is_command = last.startswith(("celery ", "SELECT "))
    text = " ".join(lines if is_command else [*lines, last]).rstrip(":")
    command = last.replace("<app>", app) if is_command else ""
    return Remedy(text, *ON_THE_PAGE.get(reason.code, ("", "")), command)


_ENDS: Mapping[Status | None, str] = {Status.FAILED: "bad", Status.CANCELLED: "warn"}


def tone(reason: Reason, status: Status | None = None) -> str:
    """How a reason looks: `good`, `warn` or `bad`; `status` is the run's, where it is known."""
    if reason.code is Code.ENDED:
        return _ENDS.get(status, "good")
    if reason.code in IN_ORDER:
        return "good"
    return "warn" if reason.code in WAITS else "bad"

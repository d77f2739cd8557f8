"""What a worker is at: a message, and an attempt at one unit."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import EllipsisType

from celery_durable.core.claim import Claim
from celery_durable.core.token import Flags
from celery_durable.core.values import value
from celery_durable.engine.report import Report
from celery_durable.process import interrupts
from celery_durable.settings import Settings
from celery_durable.workflow.builder import Workflow


@dataclass(slots=True)
class Message:
    """A message that a worker has received, and what it may still do.

    `limit` is its soft time limit in seconds; `...` fits any unit. After `units_left` units, or at
    `until` on the monotonic clock, its run goes back to the broker. `is_shared`: it names other
    tokens, too. `report` is what it has done. `when_decided` is called once it is known what
    becomes of its first claim.
    """

    limit: float | EllipsisType | None
    received: float
    units_left: int
    until: float
    report: Report
    is_shared: bool = False
    when_decided: Callable[[], None] | None = None

    @classmethod
    def of(
        cls,
        limit: float | EllipsisType | None,
        settings: Settings,
        report: Report,
        *,
        is_shared: bool = False,
    ) -> Message:
        """A message that has just come."""
        now = time.monotonic()
        until = now + settings.inline_seconds
        return cls(limit, now, settings.inline_steps, until, report, is_shared)

    def decided(self) -> None:
        """Say that its first unit is about to be executed, or is no longer claimed. Safe twice."""
        told, self.when_decided = self.when_decided, None
        if told is not None:
            told()

    @property
    def is_late(self) -> bool:
        """True if the pool would end the unit early: it counts since the message was received."""
        is_limited = self.limit not in (..., None)
        return is_limited and time.monotonic() - self.received > interrupts.EARLY

    @property
    def is_used_up(self) -> bool:
        """True if no further unit may begin."""
        return self.units_left <= 0 or time.monotonic() >= self.until


@value(frozen=True, slots=True)
class Attempt:
    """A worker's attempt at the unit of its claim."""

    workflow: Workflow
    claim: Claim
    message: Message
    began: float = field(default_factory=time.monotonic)

    @property
    def now(self) -> datetime:
        """The database's time: that of the claim, and the seconds that have passed since."""
        return self.claim.seen_at + timedelta(seconds=time.monotonic() - self.began)

    def with_input(self, input: str | None) -> Attempt:
        """The same attempt with `input`, JSON text, made for a loop's first iteration; or None."""
        if input is None or input == self.claim.token.input:
            return self
        token = replace(self.claim.token, input=input)
        return replace(self, claim=replace(self.claim, token=token))

    def with_flags(self, flags: Flags) -> Attempt:
        """The same attempt with the flags that are up by now."""
        token = replace(self.claim.token, flags=flags)
        return replace(self, claim=replace(self.claim, token=token))

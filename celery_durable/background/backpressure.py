"""Queues that take no more for now: what is for them waits in the outbox and holds up no other."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from celery_durable.process.outage import Shared, Words

FIRST, MAXIMUM = 0.05, 5.0
"""Seconds a queue that is full is left alone; doubling from the first to the maximum while it takes
nothing, and halving while it takes some.
"""


LONG, SHARE = 1.0, 10.0
"""Seconds after which a try was long, as where a queue gives no answer: others had to wait for it,
and the pause is so many times as long.
"""


@dataclass(frozen=True, slots=True)
class Pause:
    """A queue is left alone until then, which is after `wait` seconds."""

    wait: float
    until: float


class Backpressure:
    """The pauses of one relay, a queue each; one log line at each end."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._pauses: dict[str, Pause] = {}
        self._told: dict[str, Shared] = {}

    def paused(self) -> Sequence[str]:
        """The queues that nothing is to be published to now."""
        now = time.monotonic()
        return [queue for queue, pause in self._pauses.items() if pause.until > now]

    def seconds_to_next(self) -> float:
        """How long until a queue is tried again; infinity where none is paused."""
        now = time.monotonic()
        ahead = [pause.until - now for pause in self._pauses.values() if pause.until > now]
        return min(ahead, default=math.inf)

    def note(
        self, full: Mapping[str, str], took: Collection[str | None], lasted: float = 0.0
    ) -> None:
        """Pause the queues that are full; those that took all they were given go on.

        The try `lasted` so many seconds.
        """
        for queue, why in full.items():
            wait = self._next_wait(queue, took_some=queue in took)
            until = time.monotonic() + max(wait, SHARE * lasted if lasted >= LONG else 0.0)
            self._pauses[queue] = Pause(wait, until)
            self._story_of(queue).notice(why)
        for queue in self._pauses.keys() & (set(took) - full.keys()):
            del self._pauses[queue]
            self._story_of(queue).is_over()

    def _next_wait(self, queue: str, *, took_some: bool) -> float:
        before = self._pauses.get(queue)
        if before is None:
            return FIRST
        return max(before.wait / 2, FIRST) if took_some else min(before.wait * 2, MAXIMUM)

    def _story_of(self, queue: str) -> Shared:
        words = Words("takes no more for now, its messages wait", "takes messages again")
        told = Shared(self._logger, f"Queue {queue!r}", words)
        return self._told.setdefault(queue, told)

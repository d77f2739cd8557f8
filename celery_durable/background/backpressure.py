"""Pauses queues that take no more for now; their messages stay in the outbox, delaying none."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from celery_durable.process.outage import Shared, Words

FIRST, MAXIMUM = 0.05, 5.0
"""Seconds for which a full queue is paused; doubling from first to maximum while it takes nothing,
halving while it takes some.
"""


LONG, SHARE = 1.0, 10.0
"""A try of at least `LONG` seconds, as where a queue gives no answer, made other queues wait. The
pause after it is `SHARE` times as long.
"""


@dataclass(frozen=True, slots=True)
class Pause:
    """A queue is paused for `wait` seconds, until the monotonic time `until`."""

    wait: float
    until: float


class Backpressure:
    """The pauses of one relay, by queue; logs one line at each end of a pause."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._pauses: dict[str, Pause] = {}
        self._outages: dict[str, Shared] = {}

    def paused(self) -> Sequence[str]:
        """The queues that are paused now."""
        now = time.monotonic()
        return [queue for queue, pause in self._pauses.items() if pause.until > now]

    def seconds_to_next(self) -> float:
        """The seconds until a queue is tried again; infinity if none is paused."""
        now = time.monotonic()
        ahead = [pause.until - now for pause in self._pauses.values() if pause.until > now]
        return min(ahead, default=math.inf)

    def note(
        self, full: Mapping[str, str], took: Collection[str | None], lasted: float = 0.0
    ) -> None:
        """Pause the `full` queues, and end the pauses of those that `took` all they were sent.

        The try `lasted` so many seconds.
        """
        for queue, why in full.items():
            wait = self._next_wait(queue, took_some=queue in took)
            until = time.monotonic() + max(wait, SHARE * lasted if lasted >= LONG else 0.0)
            self._pauses[queue] = Pause(wait, until)
            self._outage_of(queue).notice(why)
        for queue in self._pauses.keys() & (set(took) - full.keys()):
            del self._pauses[queue]
            self._outage_of(queue).is_over()

    def _next_wait(self, queue: str, *, took_some: bool) -> float:
        before = self._pauses.get(queue)
        if before is None:
            return FIRST
        return max(before.wait / 2, FIRST) if took_some else min(before.wait * 2, MAXIMUM)

    def _outage_of(self, queue: str) -> Shared:
        words = Words("takes no more for now, its messages wait", "takes messages again")
        outage = Shared(self._logger, f"Queue {queue!r}", words)
        return self._outages.setdefault(queue, outage)

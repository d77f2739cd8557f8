"""An outage as those see it who have to live with it: one log line at each end, growing pauses."""

from __future__ import annotations

import logging
import threading
import time

from celery_durable.errors import DatabaseUnavailable

FIRST, MAXIMUM = 0.2, 5.0
"""Seconds between tries while something is away; doubling from the first to the maximum."""

SAME_WITHIN = 5.0
"""Seconds after the end of an outage in which another is the same one: threads notice one by one,
each at its own connection.
"""


class Shared:
    """What the threads of a process say together of a service that is away."""

    def __init__(
        self,
        logger: logging.Logger,
        what: str,
        *,
        begins: str = "does not answer, trying again",
        ends: str = "answers again",
    ) -> None:
        self._logger = logger
        self._what = what
        self._begins = begins
        self._ends = ends
        self._lock = threading.Lock()
        self._since: float | None = None
        self._is_told = False
        self._ended = -SAME_WITHIN

    def notice(self, error: object) -> None:
        """Note a failed try; the first of an outage is logged."""
        with self._lock:
            if self._since is not None:
                return
            self._since = time.monotonic()
            self._is_told = self._since - self._ended >= SAME_WITHIN
            if self._is_told:
                why = " ".join(str(error).split())  # Postgres's are of many lines
                self._logger.warning("%s %s: %s", self._what, self._begins, why)

    def is_over(self) -> None:
        """Note a try that went well."""
        if self._since is not None:
            self._end()

    def _end(self) -> None:
        with self._lock:
            since, self._since = self._since, None
            if since is None:
                return
            self._ended = time.monotonic()
            if self._is_told:
                lasted = self._ended - since
                self._logger.warning("%s %s after %.1f s", self._what, self._ends, lasted)


class Outage:
    """The state of one duty: well, or trying again.

    With `shared`, that Postgres is away is told by that, once for the whole process.
    """

    def __init__(
        self,
        logger: logging.Logger,
        who: str,
        *,
        first: float = FIRST,
        maximum: float = MAXIMUM,
        shared: Shared | None = None,
    ) -> None:
        self._logger = logger
        self._who = who
        self._first = first
        self._maximum = maximum
        self._shared = shared
        self._wait = 0.0
        self._is_shared = False
        self._told: type[Exception] | None = None

    @property
    def is_on(self) -> bool:
        """Whether the last try failed."""
        return self._wait > 0.0

    def goes_on(self, error: Exception, *, is_expected: bool = True) -> float:
        """Note a failed try; returns the seconds to wait before the next."""
        if self._shared is not None and isinstance(error, DatabaseUnavailable):
            self._shared.notice(error)
            self._is_shared = True
        elif not self.is_on or type(error) is not self._told:
            trace = None if is_expected else error
            self._logger.warning("%s tries again: %s", self._who, error, exc_info=trace)
            self._told, self._is_shared = type(error), False
        self._wait = min(max(2 * self._wait, self._first), self._maximum)
        return self._wait

    def is_over(self) -> None:
        """Note a try that went well."""
        if self.is_on and self._is_shared and self._shared is not None:
            self._shared.is_over()
        elif self.is_on:
            self._logger.warning("%s goes on", self._who)
        self._wait = 0.0

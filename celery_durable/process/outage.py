"""An outage as those see it who have to live with it: one log line at each end, growing pauses."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from celery_durable.errors import DatabaseUnavailable

FIRST, MAXIMUM = 0.2, 5.0
"""Seconds between tries while something is away; doubling from the first to the maximum."""

SAME_WITHIN = 5.0
"""Seconds after the end of an outage in which another is the same one: threads notice one by one,
each at its own connection.
"""


@dataclass(frozen=True, slots=True)
class Words:
    """How the two lines of an outage go on after the name of what is away."""

    begins: str
    ends: str


AWAY = Words("does not answer, trying again", "answers again")
HINDERED = Words("answers, but cannot do it now, trying again", "can do it again")


class Shared:
    """What the threads of a process say together of a service that is away.

    A service that answers, and cannot, may go away meanwhile: that is told too.
    """

    def __init__(self, logger: logging.Logger, what: str, words: Words = AWAY) -> None:
        self._logger = logger
        self._what = what
        self._words = words
        self._lock = threading.Lock()
        self._since: float | None = None
        self._told: Words | None = None
        self._last_told: Words | None = None
        self._ended = -SAME_WITHIN

    def notice(self, error: object) -> None:
        """Note a failed try; the first of an outage is logged."""
        is_there = isinstance(error, DatabaseUnavailable) and error.is_there
        words = HINDERED if is_there else self._words
        with self._lock:
            now = time.monotonic()
            if self._since is None:
                self._since = now
                is_same = now - self._ended < SAME_WITHIN
                self._told, self._last_told = None, self._last_told if is_same else None
            if self._last_told in (words, self._words):
                return
            self._told = self._last_told = words
            why = " ".join(str(error).split())  # Postgres's are of many lines
            self._logger.warning("%s %s: %s", self._what, words.begins, why)

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
            if self._told is not None:
                lasted = self._ended - since
                self._logger.warning("%s %s after %.1f s", self._what, self._told.ends, lasted)


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
        self._told: type[BaseException] | None = None

    @property
    def is_on(self) -> bool:
        """Whether the last try failed."""
        return self._wait > 0.0

    def goes_on(self, error: Exception | SystemExit, *, is_expected: bool = True) -> float:
        """Note a failed try; returns the seconds to wait before the next."""
        if self._shared is not None and isinstance(error, DatabaseUnavailable):
            self._shared.notice(error)
            self._is_shared = True
        elif not self.is_on or type(error) is not self._told:
            trace = None if is_expected else error
            why = str(error) if is_expected else f"{type(error).__name__}: {error}"
            self._logger.warning("%s tries again: %s", self._who, why, exc_info=trace)
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

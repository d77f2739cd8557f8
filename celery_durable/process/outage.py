"""Logs one line at each end of an outage, and says how long to wait between tries."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from celery_durable.errors import DatabaseUnavailable

FIRST, MAXIMUM = 0.2, 5.0
"""Seconds between tries in an outage, doubling from the first to the maximum."""

SAME_WITHIN = 5.0
"""An outage that begins within so many seconds after another is the same one: threads notice it one
by one, each at its own connection.
"""


@dataclass(frozen=True, slots=True)
class Words:
    """The two lines of an outage, after the name of the service."""

    begins: str
    ends: str


AWAY = Words("does not answer, trying again", "answers again")
HINDERED = Words("answers, but cannot do it now, trying again", "can do it again")


class Shared:
    """The outage of a service that the threads of a process share, and log once.

    A service that answers but cannot do something may go away meanwhile: that is logged too.
    """

    def __init__(self, logger: logging.Logger, what: str, words: Words = AWAY) -> None:
        self._logger = logger
        self._what = what
        self._words = words
        self._lock = threading.Lock()
        self._since: float | None = None
        self._logged: Words | None = None
        self._last_logged: Words | None = None
        self._ended = -SAME_WITHIN

    def notice(self, error: object) -> None:
        """Note a failed try; log the first of an outage."""
        is_there = isinstance(error, DatabaseUnavailable) and error.is_there
        words = HINDERED if is_there else self._words
        with self._lock:
            now = time.monotonic()
            if self._since is None:
                self._since = now
                is_same = now - self._ended < SAME_WITHIN
                self._logged, self._last_logged = None, self._last_logged if is_same else None
            if self._last_logged in (words, self._words):
                return
            self._logged = self._last_logged = words
            why = " ".join(str(error).split())  # errors of Postgres have several lines
            self._logger.warning("%s %s: %s", self._what, words.begins, why)

    def is_over(self) -> None:
        """Note a successful try; log the end of an outage."""
        if self._since is not None:
            self._end()

    def _end(self) -> None:
        with self._lock:
            since, self._since = self._since, None
            if since is None:
                return
            self._ended = time.monotonic()
            if self._logged is not None:
                lasted = self._ended - since
                self._logger.warning("%s %s after %.1f s", self._what, self._logged.ends, lasted)


class Outage:
    """The outage of one duty, which tries again.

    With `shared`, that one logs that Postgres is away, once for the whole process.
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
        self._logged: type[BaseException] | None = None

    @property
    def is_on(self) -> bool:
        """True if the last try failed."""
        return self._wait > 0.0

    def goes_on(self, error: Exception | SystemExit, *, is_expected: bool = True) -> float:
        """Note a failed try, and return the seconds to wait before the next."""
        if self._shared is not None and isinstance(error, DatabaseUnavailable):
            self._shared.notice(error)
            self._is_shared = True
        elif not self.is_on or type(error) is not self._logged:
            trace = None if is_expected else error
            why = str(error) if is_expected else f"{type(error).__name__}: {error}"
            self._logger.warning("%s tries again: %s", self._who, why, exc_info=trace)
            self._logged, self._is_shared = type(error), False
        self._wait = min(max(2 * self._wait, self._first), self._maximum)
        return self._wait

    def is_over(self) -> None:
        """Note a successful try; log the end of an outage."""
        if self.is_on and self._is_shared and self._shared is not None:
            self._shared.is_over()
        elif self.is_on:
            self._logger.warning("%s goes on", self._who)
        self._wait = 0.0

"""An outage as a background duty sees it: one log line at each end, growing pauses between."""

from __future__ import annotations

import logging

FIRST, MAXIMUM = 0.2, 5.0
"""Seconds between tries while something is away; doubling from the first to the maximum."""


class Outage:
    """The state of one duty: well, or trying again."""

    def __init__(self, logger: logging.Logger, who: str, maximum: float = MAXIMUM) -> None:
        self._logger = logger
        self._who = who
        self._maximum = maximum
        self._wait = 0.0

    @property
    def is_on(self) -> bool:
        """Whether the last try failed."""
        return self._wait > 0.0

    def goes_on(self, error: Exception, *, is_expected: bool = True) -> float:
        """Note a failed try; returns the seconds to wait before the next."""
        if not self.is_on or not is_expected:
            trace = None if is_expected else error
            self._logger.warning("%s tries again: %s", self._who, error, exc_info=trace)
        self._wait = min(max(2 * self._wait, FIRST), self._maximum)
        return self._wait

    def is_over(self) -> None:
        """Note a try that went well."""
        if self.is_on:
            self._logger.warning("%s goes on", self._who)
        self._wait = 0.0

"""Counts what happens in this process, until somebody takes the counts and writes them down."""

from __future__ import annotations

import threading
from collections.abc import Mapping

Series = tuple[str, tuple[str, ...]]
"""A name, and the values of its labels."""


class Tally:
    """Counts by series. Its threads share it; adding costs well under a microsecond."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Series, float] = {}

    def add(self, name: str, *labels: str, by: float = 1) -> None:
        """Add to a series."""
        series = (name, labels)
        with self._lock:
            self._counts[series] = self._counts.get(series, 0) + by

    def take(self) -> Mapping[Series, float]:
        """Return all counts, and begin anew."""
        with self._lock:
            counts, self._counts = self._counts, {}
        return counts

    def put_back(self, counts: Mapping[Series, float]) -> None:
        """Add counts that were taken and could not be written down."""
        for (name, labels), count in counts.items():
            self.add(name, *labels, by=count)

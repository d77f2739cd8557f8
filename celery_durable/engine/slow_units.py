"""Remembers which units take long: those gain nothing in a bundle, and would hold up the others."""

from __future__ import annotations

from celery_durable.core.claim import RunFacts
from celery_durable.core.token import Token

SLOW_FROM = 0.005
"""Seconds that a unit takes on average from which on it is slow.

What a bundle saves is under a millisecond for each unit, whatever the unit does.
"""

WEIGHT = 0.2
"""The weight of the newest execution in the mean: a unit that was slow once is soon forgotten."""

Key = tuple[str, int, str, str | None, bool]


class SlowUnits:
    """The mean duration of each unit in this process. Its threads share it without a lock."""

    def __init__(self) -> None:
        self._mean: dict[Key, float] = {}

    def note(self, run: RunFacts, token: Token, seconds: float) -> None:
        """Note that the unit's function took `seconds`."""
        key = _key(run, token)
        mean = self._mean.get(key, seconds)
        self._mean[key] = mean + WEIGHT * (seconds - mean)

    def is_slow(self, run: RunFacts, token: Token) -> bool:
        """Return True if the unit that the token is at has been slow; False if it is not known."""
        return self._mean.get(_key(run, token), 0.0) > SLOW_FROM


def _key(run: RunFacts, token: Token) -> Key:
    return run.workflow, run.version, token.node, token.part, token.rollback is None

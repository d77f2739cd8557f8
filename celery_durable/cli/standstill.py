"""Says why a run that somebody waits for does not move."""

from __future__ import annotations

import time

from celery_durable.core.reason import Diagnosis
from celery_durable.run import Run
from celery_durable.view.wording import IN_ORDER

PATIENCE = 5.0
"""Seconds for which a run may stand, or be waited for, until it is asked why; and until it is asked
again.
"""


class Standstill:
    """Asks why a run stands, once what is seen of it has been the same for `PATIENCE` seconds."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._seen: object = None
        self._ask_at = 0.0
        self._found: Diagnosis | None = None

    def look(self, seen: object) -> Diagnosis | None:
        """Return why it stands; None while it moves, or while nobody has to do anything."""
        now = time.monotonic()
        if self._ask_at == 0.0 or seen != self._seen:
            self._seen, self._found, self._ask_at = seen, None, now + PATIENCE
        elif now >= self._ask_at:
            self._found, self._ask_at = _if_not_in_order(self._run.why()), now + PATIENCE
        return self._found


class Told:
    """Remembers what has been said of a standstill: the same is not said twice in a row."""

    def __init__(self) -> None:
        self._last: tuple[str, ...] = ()

    def is_new(self, found: Diagnosis | None) -> bool:
        """Return True if this is something else than was said last."""
        texts = () if found is None else tuple(reason.text for reason in found.reasons)
        is_new, self._last = bool(texts) and texts != self._last, texts
        return is_new


def why_not_ended(run: Run) -> Diagnosis | None:
    """Why the run has not ended; None while nobody has to do anything."""
    return _if_not_in_order(run.why())


def _if_not_in_order(found: Diagnosis) -> Diagnosis | None:
    return found if any(reason.code not in IN_ORDER for reason in found.reasons) else None

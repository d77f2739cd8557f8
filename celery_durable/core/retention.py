"""How long runs are kept after their end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from celery_durable.core.status import FINISHED, Status

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many seconds a finished run is kept, by its status; None is for ever."""

    completed: float | None = 30 * DAY
    failed: float | None = 90 * DAY
    cancelled: float | None = 90 * DAY

    @property
    def ages(self) -> Mapping[Status, float]:
        """The seconds after which a run may go, of each status that is not kept for ever."""
        ages = {status: getattr(self, status.value) for status in Status if status in FINISHED}
        return {status: age for status, age in ages.items() if age is not None}


BY_DEFAULT = Retention()

FOR_EVER = Retention(None, None, None)
"""Nothing is ever deleted."""

"""What becomes of a start whose key another run has."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from celery_durable.core.status import FINISHED, Status

OnConflict = Literal["existing", "raise", "cancel"]
"""What a start does whose key another run has and keeps."""

ReuseKey = Literal["never", "after_failure", "always"]
"""Whether a start takes the key of a run that has ended."""


class KeyConflict(Enum):
    """What becomes of a start whose key another run has."""

    KEPT = auto()
    """Nothing is started: the other run is returned."""
    REFUSED = auto()
    """Nothing is started: that is an error."""
    FREED = auto()
    """The other run has ended, and the key moves to the new one."""
    CANCELLED = auto()
    """The other run is cancelled, and the key moves to the new one."""


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """What a caller wants where another run has the key."""

    on_conflict: OnConflict = "existing"
    reuse: ReuseKey = "never"

    def conflict(self, status: Status) -> KeyConflict:
        """Decide on a start whose key a run of this status has.

        A run that has ended cannot be cancelled: where it keeps its key, "cancel" is "existing".
        """
        if status in FINISHED:
            is_free = self.reuse == "always" or (
                self.reuse == "after_failure" and status is not Status.COMPLETED
            )
            if is_free:
                return KeyConflict.FREED
        elif self.on_conflict == "cancel":
            return KeyConflict.CANCELLED
        return KeyConflict.REFUSED if self.on_conflict == "raise" else KeyConflict.KEPT


DEFAULT_KEY_POLICY = KeyPolicy()

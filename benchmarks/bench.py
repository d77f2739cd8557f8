"""What a part gets to work with: the services, how often, how long, and until when."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.services import Services


@dataclass(frozen=True, slots=True)
class Bench:
    """One run of the benchmark."""

    services: Services
    rounds: int
    seconds: float
    """How long one measurement of a rate should take."""

    deadline: float
    """In the time of `time.monotonic`: no round begins later, but for the first of a part."""

    large: bool
    """Whether databases are filled as far as takes long."""

    only: str
    """Contenders whose name has this in it; all if empty."""

    say: Callable[[str, float], None]
    """Shows what is being done, and what share of the part has been."""

    missing: list[str] = field(default_factory=list)
    """Who has not done all of its work."""

    @property
    def is_late(self) -> bool:
        return time.monotonic() > self.deadline

"""What somebody has done to a run, a workflow or a step."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and why; the name is None where nobody has said."""

    name: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """What was done, `at`, by `actor`, for a `reason`.

    `name` is that of the method: `cancel`, `retry`, `skip`. `what` is the unit, the step or the
    signal that it was done to. `actor` and `reason` are None where nobody has said.
    """

    at: datetime
    name: str
    actor: str | None
    reason: str | None
    run_id: UUID | None
    workflow: str | None
    version: int | None
    what: str | None

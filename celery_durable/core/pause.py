"""What an operator has paused: no further unit begins there."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from celery_durable.core.token import Token
from celery_durable.core.values import value


@value(frozen=True, slots=True)
class Pause:
    """Units of one run, of a workflow or one version of it, of a step, or of a step of a workflow.

    What is None is not asked for.
    """

    run_id: UUID | None = None
    workflow: str | None = None
    version: int | None = None
    step: str | None = None

    def covers(self, token: Token, workflow: str, version: int) -> bool:
        """Return True if the unit of the token may not begin. In step with `store.pauses`."""
        return (
            self.run_id in (None, token.run_id)
            and self.workflow in (None, workflow)
            and self.version in (None, version)
            and self.step in (None, token.node, token.part)
        )

    def __str__(self) -> str:
        """What is paused: `the run`, `order version 2`, `step charge of order`."""
        whole = "the run" if self.run_id is not None else f"workflow {self.workflow}"
        if self.version is not None:
            whole += f" version {self.version}"
        if self.step is None:
            return whole
        is_everywhere = self.run_id is None and self.workflow is None
        return f"step {self.step}" if is_everywhere else f"step {self.step} of {whole}"


@value(frozen=True, slots=True)
class Paused:
    """A pause, its reason, since when, and by whom; None where nobody has said."""

    pause: Pause
    reason: str | None
    since: datetime
    by: str | None = None

"""What a worker holds while it executes a unit."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from celery_durable.core.pause import Pause
from celery_durable.core.status import Status
from celery_durable.core.token import Token
from celery_durable.core.values import value
from celery_durable.errors import ErrorRecord


@value(frozen=True, slots=True)
class RunFacts:
    """What a unit needs to know of its run. `input` is JSON text; `depth` counts runs above it.

    `trace` is that of whoever has started the run, JSON text.
    """

    id: UUID
    workflow: str
    version: int
    status: Status
    key: str | None
    priority: int | None
    tags: Mapping[str, str]
    input: str
    error: ErrorRecord | None
    parent_token: UUID | None = None
    root_run_id: UUID | None = None
    depth: int = 0
    trace: str | None = None


@value(frozen=True, slots=True)
class Claim:
    """The exclusive right of `worker` to execute `token`, proven by `fence`.

    `queue`, `priority` and `time_limit` are how the token's message went. `seen_at` is the
    database's time of the claim, or of the commit that went straight on. `due_in` is how many
    seconds the token would have waited, had nothing called it; `is_due`: its time has come;
    `waited` for how many seconds it had not been touched, `waiting_since` the time since when it
    has been parked. `draining`: the worker stops. `has_commands`: a cancel has arrived
    that is not applied yet. `pauses` are those of the run, and all that are of no one run.
    `is_first`: nobody had claimed the token before, and nothing has been committed with this claim.
    """

    token: Token
    run: RunFacts
    fence: UUID
    worker: UUID
    queue: str
    priority: int | None
    seen_at: datetime
    time_limit: float | None = None
    due_in: float = 0.0
    is_due: bool = True
    waited: float = 0.0
    waiting_since: datetime | None = None
    draining: bool = False
    has_commands: bool = False
    pauses: tuple[Pause, ...] = ()
    is_first: bool = False

    @property
    def is_paused(self) -> bool:
        """True if the unit may not begin."""
        token, run = self.token, self.run
        return bool(self.pauses) and any(
            pause.covers(token, run.workflow, run.version) for pause in self.pauses
        )

    def later(self, seconds: float) -> Claim:
        """Make the claim as of `seconds` later: its unit begins then."""
        return self.moved(
            self.token,
            self.seen_at + timedelta(seconds=seconds),
            draining=self.draining,
            has_commands=self.has_commands,
            pauses=self.pauses,
        )

    def moved(
        self,
        token: Token,
        seen_at: datetime,
        *,
        draining: bool,
        has_commands: bool,
        pauses: tuple[Pause, ...],
        run: RunFacts | None = None,
    ) -> Claim:
        """Make the claim at another unit, or as it was seen at another time.

        Every field is named: `replace` costs as much as three of these.
        """
        return Claim(
            token=token,
            run=self.run if run is None else run,
            fence=self.fence,
            worker=self.worker,
            queue=self.queue,
            priority=self.priority,
            seen_at=seen_at,
            time_limit=self.time_limit,
            waited=self.waited,
            draining=draining,
            has_commands=has_commands,
            pauses=pauses,
            is_first=self.is_first and token.unit == self.token.unit,
        )

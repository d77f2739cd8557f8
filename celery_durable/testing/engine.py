"""The engine of a test: what it commits can be watched, and it can die at a commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from uuid import UUID

from celery_durable.background.liveness import Liveness
from celery_durable.core.claim import Claim
from celery_durable.core.decision import Decision, Fork, Move, Park
from celery_durable.core.event import Event, Failed
from celery_durable.core.nodes import SignalNode
from celery_durable.core.token import ForSignal
from celery_durable.database.notify import Notifier
from celery_durable.durable import Durable
from celery_durable.engine.attempt import Attempt
from celery_durable.engine.commit import Committed, Committer
from celery_durable.engine.loop import Engine
from celery_durable.errors import ErrorRecord
from celery_durable.run import Run
from celery_durable.settings import Settings
from celery_durable.store.commit.statement import Written
from celery_durable.store.connection import Connection
from celery_durable.workflow.execute import Execution

Handle = Callable[[UUID], Run]
"""Makes a handle on a run."""

UnitOutcome = Literal["completed", "failed", "cancelled", "retrying", "waiting"]


@dataclass(frozen=True, slots=True)
class Executed:
    """What has become of a unit. `retrying`: it has failed, and will be tried again.

    `run` is the handle of its run, which may be a child of the one that was started.
    """

    run: Run
    workflow: str
    unit: str
    outcome: UnitOutcome
    attempt: int
    error: ErrorRecord | None = None

    def __str__(self) -> str:
        return f"{self.workflow}: {self.unit} {self.outcome}"


class QuietNotifier(Notifier):
    """Wakes no relay and tells nobody: there is none."""

    def __call__(self) -> None:
        """Do nothing."""

    def ended(self, run_ids: Sequence[UUID]) -> None:
        """Do nothing."""


class Death(BaseException):
    """The worker dies here: nothing of it runs any more, and its claim stays."""


class Watch:
    """Hears of each commit. A subclass may raise `Death` there."""

    def before(self, attempt: Attempt, event: Event) -> None:
        """Called before a decision is written."""

    def after(self, attempt: Attempt) -> None:
        """Called once a decision is written, or is refused."""

    def took(self, signal: str) -> None:
        """Called for each signal that a decision which is written has consumed."""

    def executed(self, what: Executed) -> None:
        """Called for each unit of a decision that is written."""


class WatchedCommitter(Committer):
    """Commits, and tells its watch."""

    def __init__(
        self, watch: Callable[[], Watch], handle: Handle, *parts: Any, **options: Any
    ) -> None:
        super().__init__(*parts, **options)
        self._watch = watch
        self._handle = handle

    def write(
        self,
        connection: Connection,
        attempt: Attempt,
        execution: Execution,
        *,
        in_transaction: bool = False,
    ) -> Committed | None:
        """Decide, and write the decision."""
        self._watch().before(attempt, execution.event)
        return super().write(connection, attempt, execution, in_transaction=in_transaction)

    def continue_with(
        self, attempt: Attempt, execution: Execution, committed: Committed
    ) -> Claim | None:
        """Go on after the commit."""
        watch = self._watch()
        watch.after(attempt)
        if isinstance(committed.answer, Written):
            if committed.decision.consumes is not None:
                watch.took(awaited(attempt))
            run = self._handle(attempt.claim.run.id)
            for one in executed(run, attempt.claim, committed.decision, execution.event):
                watch.executed(one)
        return super().continue_with(attempt, execution, committed)


def awaited(attempt: Attempt) -> str:
    """Return the name of the signal that a token waits for, or that its node will wait for."""
    token = attempt.claim.token
    if isinstance(token.wait, ForSignal):
        return token.wait.name
    nodes = attempt.workflow.plan.nodes
    return next(
        (one.signal for one in nodes if isinstance(one, SignalNode) and one.name == token.node), ""
    )


def executed(run: Run, claim: Claim, decision: Decision, event: Event) -> Iterator[Executed]:
    """Yield what a decision has made of units."""
    token, workflow = claim.token, claim.run.workflow
    for record in decision.records:
        outcome: UnitOutcome = record.outcome.value
        yield Executed(run, workflow, record.unit, outcome, record.attempt, record.error)
    if decision.records:
        return
    if isinstance(decision.then, Park | Fork):
        yield Executed(run, workflow, token.unit, "waiting", token.attempt)
    elif isinstance(event, Failed) and isinstance(decision.then, Move):
        yield Executed(run, workflow, token.unit, "retrying", token.attempt, event.error)


class WatchedEngine(Engine):
    """Executes units in the thread of the test.

    What ends the test goes through it: a failed assertion of pytest in a handler, Ctrl-C.
    """

    def _abandon(self, claim: Claim, error: BaseException, lasted: float) -> None:  # noqa: ARG002
        """Release the claim, unless the worker is dead; nobody stops the worker of a test."""
        if not isinstance(error, Death):
            self._claims.abandon(claim)


def ends_the_test(error: BaseException) -> bool:
    """Return False for what is the failure of a handler, as in a worker."""
    return not isinstance(error, Exception | SystemExit | asyncio.CancelledError | GeneratorExit)


def engine_of(
    durable: Durable,
    settings: Settings,
    lease: Liveness,
    watch: Callable[[], Watch],
    handle: Handle,
) -> WatchedEngine:
    """Make an engine that executes the runs of `durable` under another lease."""
    return WatchedEngine(
        durable.database,
        durable.registry,
        settings,
        lease,
        QuietNotifier(durable.database),
        is_exit=ends_the_test,
        compose=durable.composer.compose,
        around=durable.around_each,
        committer=partial(WatchedCommitter, watch, handle),
    )

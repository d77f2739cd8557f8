"""Checks whether what a token waits for is there."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from celery_durable.core.child import child_failed
from celery_durable.core.claim import Claim
from celery_durable.core.event import (
    Arrived,
    ChildEnded,
    Elapsed,
    Event,
    Iteration,
    Joined,
    Signalled,
)
from celery_durable.core.failure import worker_lost
from celery_durable.core.nodes import SignalNode
from celery_durable.core.status import Status
from celery_durable.core.token import ForBranches, ForChild, ForSignal, ForTimer
from celery_durable.engine.retrying import Retrying
from celery_durable.errors import ErrorRecord
from celery_durable.store import journal, signals
from celery_durable.store.read import results, views
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.execute import Execution, Tools, call_until_and_feedback


class Waits:
    """Checks tokens that wait, and tokens that arrive at a node that calls nothing."""

    def __init__(self, retrying: Retrying, tools: Tools, max_crashes: int) -> None:
        self._retrying = retrying
        self._tools = tools
        self._max_crashes = max_crashes

    def check(self, workflow: Workflow, claim: Claim) -> Execution | None:
        """Return what has happened; None when nothing has."""
        token = claim.token
        match token.wait:
            case ForBranches():
                return Execution(self._joined(claim, token.wait))
            case ForChild():
                return self._child_ended(workflow, claim, token.wait)
            case ForTimer():
                return Execution(_elapsed(claim)) if claim.is_due else None
            case ForSignal():
                return self._signal(claim, token.wait.name)
            case None:
                node = workflow.plan.find(token.node)
                if isinstance(node, SignalNode):
                    return self._signal(claim, node.signal) or Execution(Arrived())
                return Execution(Arrived())

    def _signal(self, claim: Claim, name: str) -> Execution | None:
        """Return the signal; where there is none, that its time is up."""
        found = self._retrying.ask(
            lambda connection: signals.oldest(connection, claim.run.id, name)
        )
        since = claim.waiting_since or claim.seen_at
        if found is not None:
            return Execution(Signalled(found.id, found.payload, since))
        if claim.token.wait is not None and claim.is_due:
            return Execution(_elapsed(claim))
        return None

    def _joined(self, claim: Claim, wait: ForBranches) -> Event:
        error = None
        if wait.failed:
            error = self._retrying.ask(
                lambda connection: journal.first_failure(connection, claim.run.id, claim.token.node)
            )
        return Joined(error, claim.waiting_since or claim.seen_at)

    def _child_ended(self, workflow: Workflow, claim: Claim, wait: ForChild) -> Execution | None:
        found = self._retrying.ask(lambda connection: views.status_of(connection, wait.run_id))
        if found is None:
            return None
        status, error = found
        since = claim.waiting_since or claim.seen_at
        failure = child_failed(claim.token.unit, wait, status, error)
        ended = ChildEnded(wait.run_id, status, failure, since)
        if status is not Status.COMPLETED or claim.token.flags or claim.token.position is None:
            return Execution(ended)
        if claim.token.crashes >= self._max_crashes:
            # The child stays completed: it is the loop's own functions that are not tried again.
            lost = worker_lost(claim.token.unit, claim.token.crashes)
            iteration: Iteration | None = Iteration(error=replace(lost, unit=claim.token.node))
        else:
            iteration = self._iteration(workflow, claim, wait.run_id)
        return Execution(replace(ended, iteration=iteration))

    def _iteration(self, workflow: Workflow, claim: Claim, child: UUID) -> Iteration | None:
        def result() -> object:
            return self._retrying.ask(lambda connection: results.of_child(connection, child))

        return call_until_and_feedback(workflow, claim, result, claim.token.input, self._tools)


def _elapsed(claim: Claim) -> Elapsed:
    name = claim.token.wait.name if isinstance(claim.token.wait, ForSignal) else ""
    message = f"the signal {name!r} did not come in time"
    error = ErrorRecord("SignalTimeout", message, unit=claim.token.unit)
    return Elapsed(error, claim.waiting_since or claim.seen_at)

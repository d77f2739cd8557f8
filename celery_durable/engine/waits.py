"""Checks whether what a token waits for is there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

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
    Succeeded,
)
from celery_durable.core.failure import worker_lost
from celery_durable.core.nodes import LoopNode, SignalNode
from celery_durable.core.status import Status
from celery_durable.core.token import (
    Flags,
    ForBranches,
    ForChild,
    ForOperator,
    ForSignal,
    ForTimer,
)
from celery_durable.engine.retrying import Retrying
from celery_durable.errors import ErrorRecord, PayloadError
from celery_durable.store import codec, journal, signals
from celery_durable.store.read import results, views
from celery_durable.workflow import callbacks
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.context import Context
from celery_durable.workflow.execute import Execution, Tools, call_after_iteration
from celery_durable.workflow.inputs import checked_signal_data

logger = logging.getLogger(__name__)


class Waits:
    """Checks tokens that wait, and tokens that arrive at a node that calls nothing."""

    def __init__(
        self,
        retrying: Retrying,
        tools: Tools,
        max_crashes: int,
        context_of: Callable[[Claim], Context],
    ) -> None:
        self._retrying = retrying
        self._tools = tools
        self._max_crashes = max_crashes
        self._context_of = context_of

    def check(  # noqa: PLR0911 - a table of cases
        self, workflow: Workflow, claim: Claim
    ) -> Execution | None:
        """Return what has happened; None when nothing has."""
        token = claim.token
        if Flags.SKIP in token.flags:
            return Execution(self._skipped(workflow, claim))
        match token.wait:
            case ForBranches():
                return Execution(self._joined(claim, token.wait))
            case ForChild():
                return self._child_ended(workflow, claim, token.wait)
            case ForTimer():
                return Execution(_elapsed(claim)) if claim.is_due else None
            case ForSignal():
                return self._signal(workflow, claim, token.wait.name)
            case ForOperator():
                return None
            case None:
                node = workflow.plan.find(token.node)
                if isinstance(node, SignalNode):
                    return self._signal(workflow, claim, node.signal) or Execution(Arrived())
                return Execution(Arrived())

    def _skipped(self, workflow: Workflow, claim: Claim) -> Succeeded:
        """What an operator says that the unit's result is; a loop's own functions are called."""
        token, since = claim.token, claim.waiting_since or claim.seen_at
        text = token.answer or "null"
        iteration = self._iterated(workflow, claim, lambda: codec.loads(text))
        return Succeeded(text, since, iteration, by_hand=True)

    def _iterated(
        self, workflow: Workflow, claim: Claim, result: Callable[[], object]
    ) -> Iteration | None:
        """Call a loop's own functions after an iteration that has executed no step here.

        The iteration stays completed: they are what is not tried again where they kill workers.
        """
        token = claim.token
        is_loop = isinstance(workflow.plan.find(token.node), LoopNode) and token.rollback is None
        if is_loop and token.crashes >= self._max_crashes:
            return Iteration(error=replace(worker_lost(token.unit, token.crashes), unit=token.node))
        if not is_loop:
            return None
        return call_after_iteration(workflow, claim, self._context_of(claim), result, self._tools)

    def _signal(self, workflow: Workflow, claim: Claim, name: str) -> Execution | None:
        """Return the signal; where there is none, that its time is up.

        One whose data does not fit, sent by who does not know the workflow, is refused here.
        """
        since = claim.waiting_since or claim.seen_at
        while found := self._retrying.ask(
            lambda connection: signals.oldest(connection, claim.run.id, name)
        ):
            try:
                payload = self._fitted(workflow, claim, name, found)
            except PayloadError as error:
                if not self._refuse(claim, name, found, error):
                    return None  # another token has it, or another worker this one
            else:
                return Execution(Signalled(found.id, payload, since, found.trace))
        if claim.token.wait is not None and claim.is_due:
            return Execution(_elapsed(claim))
        return None

    def _fitted(self, workflow: Workflow, claim: Claim, name: str, found: signals.Signal) -> str:
        """Return the signal's data, JSON text, as the instance of the model that it must fit."""
        wait = callbacks.wait_of_key(found.key)
        if wait is not None:
            counted = self._retrying.ask(
                lambda connection: signals.counted(connection, claim.run.id, name)
            )
            if counted.consumed != wait:
                raise PayloadError("it answers an earlier wait, which is over")
        node = workflow.plan.find(claim.token.node)
        if not isinstance(node, SignalNode) or node.schema is None:
            return found.payload
        data = codec.loads(found.payload)
        checked = checked_signal_data(workflow, name, data)
        if checked is data:
            return found.payload
        return self._tools.encode(checked, f"the data of {name}")

    def _refuse(self, claim: Claim, name: str, found: signals.Signal, error: PayloadError) -> bool:
        """Take the signal out of the way, and say so; False if it is not ours to take."""
        is_refused = self._retrying.ask(
            lambda connection: signals.refuse(connection, claim, found.id, str(error))
        )
        if is_refused:
            logger.warning(
                "Signal %r of run %s refused: %s. %s waits on; send it again, set right",
                name,
                claim.run.id,
                error,
                claim.token.unit,
            )
        return is_refused

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

        def result() -> object:
            return self._retrying.ask(lambda connection: results.of_child(connection, wait.run_id))

        return Execution(replace(ended, iteration=self._iterated(workflow, claim, result)))


def _elapsed(claim: Claim) -> Elapsed:
    name = claim.token.wait.name if isinstance(claim.token.wait, ForSignal) else ""
    message = f"the signal {name!r} did not come in time"
    error = ErrorRecord("SignalTimeout", message, unit=claim.token.unit)
    return Elapsed(error, claim.waiting_since or claim.seen_at)

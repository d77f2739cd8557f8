"""How a unit ends: it completes and the token goes on, or it fails and is tried again or not.

A branch goes nowhere: it leaves, and its parent counts it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from celery_durable.core import units
from celery_durable.core.decision import (
    Decided,
    Decision,
    End,
    JournalRecord,
    Leave,
    Outcome,
    RollBack,
    RunChange,
)
from celery_durable.core.event import (
    ChildEnded,
    Crashed,
    Failed,
    Iteration,
    Joined,
    Succeeded,
)
from celery_durable.core.failure import FailedAttempt, with_attempt
from celery_durable.core.names import RETURNS
from celery_durable.core.nodes import Gathers, LoopNode, Node
from celery_durable.core.plan import Plan
from celery_durable.core.status import Status
from celery_durable.core.token import ForBranches, Token, Wait
from celery_durable.errors import ErrorRecord


def completed(plan: Plan, token: Token, event: Succeeded) -> Decided:
    if token.unit == RETURNS:
        return Decision(token, End(), run=RunChange(Status.COMPLETED, result=event.result))
    record = units.record(plan, token, event, Outcome.COMPLETED)
    return _recorded(plan, token, record, event.iteration)


def child_completed(plan: Plan, token: Token, event: ChildEnded) -> Decided:
    record = of_child(plan, token, event)
    return _recorded(plan, token, record, event.iteration)


def of_child(plan: Plan, token: Token, event: ChildEnded) -> JournalRecord:
    """The record of a completed child: its result stays where it is."""
    record = units.record(plan, token, Succeeded(None, event.started_at), Outcome.COMPLETED)
    return replace(record, child=event.child, gathers=Gathers.CHILD)


def _recorded(
    plan: Plan, token: Token, record: JournalRecord, iteration: Iteration | None
) -> Decided:
    """Decide where the token goes whose unit has completed as `record` says."""
    node = plan.find(token.node)
    if token.parent is not None:
        return Decision(token, leave(plan, token), (record,))
    if isinstance(node, LoopNode):
        return _iterated(plan, token, node, record, iteration=iteration or Iteration())
    return go_on(plan, token, (record,))


def go_on(plan: Plan, token: Token, records: tuple[JournalRecord, ...]) -> Decision:
    """Move from a node that has completed to the next one, or to the end."""
    following = plan.after(token.node)
    if following is not None:
        return Decision(token, units.begin(token, following), records)
    if plan.returns:
        return Decision(token, units.begin_returns(token), records)
    return Decision(token, End(), records, RunChange(Status.COMPLETED))


def _iterated(
    plan: Plan,
    token: Token,
    node: LoopNode,
    record: JournalRecord,
    *,
    iteration: Iteration,
) -> Decided:
    done = (token.position or 0) + 1
    error = iteration.error
    if error is None and not iteration.is_done:
        if not is_exhausted(plan, token):
            following = units.next_iteration(plan, token, node, iteration.next_input)
            return Decision(token, following, (record,))
        if node.fails_when_exhausted:
            message = f"{node.name} was not done after {done} iterations"
            error = ErrorRecord("LoopExhausted", message, unit=node.name)
    if error is not None:
        failed = JournalRecord(
            node.name, node.name, Outcome.FAILED, 1, record.started_at, error=error
        )
        return start_rollback(token, (record, failed), ends_as=Status.FAILED, error=error)
    gathering = gathering_record(token, record.started_at, Gathers.ITERATION)
    return go_on(plan, token, (record, gathering))


def is_exhausted(plan: Plan, token: Token) -> bool:
    """Return True if the token's iteration is the last that its loop may have."""
    node = plan.find(token.node)
    return isinstance(node, LoopNode) and (token.position or 0) + 1 >= node.max_iterations


def gathering_record(token: Token, started_at: datetime, gathers: Gathers) -> JournalRecord:
    """The record of a node whose result is put together from its units'."""
    return JournalRecord(
        token.node, token.node, Outcome.COMPLETED, token.attempt, started_at, gathers=gathers
    )


def try_again(plan: Plan, token: Token, event: Failed, now: datetime) -> Decision | None:
    """Decide on the same unit later; None when it has failed for good."""
    if not event.may_retry:
        return None
    policy = units.unit_of(plan, token).retry
    if event.counts and event.is_bounded and token.attempt >= policy.max_attempts:
        return None
    delay = event.delay
    if delay is None:
        delay = policy.delay_after(token.attempt, event.chance)
    began_at = token.failures[0].started_at if token.failures else event.started_at
    next_after = (now - began_at).total_seconds() + delay
    if policy.max_elapsed is not None and next_after > policy.max_elapsed:
        return None
    failed = FailedAttempt(token.attempt, event.error, event.started_at, now)
    attempt = token.attempt + 1 if event.counts else token.attempt
    moved = replace(token, attempt=attempt, failures=with_attempt(token.failures, failed))
    return Decision(token, units.same_again(plan, moved, delay))


def failed(plan: Plan, token: Token, event: Failed | Crashed, child: UUID | None = None) -> Decided:
    """Decide on a unit that has failed for good; `child` is the run that it was, if it was one."""
    record = replace(units.record(plan, token, event, Outcome.FAILED), child=child)
    if token.parent is not None:
        return Decision(token, leave(plan, token, failed=True), (record,))
    return start_rollback(token, (record,), ends_as=Status.FAILED, error=event.error)


def start_rollback(
    token: Token,
    records: tuple[JournalRecord, ...],
    *,
    ends_as: Status,
    error: ErrorRecord | None = None,
) -> RollBack:
    """Begin the rollback of a run."""
    return RollBack(token, ends_as, records, error, RunChange(Status.COMPENSATING, error))


def leave(plan: Plan, token: Token, *, failed: bool = False) -> Leave:
    """Let a branch leave: its parent counts it."""
    unit = units.unit_of(plan, token)
    if unit.node is None:
        return Leave(failed)
    counts = failed and not unit.node.keeps_errors
    # A time limit holds for a message: what has one does not share it.
    chunk = 1 if unit.routing.time_limit is not None else unit.node.chunk
    return Leave(counts, counts and unit.node.fail_fast, chunk)


def joined(plan: Plan, token: Token, event: Joined) -> Decided:
    node = plan.find(token.node)
    if event.error is not None and not _is_tolerated(node, token.wait):
        return start_rollback(token, (), ends_as=Status.FAILED, error=event.error)
    assert node is not None
    assert node.gathers is not None
    return go_on(plan, token, (gathering_record(token, event.started_at, node.gathers),))


def _is_tolerated(node: Node | None, wait: Wait | None) -> bool:
    """Return True if the node completes although branches have failed."""
    if node is None or not isinstance(wait, ForBranches):
        return False
    return node.tolerates(wait.failed, wait.total)

"""Nodes that are more than a unit: forking, choosing, waiting."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from celery_durable.core import units
from celery_durable.core.decision import (
    Branch,
    Decided,
    Decision,
    Fork,
    JournalRecord,
    Outcome,
    Park,
)
from celery_durable.core.event import (
    Arrived,
    ChildRequested,
    Chosen,
    Crashed,
    Elapsed,
    Failed,
    Listed,
    Signalled,
    SleepRequested,
    Succeeded,
    Suspended,
)
from celery_durable.core.failure import FailedAttempt, with_attempt
from celery_durable.core.names import subunit_of
from celery_durable.core.nodes import Gathers, MapNode, ParallelNode, RouteNode, SignalNode
from celery_durable.core.plan import Plan
from celery_durable.core.progress import completed, failed, gathering_record, go_on
from celery_durable.core.token import (
    Flags,
    ForBranches,
    ForChild,
    ForOperator,
    ForSignal,
    ForTimer,
    Token,
)


def begin_to_wait(
    plan: Plan, token: Token, event: Suspended | Arrived | SleepRequested | ChildRequested
) -> Decision:
    match event:
        case Suspended():
            waiting = replace(
                token,
                wait=ForSignal(event.signal or token.unit),
                snapshot=event.snapshot,
                answer=None,
                crashes=0,
            )
            return _park(plan, waiting, event.timeout, event.assignees, held=token)
        case SleepRequested():
            waiting = replace(token, wait=ForTimer())
            return _park(plan, waiting, max(event.seconds, 0.0), held=token)
        case ChildRequested():
            parked = _park(plan, replace(token, wait=ForChild(event.child.id)), None, held=token)
            return replace(parked, starts=event.child)
        case Arrived():
            node = plan.find(token.node)
            if isinstance(node, ParallelNode):
                return _fork_branches(token, node)
            assert isinstance(node, SignalNode)
            waiting = replace(token, wait=ForSignal(node.signal))
            found = node.assignees if event.assignees is None else event.assignees
            return _park(plan, waiting, node.timeout, found, held=token)


def wait_for_operator(
    plan: Plan, token: Token, event: Failed | Crashed, now: datetime
) -> Decision | None:
    """Park a unit that has used up its tries; None if its policy lets it fail."""
    may_retry = not isinstance(event, Failed) or event.may_retry
    if not may_retry or units.unit_of(plan, token).retry.on_exhausted != "pause":
        return None
    failed = FailedAttempt(token.attempt, event.error, event.started_at, now)
    failures = with_attempt(token.failures, failed)
    waiting = replace(token, wait=ForOperator(), failures=failures, crashes=0)
    return _park(plan, waiting, None, held=token)


def _park(
    plan: Plan,
    waiting: Token,
    timeout: float | None,
    assignees: tuple[str, ...] | None = None,
    *,
    held: Token,
) -> Decision:
    routing = units.unit_of(plan, waiting).routing
    return Decision(held, Park(replace(waiting, flags=Flags.NONE), routing, timeout, assignees))


def signalled(plan: Plan, token: Token, event: Signalled) -> Decision:
    """The payload is the node's result; or it is what a suspended step is resumed with."""
    if isinstance(plan.find(token.node), SignalNode):
        done = completed(plan, token, Succeeded(event.payload, event.started_at))
        assert isinstance(done, Decision)
        return replace(done, consumes=event.message)
    # Who died while the parked token was only looked at did not die of the step.
    resumed = replace(token, wait=None, answer=event.payload, crashes=0)
    return Decision(token, units.same_again(plan, resumed), consumes=event.message)


def elapsed(plan: Plan, token: Token, event: Elapsed) -> Decided:
    node = plan.find(token.node)
    slept = isinstance(token.wait, ForTimer)
    if slept or (isinstance(node, SignalNode) and node.goes_on_without):
        return completed(plan, token, Succeeded("null", event.started_at))
    return failed(plan, token, Failed(event.error, event.started_at))


def chosen(plan: Plan, token: Token, event: Chosen) -> Decision:
    node = plan.find(token.node)
    assert isinstance(node, RouteNode)
    succeeded = Succeeded(event.answer, event.started_at)
    record = units.record(plan, token, succeeded, Outcome.COMPLETED)
    if event.part is None:
        nothing = JournalRecord(
            node.name, node.name, Outcome.COMPLETED, 1, event.started_at, result="null"
        )
        return go_on(plan, token, (record, nothing))
    there = units.moved(token, node.name, node.name, part=event.part)
    return Decision(token, units.same_again(plan, there), (record,))


def listed(plan: Plan, token: Token, event: Listed) -> Decision:
    """Fork into one branch per item: `window` open at once, `chunk` of them to a message."""
    node = plan.find(token.node)
    assert isinstance(node, MapNode)
    if not event.items:
        return go_on(plan, token, (gathering_record(token, event.started_at, Gathers.ITEMS),))
    routing = node.item.routing
    branches = tuple(
        Branch(subunit_of(node.name, position), position, routing, input=item)
        for position, item in enumerate(event.items)
    )
    window = min(node.max_concurrency or len(branches), len(branches))
    # A time limit holds for a message: what has one does not share it.
    chunk = 1 if routing.time_limit is not None else node.chunk
    forked = _forked(token, len(branches))
    return Decision(token, Fork(forked, branches, window, chunk, single=node.fail_fast))


def _fork_branches(token: Token, node: ParallelNode) -> Decision:
    branches = tuple(
        Branch(subunit_of(node.name, body.name), position, body.routing, part=body.name)
        for position, body in enumerate(node.branches)
    )
    forked = _forked(token, len(branches))
    return Decision(token, Fork(forked, branches, len(branches), single=node.fail_fast))


def _forked(token: Token, branches: int) -> Token:
    return replace(token, flags=Flags.NONE, wait=ForBranches(branches, total=branches))

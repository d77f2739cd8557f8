"""The only place where it is decided what an event does to a run.

A token moves through its plan until its last node has completed, or until a unit fails for good or
a cancel asks for compensation. Then the run is rolled back: what completed is compensated, newest
first. At a parallel or map node the token forks: each branch is a token that executes one unit and
leaves; the last to leave lets the parent go on.

    forward    a unit completed   -> the next iteration, the next node, left, or the end
               it failed          -> the same unit later, left, or the rollback
               it must wait       -> parked: for a signal, a time, a child, branches, an operator
               a cancel           -> left, the end, or the rollback
    rollback   every event        -> the same compensation later, the next one, or the end
"""

from __future__ import annotations

from datetime import datetime

from celery_durable.core import units
from celery_durable.core.decision import Decided, Decision
from celery_durable.core.event import (
    Arrived,
    ChildEnded,
    ChildRequested,
    Chosen,
    Crashed,
    Elapsed,
    Event,
    Failed,
    Flagged,
    Joined,
    Listed,
    Signalled,
    SleepRequested,
    Succeeded,
    Suspended,
)
from celery_durable.core.plan import Plan
from celery_durable.core.progress import (
    child_completed,
    completed,
    failed,
    joined,
    try_again,
)
from celery_durable.core.rollback import cancelled, in_rollback
from celery_durable.core.status import Status
from celery_durable.core.token import Flags, Token
from celery_durable.core.waits import (
    begin_to_wait,
    chosen,
    elapsed,
    listed,
    signalled,
    wait_for_operator,
)


def decide(plan: Plan, token: Token, event: Event, now: datetime) -> Decided:
    """Decide what becomes of `token` after `event`; `now` is by the database's clock.

    A `RollBack` becomes a decision once the unit to compensate next is known.
    """
    if token.rollback is not None:
        return in_rollback(plan, token, event, now, token.rollback)
    if Flags.CANCEL in token.flags:
        return cancelled(plan, token, event)
    return _forward(plan, token, event, now)


def _forward(  # noqa: PLR0911 - a table of cases
    plan: Plan, token: Token, event: Event, now: datetime
) -> Decided:
    match event:
        case Succeeded():
            return completed(plan, token, event)
        case ChildEnded(status=Status.COMPLETED):
            return child_completed(plan, token, event)
        case Failed() if (later := try_again(plan, token, event, now)) is not None:
            return later
        case Failed() | Crashed() if (
            parked := wait_for_operator(plan, token, event, now)
        ) is not None:
            return parked
        case Failed() | Crashed():
            return failed(plan, token, event)
        case ChildEnded():
            why = Failed(event.error, event.started_at)
            return failed(plan, token, why, event.child)
        case Joined():
            return joined(plan, token, event)
        case _:
            return _waiting(plan, token, event)


def _waiting(plan: Plan, token: Token, event: Event) -> Decided:
    """Decide on events of waiting, and of nodes' own functions."""
    match event:
        case Suspended() | Arrived() | SleepRequested() | ChildRequested():
            return begin_to_wait(plan, token, event)
        case Signalled():
            return signalled(plan, token, event)
        case Elapsed():
            return elapsed(plan, token, event)
        case Chosen():
            return chosen(plan, token, event)
        case Listed():
            return listed(plan, token, event)
        case Flagged():
            return Decision(token, units.same_again(plan, token, event.due_in or 0.0))
        case _:
            raise AssertionError((token.unit, event))

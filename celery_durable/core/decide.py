"""The only place where a run changes.

A token walks forward through its plan until its last node has completed, or until a unit fails for
good or a cancel asks for compensation; then it walks back, undoing what completed, newest first,
and ends.

    forward   Succeeded -> the next node, or the end
              Failed    -> the same unit later, or the way back
              Crashed   -> the way back
              a cancel  -> the end, or the way back
    back      every event -> the same undo later, the next one, or the end
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import assert_never

from celery_durable.core.decision import (
    Decision,
    End,
    JournalRecord,
    Move,
    Outcome,
    RunChange,
)
from celery_durable.core.event import Crashed, Event, Failed, Flagged, Succeeded
from celery_durable.core.failure import ErrorRecord, FailedAttempt, with_attempt
from celery_durable.core.names import RETURNS, compensation_of, node_of
from celery_durable.core.plan import Node, Placement, Plan
from celery_durable.core.retry import RetryPolicy
from celery_durable.core.status import Status
from celery_durable.core.token import Flags, Token


def decide(plan: Plan, token: Token, event: Event, now: datetime) -> Decision:
    """What becomes of `token` after `event`; `now` is by the database's clock."""
    if token.rollback is not None:
        return _on_the_way_back(plan, token, event, now, token.rollback)
    if Flags.CANCEL in token.flags:
        return _cancelled(plan, token, event)
    match event:
        case Succeeded():
            return _completed(plan, token, event)
        case Failed() if (later := _try_again(plan, token, event, now)) is not None:
            return later
        case Failed() | Crashed():
            record = _record(plan, token, event, Outcome.FAILED)
            return _turn_back(
                plan, token, (record,), undo=event.undo, ends_as=Status.FAILED, error=event.error
            )
        case Flagged():
            return Decision(token, _same_again(plan, token, event.due_in))
        case _:
            assert_never(event)


def _completed(plan: Plan, token: Token, event: Succeeded) -> Decision:
    if token.unit == RETURNS:
        return Decision(token, End(), run=RunChange(Status.COMPLETED, result=event.result))
    records = (_record(plan, token, event, Outcome.COMPLETED),)
    following = plan.after(token.node)
    if following is not None:
        return Decision(token, _begin(token, following), records)
    if plan.returns:
        moved = replace(_fresh(token), node=RETURNS, unit=RETURNS)
        return Decision(token, Move(moved, placement(plan, token)), records)
    return Decision(token, End(), records, RunChange(Status.COMPLETED))


def _begin(token: Token, node: Node) -> Move:
    return Move(replace(_fresh(token), node=node.name, unit=node.name), node.placement)


def _fresh(token: Token) -> Token:
    """The token without what belonged to the unit it leaves."""
    return replace(token, attempt=1, crashes=0, flags=Flags.NONE, failures=())


def _try_again(plan: Plan, token: Token, event: Failed, now: datetime) -> Decision | None:
    """The same unit later, or None when it has failed for good."""
    if not event.may_retry:
        return None
    policy = retry_policy(plan, token)
    if event.counts and token.attempt >= policy.max_attempts:
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
    return Decision(token, _same_again(plan, moved, delay))


def _same_again(plan: Plan, token: Token, delay: float = 0.0) -> Move:
    return Move(replace(token, flags=Flags.NONE), placement(plan, token), delay)


def _cancelled(plan: Plan, token: Token, event: Event) -> Decision:
    compensating = Flags.COMPENSATE in token.flags
    records: tuple[JournalRecord, ...] = ()
    match event:
        case Succeeded(undo=undo) if compensating and token.unit != RETURNS:
            records = (_record(plan, token, event, Outcome.COMPLETED),)
            undo = token.unit if records[0].undoable else undo
        case Failed(undo=undo) | Crashed(undo=undo):
            records = (_record(plan, token, event, Outcome.FAILED),)
        case Succeeded(undo=undo) if token.unit != RETURNS:
            records = (_record(plan, token, event, Outcome.CANCELLED),)
        case Succeeded(undo=undo) | Flagged(undo=undo):
            records = ()
        case _:
            assert_never(event)
    return _turn_back(
        plan, token, records, undo=undo if compensating else None, ends_as=Status.CANCELLED
    )


def _turn_back(
    plan: Plan,
    token: Token,
    records: tuple[JournalRecord, ...],
    *,
    undo: str | None,
    ends_as: Status,
    error: ErrorRecord | None = None,
) -> Decision:
    """Begin the rollback with `undo`, or end at once when there is nothing to undo."""
    if undo is None:
        return Decision(token, End(), records, RunChange(ends_as, error))
    back = replace(token, rollback=ends_as)
    return Decision(token, _undo(plan, back, undo), records, RunChange(Status.COMPENSATING, error))


def _undo(plan: Plan, token: Token, unit: str) -> Move:
    moved = replace(_fresh(token), node=node_of(unit), unit=compensation_of(unit))
    return Move(moved, placement(plan, moved))


def _on_the_way_back(
    plan: Plan, token: Token, event: Event, now: datetime, ends_as: Status
) -> Decision:
    back, run = token, None
    match event:
        case Succeeded():
            record = _record(plan, token, event, Outcome.COMPLETED)
        case Failed() if (later := _try_again(plan, token, event, now)) is not None:
            return later
        case Failed() | Crashed():
            record = _record(plan, token, event, Outcome.FAILED)
            if ends_as is Status.CANCELLED:
                # A cancelled run had no error until now, and one that ends failed must have one.
                run = RunChange(Status.COMPENSATING, event.error)
            back, ends_as = replace(token, rollback=Status.FAILED), Status.FAILED
        case Flagged():
            # A cancel of a run that is compensating changes nothing, not even its waiting.
            return Decision(token, _same_again(plan, token, event.due_in))
        case _:
            assert_never(event)
    if event.undo is not None:
        return Decision(token, _undo(plan, back, event.undo), (record,), run)
    return Decision(token, End(), (record,), RunChange(ends_as, run.error if run else None))


def retry_policy(plan: Plan, token: Token) -> RetryPolicy:
    """The policy of the unit in hand: its node's, or its compensator's on the way back."""
    node = plan.find(token.node)
    if node is None:
        return RetryPolicy(max_attempts=1)
    if token.rollback is None or node.compensator is None:
        return node.retry
    return node.compensator.retry


def placement(plan: Plan, token: Token) -> Placement:
    """Where the unit in hand is executed."""
    node = plan.find(token.node)
    if node is None:
        return Placement()
    if token.rollback is None or node.compensator is None:
        return node.placement
    return node.compensator.placement


def _record(
    plan: Plan, token: Token, event: Succeeded | Failed | Crashed, outcome: Outcome
) -> JournalRecord:
    node = plan.find(token.node)
    completed = outcome is Outcome.COMPLETED
    return JournalRecord(
        unit=token.unit,
        node=token.node,
        outcome=outcome,
        attempt=token.attempt,
        started_at=event.started_at,
        result=event.result if completed and isinstance(event, Succeeded) else None,
        error=None if isinstance(event, Succeeded) else event.error,
        failures=token.failures,
        undoable=completed
        and token.rollback is None
        and node is not None
        and node.compensator is not None,
    )

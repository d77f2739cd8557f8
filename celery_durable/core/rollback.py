"""Cancelling and compensating."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from celery_durable.core import units
from celery_durable.core.decision import (
    Decided,
    Decision,
    End,
    JournalRecord,
    Outcome,
    RollBack,
    RunChange,
    Undo,
)
from celery_durable.core.event import (
    Arrived,
    ChildEnded,
    ChildRequested,
    Crashed,
    Event,
    Failed,
    Flagged,
    Succeeded,
    Suspended,
)
from celery_durable.core.failure import run_timed_out
from celery_durable.core.names import RETURNS, ROLLBACK
from celery_durable.core.plan import Plan
from celery_durable.core.progress import leave, of_child, start_rollback, try_again
from celery_durable.core.status import Status
from celery_durable.core.token import Flags, Token
from celery_durable.core.waits import begin_to_wait, wait_for_operator
from celery_durable.errors import ErrorRecord


def compensate(plan: Plan, rollback: RollBack, undo: Undo | None) -> Decision:
    """Move the token to the compensation that comes next; without one, end the run.

    `undo` is the newest completed unit in the journal that can be compensated and has not been.
    """
    token, undo = rollback.token, rollback.recorded or undo
    if undo is None:
        ended = RunChange(rollback.ends_as, rollback.error)
        return Decision(token, End(), rollback.records, ended)
    back = replace(token, rollback=rollback.ends_as)
    return Decision(token, units.undo(plan, back, undo), rollback.records, rollback.change)


def cancelled(plan: Plan, token: Token, event: Event) -> Decided:
    """Record what the unit did; then the branch leaves, or the run ends or is rolled back.

    A run that took too long fails, where one that somebody has cancelled is cancelled.
    """
    error = run_timed_out(token.unit) if Flags.RUN_TIMEOUT in token.flags else None
    ends_as = Status.CANCELLED if error is None else Status.FAILED
    compensating = Flags.COMPENSATE in token.flags
    record = _record_of_cancelled(plan, token, event, compensating=compensating)
    records = () if record is None else (record,)
    if token.parent is not None:
        return Decision(token, leave(plan, token), records)
    if not compensating:
        return Decision(token, End(), records, RunChange(ends_as, error))
    return start_rollback(token, records, ends_as=ends_as, error=error)


def _record_of_cancelled(  # noqa: PLR0911 - a table of cases
    plan: Plan, token: Token, event: Event, *, compensating: bool
) -> JournalRecord | None:
    match event:
        case Succeeded() if token.unit == RETURNS:
            return None
        case Succeeded() if compensating:
            return units.record(plan, token, event, Outcome.COMPLETED)
        case ChildEnded(status=Status.COMPLETED) if compensating:
            return of_child(plan, token, event)
        case Failed(error=ErrorRecord(type="RunCancelled")):
            # It was told to stop, and did.
            return units.record(plan, token, event, Outcome.CANCELLED)
        case Failed() | Crashed():
            return units.record(plan, token, event, Outcome.FAILED)
        case Flagged() if token.failures and token.parent is None:
            # It was between tries, or paused after the last one.
            *before, last = token.failures
            failed = Failed(last.error, last.started_at)
            record = units.record(plan, token, failed, Outcome.FAILED)
            return replace(record, attempt=last.attempt, failures=tuple(before))
        case ChildEnded(status=Status.FAILED):
            failed = Failed(event.error, event.started_at)
            return replace(units.record(plan, token, failed, Outcome.FAILED), child=event.child)
        case Succeeded() | Suspended():
            return units.record(plan, token, event, Outcome.CANCELLED)
        case ChildEnded():
            ended = Succeeded(None, event.started_at)
            return replace(units.record(plan, token, ended, Outcome.CANCELLED), child=event.child)
        case _:
            return None


def in_rollback(plan: Plan, token: Token, event: Event, now: datetime, ends_as: Status) -> Decided:
    change = None
    records: tuple[JournalRecord, ...] = ()
    match event:
        case Succeeded() | ChildEnded(status=Status.CANCELLED):
            done = Succeeded("null", event.started_at)
            done = event if isinstance(event, Succeeded) else done
            records = (units.record(plan, token, done, Outcome.COMPLETED),)
        case Failed() if (later := try_again(plan, token, event, now)) is not None:
            return later
        case Failed() | Crashed() if (
            parked := wait_for_operator(plan, token, event, now)
        ) is not None:
            return parked
        case Failed() | Crashed() | ChildEnded():
            failed = Failed(event.error, event.started_at)
            records = (units.record(plan, token, failed, Outcome.FAILED),)
            if ends_as is Status.CANCELLED:
                # A cancelled run had no error until now, and one that ends failed must have one.
                change = RunChange(Status.COMPENSATING, event.error)
            ends_as = Status.FAILED
        case ChildRequested():
            return begin_to_wait(plan, token, event)
        case Arrived():
            assert token.unit == ROLLBACK
        case Flagged():
            # A cancel of a run that is compensating changes nothing, not even its waiting.
            return Decision(token, units.same_again(plan, token, event.due_in or 0.0))
        case _:
            raise AssertionError((token.unit, event))
    return RollBack(token, ends_as, records, change.error if change else None, change)

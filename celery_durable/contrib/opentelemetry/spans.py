"""Names and attributes of spans, as docs/reference/telemetry.md lists them."""

from __future__ import annotations

import traceback
from typing import Final

from opentelemetry.util.types import AttributeValue

from celery_durable.core.claim import Claim
from celery_durable.core.event import (
    ChildRequested,
    Event,
    Failed,
    Flagged,
    SleepRequested,
    Succeeded,
    Suspended,
)
from celery_durable.errors import ErrorRecord
from celery_durable.workflow.observing import Call, kind_of

RUN_ID: Final = "durable.run_id"
ROOT_RUN_ID: Final = "durable.root_run_id"
WORKFLOW: Final = "durable.workflow"
VERSION: Final = "durable.version"
UNIT: Final = "durable.unit"
ATTEMPT: Final = "durable.attempt"
CRASHES: Final = "durable.crashes"
OUTCOME: Final = "durable.outcome"
SIGNAL: Final = "durable.signal"
RUNS: Final = "durable.runs"

ERROR_TYPE: Final = "error.type"
"""https://opentelemetry.io/docs/specs/semconv/registry/attributes/error/"""

EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
"""https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-spans/"""

Attributes = dict[str, AttributeValue]


def name_of_call(call: Call) -> str:
    """Return `start order`, or `signal signoff`."""
    return f"{call.verb} {call.name}"


def of_call(call: Call) -> Attributes:
    """Return what is known of a call before it is done."""
    found: Attributes = {WORKFLOW if call.verb == "start" else SIGNAL: call.name}
    if call.version is not None:
        found[VERSION] = call.version
    if call.run_id is not None:
        found[RUN_ID] = str(call.run_id)
    if call.runs is not None:
        found[RUNS] = call.runs
    return found


def name_of_unit(claim: Claim) -> str:
    """Return `order charge`: items and iterations of one node have one name."""
    return f"{claim.run.workflow} {kind_of(claim)}"


def of_unit(claim: Claim) -> Attributes:
    """Return what is known of a unit before it is executed."""
    run, token = claim.run, claim.token
    found: Attributes = {
        RUN_ID: str(run.id),
        WORKFLOW: run.workflow,
        VERSION: run.version,
        UNIT: token.unit,
        ATTEMPT: token.attempt,
    }
    if run.root_run_id is not None:
        found[ROOT_RUN_ID] = str(run.root_run_id)
    if token.crashes:
        found[CRASHES] = token.crashes
    return found


def outcome_of(event: Event | None) -> str:
    """Return how a unit ended; `event` is None if its process has to exit."""
    match event:
        case None:
            return "abandoned"
        case Failed():
            return "failed"
        case Suspended():
            return "suspended"
        case ChildRequested() | SleepRequested():
            return "waiting"
        case Flagged():
            return "cancelled"
        case _:
            return "completed"


def error_of(event: Event | None) -> ErrorRecord | None:
    """Return what a unit has failed with, or its loop's own functions; None if nothing has."""
    match event:
        case Failed():
            return event.error
        case Succeeded(iteration=iteration) if iteration is not None:
            return iteration.error
        case _:
            return None


def of_exception(
    error: ErrorRecord, exception: BaseException | None, *, with_message: bool
) -> Attributes:
    """Return the attributes of the event `exception`: the frames, without any value of them.

    A message may quote what a handler was given, so it is left out unless `with_message`.
    """
    found: Attributes = {EXCEPTION_TYPE: error.type}
    if exception is not None and exception.__traceback__ is not None:
        found[EXCEPTION_STACKTRACE] = "".join(traceback.format_tb(exception.__traceback__))
    if with_message:
        found[EXCEPTION_MESSAGE] = error.message
    return found

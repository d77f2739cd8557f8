"""Sentry: final failures of units, with the frames of their handlers; units as transactions.

    sentry_sdk.init(dsn=..., integrations=[DurableIntegration()])

A unit that has failed for good is reported once; a try that is followed by another is not. Without
this, Sentry's own integration of logging reports the line that the library logs, without tags. No
input, result or signal is sent; the local variables of a handler's frames are, unless Sentry's
`include_local_variables` is False.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import sentry_sdk
from sentry_sdk.integrations import Integration
from sentry_sdk.integrations.logging import ignore_logger
from sentry_sdk.scope import use_isolation_scope
from sentry_sdk.tracing import Transaction
from sentry_sdk.utils import event_from_exception

from celery_durable.core.claim import Claim
from celery_durable.core.event import Event, Failed
from celery_durable.engine import failure_log
from celery_durable.workflow.observing import (
    Failure,
    Fate,
    Followed,
    Observer,
    headers_of,
    kind_of,
    observers,
)

ORIGIN = "auto.queue.celery_durable"

OUR_TASKS = "durable."
"""How the names of our tasks begin: a transaction that is called after one is a message's."""


class DurableIntegration(Integration):
    """Reports final failures, and makes a transaction of each unit."""

    identifier = "celery_durable"

    @staticmethod
    def setup_once() -> None:
        """Called once in a process, by `sentry_sdk.init`."""
        ignore_logger(failure_log.__name__)  # what it logs is reported here
        observers.append(SentryObserver())


@dataclass(slots=True)
class _Unit:
    """A unit that is executed, and the exceptions that its handler has reported by itself."""

    claim: Claim
    stack: ExitStack
    scope: Any
    transaction: Transaction | None = None
    reported: list[BaseException] = field(default_factory=list)

    def process(self, event: Any, hint: Any) -> Any:
        """Called with each event of the unit.

        A Celery task that is a step is reported by Celery's integration at each try: not here.
        """
        raised = (hint or {}).get("exc_info")
        values = (event.get("exception") or {}).get("values") or [{}]
        if (values[-1].get("mechanism") or {}).get("type") == "celery":
            return None
        if raised:
            self.reported.append(raised[1])
        return event


class SentryObserver(Observer):
    """Tells Sentry. Each unit has a scope of its own: many runs may share a message."""

    def __init__(self) -> None:
        self._here = threading.local()

    def trace(self) -> Mapping[str, str]:
        """Return Sentry's headers of the current trace: ids, and how it is sampled."""
        if not is_active():
            return {}
        headers = {
            "sentry-trace": sentry_sdk.get_traceparent(),
            "baggage": sentry_sdk.get_baggage(),
        }
        return {name: value for name, value in headers.items() if value}

    def begin_unit(self, claim: Claim) -> object:
        """Begin the transaction of a unit, in the trace of its run."""
        if not is_active():
            return None
        headers = headers_of(claim.run.trace)
        if "sentry-trace" not in headers:
            headers = self.trace()  # the message's
        with ExitStack() as stack:
            scope = stack.enter_context(sentry_sdk.isolation_scope())
            unit = _Unit(claim, stack, scope)
            for tag, value in tags_of(claim).items():
                scope.set_tag(tag, value)
            scope.add_event_processor(unit.process)
            self._begin_transaction(unit, dict(headers))
            unit.stack = stack.pop_all()
        return unit

    def _begin_transaction(self, unit: _Unit, headers: dict[str, str]) -> None:
        name = name_of(unit.claim)
        transaction = sentry_sdk.continue_trace(
            headers, op="queue.process", name=name, source="task", origin=ORIGIN
        )
        if streams_spans():  # it has no transactions
            unit.scope.set_transaction_name(name, source="task")
            return
        unit.stack.enter_context(sentry_sdk.start_transaction(transaction))
        unit.transaction = transaction

    def end_unit(
        self,
        begun: object,
        event: Event | None,
        error: BaseException | None,  # noqa: ARG002 - reported once it is final
    ) -> None:
        """End it, and keep the scope of a failure until its commit has told what it leads to."""
        if begun is None:
            return
        unit = cast("_Unit", begun)
        has_failed = event is None or isinstance(event, Failed)
        if unit.transaction is not None:
            unit.transaction.set_status("internal_error" if has_failed else "ok")
        unit.stack.close()
        self._here.failed = unit if has_failed else None

    def failed(self, failure: Failure) -> None:
        """Report a failure that is final, once."""
        if failure.fate is Fate.RETRIED or not is_active():
            return
        unit: _Unit | None = getattr(self._here, "failed", None)
        self._here.failed = None
        if unit is None or not is_same(unit.claim, failure.claim):
            report(failure)
        elif not any(one is failure.exception for one in unit.reported):
            with use_isolation_scope(unit.scope):  # with what its handler has left there
                report(failure)

    def followed(self, message: Followed) -> None:
        """Say in the transaction that Celery's integration has made of a message what it has done.

        It keeps the name of the task, for a message may work on many runs; where all are of one
        workflow that is added.
        """
        span = sentry_sdk.get_current_scope().span if is_active() else None
        transaction = None if span is None else span.containing_transaction
        if transaction is None or not transaction.name.startswith(OUR_TASKS):
            return
        workflows = sorted(set(message.runs.values()))
        if len(workflows) == 1:
            transaction.name = f"{transaction.name} {workflows[0]}"
        if message.failures:
            transaction.set_status("internal_error")


def is_active() -> bool:
    """Return True if Sentry was told to use the integration."""
    return sentry_sdk.get_client().get_integration(DurableIntegration) is not None


def streams_spans() -> bool:
    """Return True if Sentry sends spans one by one, in place of transactions."""
    options = sentry_sdk.get_client().options
    experiments: Mapping[str, object] = options.get("_experiments") or {}
    return "stream" in (options.get("trace_lifecycle"), experiments.get("trace_lifecycle"))


def name_of(claim: Claim) -> str:
    """Return the name of a transaction, `order charge`: items of one node share it."""
    return f"{claim.run.workflow} {kind_of(claim)}"


def tags_of(claim: Claim) -> Mapping[str, str]:
    """Return the tags of whatever a unit sends to Sentry."""
    return {
        "durable.run": str(claim.run.id),
        "durable.workflow": claim.run.workflow,
        "durable.unit": claim.token.unit,
        "durable.attempt": str(claim.token.attempt),
    }


def is_same(one: Claim, other: Claim) -> bool:
    """Return True if both are of one attempt."""
    return (one.token.id, one.token.unit, one.token.attempt) == (
        other.token.id,
        other.token.unit,
        other.token.attempt,
    )


def report(failure: Failure) -> None:
    """Send the event of a final failure.

    Its issue is that of the exception, for each node: whose it is and what it leads to depends on
    the node, and not on the item.
    """
    claim = failure.claim
    event, hint = _event_of(failure)
    event["level"] = level_of(failure.fate)
    event["transaction"] = name_of(claim)
    event["tags"] = {**tags_of(claim), "durable.outcome": failure.fate.value}
    event["fingerprint"] = ["{{ default }}", claim.run.workflow, kind_of(claim)]
    sentry_sdk.capture_event(event, hint=hint)


def level_of(fate: Fate) -> Literal["warning", "error"]:
    """A handler that gives up has decided so, and nothing is wrong."""
    return "warning" if fate is Fate.GAVE_UP else "error"


def _event_of(failure: Failure) -> tuple[Any, Any]:
    """Return the event, with frames where a handler has raised in this process."""
    mechanism = {"type": "celery_durable", "handled": failure.fate is Fate.GAVE_UP}
    if failure.exception is not None:
        return event_from_exception(
            failure.exception, client_options=sentry_sdk.get_client().options, mechanism=mechanism
        )
    error = failure.error
    value = {"type": error.type, "value": error.message, "mechanism": mechanism}
    return {"exception": {"values": [value]}}, None

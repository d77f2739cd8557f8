"""Makes spans of what observers are told.

The span of a unit belongs to the trace of its run, and has a link to the span of the message that
brought it, where Celery is instrumented too. Where a run has no trace it is below the message's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import Token
from typing import cast

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, Tracer

from celery_durable.contrib.opentelemetry import carrier, spans
from celery_durable.core.claim import Claim
from celery_durable.core.event import Event, Signalled
from celery_durable.workflow.observing import Call, Followed, Observer

OUR_TASKS = "durable."
"""How the names of our tasks begin: a span that is called after one is a message's."""

Begun = tuple[Span, Token[Context]]
"""A span, and what takes it out of the current context."""


class SpanObserver(Observer):
    """Makes a span of each call and each unit, and sets the span of a message right."""

    def __init__(self, tracer: Tracer, *, with_messages: bool) -> None:
        self._tracer = tracer
        self._with_messages = with_messages

    def trace(self) -> Mapping[str, str]:
        """Return the headers of the current span."""
        return carrier.headers_here()

    def begin_call(self, call: Call) -> Begun:
        """Begin the span of a start or a signal: below the caller's, or a new trace."""
        span = self._tracer.start_span(
            spans.name_of_call(call), kind=SpanKind.PRODUCER, attributes=spans.of_call(call)
        )
        return span, contexts.attach(trace.set_span_in_context(span))

    def end_call(self, begun: object, call: Call, error: BaseException | None) -> None:
        """End it. What a call raises is its caller's to record."""
        if begun is None:  # it could not be begun
            return
        span, token = cast("Begun", begun)
        contexts.detach(token)
        if call.run_id is not None:
            span.set_attribute(spans.RUN_ID, str(call.run_id))
        if error is not None:
            span.set_attribute(spans.ERROR_TYPE, type(error).__qualname__)
            span.set_status(StatusCode.ERROR)
        span.end()

    def begin_unit(self, claim: Claim) -> Begun:
        """Begin the span of a unit, below the start of its run."""
        parent = carrier.context_of(claim.run.trace)
        span = self._tracer.start_span(
            spans.name_of_unit(claim),
            context=parent,
            kind=SpanKind.CONSUMER,
            attributes=spans.of_unit(claim),
            links=None if parent is None else _links_of_message(),
        )
        return span, contexts.attach(trace.set_span_in_context(span, parent))

    def end_unit(self, begun: object, event: Event | None, error: BaseException | None) -> None:
        """End it with what became of the unit."""
        if begun is None:  # it could not be begun
            return
        span, token = cast("Begun", begun)
        contexts.detach(token)
        span.set_attribute(spans.OUTCOME, spans.outcome_of(event))
        record = spans.error_of(event)
        if record is not None:
            span.set_attribute(spans.ERROR_TYPE, record.type)
            span.set_status(StatusCode.ERROR, record.message if self._with_messages else None)
            about = spans.of_exception(record, error, with_message=self._with_messages)
            span.add_event("exception", about)
        elif event is None:
            span.set_status(StatusCode.ERROR)
        span.end()

    def signalled(self, claim: Claim, event: Signalled) -> None:
        """Make a span of the moment in which a run has consumed a signal, with its sender's link.

        The wait before it has none.
        """
        sender = carrier.span_context_of(event.trace)
        span = self._tracer.start_span(
            spans.name_of_unit(claim),
            context=carrier.context_of(claim.run.trace),
            kind=SpanKind.CONSUMER,
            attributes={**spans.of_unit(claim), spans.OUTCOME: "signalled"},
            links=None if sender is None else [Link(sender)],
        )
        span.end()

    def followed(self, message: Followed) -> None:
        """Say in the span that Celery's instrumentation has made of a message what it has done.

        It keeps the name of the task, for a message may work on many runs; where all are of one
        workflow that is added.
        """
        span = trace.get_current_span()
        name = getattr(span, "name", None)
        if not span.is_recording() or not isinstance(name, str) or OUR_TASKS not in name:
            return
        workflows = sorted(set(message.runs.values()))
        if len(workflows) == 1:
            span.update_name(f"{name} {workflows[0]}")
            span.set_attribute(spans.WORKFLOW, workflows[0])
        if len(message.runs) == 1:
            span.set_attribute(spans.RUN_ID, str(next(iter(message.runs))))
        if message.failures:
            span.set_status(StatusCode.ERROR, "; ".join(message.failures))


def _links_of_message() -> Sequence[Link] | None:
    """Return a link to the span that Celery's instrumentation has made of this message."""
    here = trace.get_current_span().get_span_context()
    return [Link(here)] if here.is_valid else None

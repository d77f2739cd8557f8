"""Traces as headers of W3C Trace Context, whatever propagators the application has chosen.

`traceparent` and `tracestate` hold ids and flags. Baggage, in which an application may put
anything, is not kept.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from celery_durable.workflow.observing import headers_of

_propagator = TraceContextTextMapPropagator()


def headers_here() -> dict[str, str]:
    """Return the headers of the current span; none without one."""
    headers: dict[str, str] = {}
    _propagator.inject(headers)
    return headers


def context_of(stored: str | None) -> Context | None:
    """Return the current context with the span of a stored trace in it; None without a trace."""
    headers = headers_of(stored)
    if "traceparent" not in headers:
        return None
    context = _propagator.extract(headers)
    return context if trace.get_current_span(context).get_span_context().is_remote else None


def span_context_of(stored: str | None) -> SpanContext | None:
    """Return which span a stored trace is of; None without one."""
    context = context_of(stored)
    return None if context is None else trace.get_current_span(context).get_span_context()

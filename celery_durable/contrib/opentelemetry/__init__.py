"""Spans of OpenTelemetry: one for every unit that is executed, in the trace of whoever started.

`DurableInstrumentor().instrument()` switches them on. It needs OpenTelemetry's API alone (the extra
`otel`); which SDK there is, and where spans go, is the application's.

Rules of this room: nothing of a payload is in a span, and a wait is none.

    instrumentor  switches it on and off
    observer      makes spans
    spans         names and attributes of spans
    carrier       a trace as headers, and back
"""

from celery_durable.contrib.opentelemetry.instrumentor import DurableInstrumentor

__all__ = ["DurableInstrumentor"]
"""What applications import."""

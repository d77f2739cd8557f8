"""Switches spans on and off."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.trace import TracerProvider

from celery_durable import __version__
from celery_durable.contrib.opentelemetry.observer import SpanObserver
from celery_durable.workflow.observing import observers


class DurableInstrumentor:
    """Switches spans on: `DurableInstrumentor().instrument()`, once in each program.

    That is the form of OpenTelemetry's own instrumentations; `opentelemetry-instrument` finds it,
    and needs no line of code.
    """

    def instrument(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        exception_messages: bool = False,
        **_: object,
    ) -> None:
        """Make spans of the starts, signals and units of this process, from now on.

        They go to `tracer_provider`, by default the global one, which may be set later: in a
        worker's child process, for instance. With `exception_messages` the span of a failed unit
        has the exception's message, too, which may quote data. A second call changes nothing.
        """
        if any(isinstance(one, SpanObserver) for one in observers):
            return
        tracer = trace.get_tracer("celery_durable", __version__, tracer_provider)
        observers.append(SpanObserver(tracer, with_messages=exception_messages))

    def uninstrument(self, **_: object) -> None:
        """Make no more spans."""
        observers[:] = [one for one in observers if not isinstance(one, SpanObserver)]

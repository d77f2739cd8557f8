"""A shop whose workers export spans, as OpenTelemetry's documentation has it: each child process of
a pool sets up an exporter of its own, and Celery is instrumented too.
"""

import json
import os
from typing import Any

from celery import Celery, shared_task
from celery.signals import worker_process_init
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from celery_durable import Durable, OutboxTask, RetryPolicy
from celery_durable.contrib.opentelemetry import DurableInstrumentor
from tests.apps import configure
from tests.apps.shop import CONFIG, perform

COLLECTOR = "TEST_COLLECTOR"


def provider_to(endpoint: str) -> TracerProvider:
    """Spans go to this collector, a tenth of a second later."""
    provider = TracerProvider()
    exporter = OTLPSpanExporter(endpoint=endpoint)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=100))
    return provider


@shared_task(name="traced.post", base=OutboxTask)
def post(letter: str) -> str:
    return letter


def charge(ctx: Any) -> Any:
    if ctx.attempt <= (ctx.input or {}).get("failures", 0):
        raise ConnectionError(f"the card {ctx.input['card']} is not reached")
    return perform(ctx)


def ship(ctx: Any) -> str:
    return str(ctx.send_task(post.s(ctx.input.get("card"))))


def define(durable: Durable) -> None:
    soon = RetryPolicy(2, backoff="fixed", initial=0.1, jitter=False)
    durable.workflow("packing").step(perform, name="pack")
    (
        durable.workflow("traced")
        .step(charge, retry=soon)
        .child_workflow("fulfil", "packing", map_input=lambda ctx: ctx.input)
        .wait_for_signal("signoff", "founder")
        .step(ship)
    )
    durable.workflow("short").step(lambda _: None, name="only")


app = configure(Celery("traced"))
app.conf.update(json.loads(os.environ.get(CONFIG) or "{}"))
durable = Durable(app)
define(durable)

if COLLECTOR in os.environ:
    DurableInstrumentor().instrument()
    CeleryInstrumentor().instrument()

    @worker_process_init.connect(weak=False)
    def export(**_: Any) -> None:
        trace.set_tracer_provider(provider_to(os.environ[COLLECTOR]))

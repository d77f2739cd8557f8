"""Real workers export spans to a collector: one trace from the caller to whatever it caused."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer

from celery_durable import RunFailed
from celery_durable.contrib.opentelemetry import DurableInstrumentor
from celery_durable.run import Run
from tests.apps import traced
from tests.apps.traced import COLLECTOR
from tests.brokers.shop import Shop
from tests.cluster import WorkerNode
from tests.collector import Collector, collecting
from tests.waiting import wait_until

APP = "tests.apps.traced:app"

CARD = "4242-4242"

pytestmark = pytest.mark.parametrize("shop", ["redis"], indirect=True)


@dataclass(frozen=True, slots=True)
class Office:
    """A client that makes spans, a worker that does, and where they go."""

    shop: Shop
    collector: Collector
    worker: WorkerNode
    tracer: Tracer
    provider: TracerProvider

    def start(self, workflow: str = "traced", **input: object) -> tuple[Run, str]:
        """Start a run from within a span; the run, and the id of the trace."""
        with self.tracer.start_as_current_span("POST /orders") as span:
            run = self.shop.durable.start(workflow, {"card": CARD, **input})
        self.provider.force_flush()
        return run, f"{span.get_span_context().trace_id:032x}"

    def sign_off(self, run: Run) -> str:
        """Send the signal from within a span of another trace; the id of that."""
        with self.tracer.start_as_current_span("POST /signoff") as span:
            self.shop.durable.resume(run.id, "founder", {"card": CARD})
        self.provider.force_flush()
        return f"{span.get_span_context().trace_id:032x}"


@pytest.fixture(scope="module")
def office(shop: Shop) -> Iterator[Office]:
    traced.define(shop.durable)
    with collecting() as collector:
        worker = shop.worker(APP, pool="prefork", env={COLLECTOR: collector.traces}, concurrency=2)
        provider = traced.provider_to(collector.traces)
        DurableInstrumentor().instrument(tracer_provider=provider)
        tracer = provider.get_tracer("application")
        yield Office(shop, collector, worker, tracer, provider)
        DurableInstrumentor().uninstrument()
        worker.teardown()
        provider.shutdown()


def test_the_callers_trace_leads_to_the_run_its_tries_its_child_and_what_a_signal_caused(
    office: Office,
) -> None:
    run, trace_id = office.start(failures=1)
    run_id = str(run.id)
    office.collector.wait_for("packing pack")
    other = office.sign_off(run)
    run.result(timeout=30)

    (start,) = office.collector.wait_for("start traced", run_id=run_id)
    tries = office.collector.wait_for("traced charge", 2, run_id=run_id)
    (fulfil,) = office.collector.wait_for("traced fulfil", run_id=run_id)
    (pack,) = office.collector.wait_for("packing pack", root_run_id=run_id)
    (signoff,) = office.collector.wait_for("traced signoff", run_id=run_id)
    (ship,) = office.collector.wait_for("traced ship", run_id=run_id)
    (sent,) = office.collector.wait_for("signal founder", run_id=run_id)

    assert [one.about["durable.attempt"] for one in tries] == [1, 2]
    assert [one.is_error for one in tries] == [True, False]
    for unit in (*tries, fulfil, signoff, ship):
        assert (unit.trace_id, unit.parent_id, unit.kind) == (trace_id, start.span_id, "CONSUMER")
    assert (pack.trace_id, pack.parent_id) == (trace_id, fulfil.span_id)
    assert sent.trace_id == other
    assert signoff.links == (sent.span_id,)
    assert start.trace_id == trace_id


def test_a_task_of_the_outbox_is_in_the_trace_of_the_step_that_sent_it(office: Office) -> None:
    run, trace_id = office.start()
    office.sign_off(run)
    run.result(timeout=30)
    (ship,) = office.collector.wait_for("traced ship", run_id=str(run.id))
    wait_until(
        lambda: [
            one for one in office.collector.spans("run/traced.post") if one.trace_id == trace_id
        ],
        timeout=20,
        message="the span of the task in the trace of its run",
    )
    (published,) = [one for one in office.collector.spans() if one.parent_id == ship.span_id]
    assert (published.name, published.kind) == ("apply_async/traced.post", "PRODUCER")


def test_a_message_is_a_span_of_its_task_that_says_what_has_failed_in_it(office: Office) -> None:
    run, _ = office.start(failures=2)
    with pytest.raises(RunFailed):
        run.result(timeout=30)
    run_id = str(run.id)
    messages = office.collector.wait_for("run/durable.advance traced", 2, run_id=run_id)
    assert all(one.is_error for one in messages)
    tries = office.collector.wait_for("traced charge", 2, run_id=run_id)
    assert {one.links[0] for one in tries} == {one.span_id for one in messages}
    assert {one.parent_id for one in tries}.isdisjoint({one.span_id for one in messages})


def test_the_message_of_a_run_that_goes_well_is_no_error(office: Office) -> None:
    run, _ = office.start("short")
    run.result(timeout=30)
    (message,) = office.collector.wait_for("run/durable.advance short", run_id=str(run.id))
    assert not message.is_error


def test_runs_that_share_a_message_are_each_in_their_own_trace(office: Office) -> None:
    started = [office.start("short") for _ in range(40)]
    for run, _ in started:
        run.result(timeout=30)
    for run, trace_id in started:
        (unit,) = office.collector.wait_for("short only", run_id=str(run.id))
        assert unit.trace_id == trace_id


def test_a_unit_whose_worker_was_killed_is_executed_again_in_the_same_trace(
    office: Office,
) -> None:
    run, trace_id = office.start(charge="hold")
    os.kill(office.shop.wait_for(run, "charge").pid, signal.SIGKILL)
    office.shop.wait_for(run, "charge", times=2)
    office.shop.open_gate(run)
    office.sign_off(run)
    run.result(timeout=60)
    (charge,) = office.collector.wait_for("traced charge", run_id=str(run.id))
    assert (charge.trace_id, charge.about["durable.crashes"]) == (trace_id, 1)


def test_no_payload_leaves_the_workers(office: Office) -> None:
    assert office.collector.spans("traced charge")
    assert CARD.encode() not in office.collector.text()

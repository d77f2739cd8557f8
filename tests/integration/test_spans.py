"""Spans of units, of a real SDK that keeps them in memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import sqlalchemy as sa
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from celery_durable import Durable, GiveUp, RetryPolicy, Suspend
from celery_durable.contrib.opentelemetry import DurableInstrumentor
from celery_durable.errors import NotSerializable
from celery_durable.run import Run
from celery_durable.workflow import observing
from tests.integration.driving import ONCE, Define, World, claimed
from tests.integration.watching import Executed, watch

SECRET = "4242-4242"
"""What a payload has in it, and no span may have."""


class Traced:
    """What the process has exported, and a tracer of the application's."""

    def __init__(self, provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
        self.tracer = provider.get_tracer("application")
        self.exporter = exporter

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """The spans that have ended, of this name, in order."""
        return [one for one in self.exporter.get_finished_spans() if name in (None, one.name)]

    def one(self, name: str) -> ReadableSpan:
        found = self.spans(name)
        assert len(found) == 1, [span.name for span in self.spans()]
        return found[0]

    def names(self) -> list[str]:
        return [span.name for span in self.spans()]


@pytest.fixture
def traced() -> Iterator[Traced]:
    yield from tracing()


def tracing(sampler: Any = None) -> Iterator[Traced]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    DurableInstrumentor().instrument(tracer_provider=provider)
    try:
        yield Traced(provider, exporter)
    finally:
        DurableInstrumentor().uninstrument()
        provider.shutdown()


def of(*steps: Any, **options: Any) -> Define:
    def define(durable: Durable) -> None:
        workflow = durable.workflow("order")
        for step in steps:
            workflow.step(step, **options)

    return define


def reserve(_: Any) -> None: ...
def charge(_: Any) -> None: ...


def declined(_: Any) -> None:
    raise GiveUp(f"the card {SECRET} is declined")


def driven(world: World, define: Define, input: object = None) -> Run:
    worker = world.worker(define)
    run = worker.start("order", input)
    world.drain(worker)
    return run


def about(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    return int(span.context.span_id)


def trace_of(span: ReadableSpan) -> int:
    return int(span.context.trace_id)


def test_every_unit_is_a_span_below_the_start_in_the_trace_of_the_caller(
    world: World, traced: Traced
) -> None:
    worker = world.worker(of(reserve, charge))
    with traced.tracer.start_as_current_span("POST /orders") as request:
        run = worker.start("order", {})
    world.drain(worker)

    start = traced.one("start order")
    assert (parent_of(start), start.kind) == (request.get_span_context().span_id, SpanKind.PRODUCER)
    assert about(start) == {
        "durable.workflow": "order",
        "durable.version": 1,
        "durable.run_id": str(run.id),
    }
    for unit in ("reserve", "charge"):
        span = traced.one(f"order {unit}")
        assert (parent_of(span), span.kind) == (id_of(start), SpanKind.CONSUMER)
        assert about(span) == {
            "durable.run_id": str(run.id),
            "durable.workflow": "order",
            "durable.version": 1,
            "durable.unit": unit,
            "durable.attempt": 1,
            "durable.outcome": "completed",
        }
        assert span.status.status_code is StatusCode.UNSET
    assert {trace_of(span) for span in traced.spans()} == {request.get_span_context().trace_id}


def test_a_start_without_a_span_around_it_begins_the_trace(world: World, traced: Traced) -> None:
    driven(world, of(reserve, charge))
    start = traced.one("start order")
    assert start.parent is None
    assert {parent_of(span) for span in traced.spans() if span is not start} == {id_of(start)}


def test_what_a_handler_traces_is_below_its_unit(world: World, traced: Traced) -> None:
    def asking(_: Any) -> None:
        with traced.tracer.start_as_current_span("GET /stock"):
            pass

    async def asking_too(_: Any) -> None:
        with traced.tracer.start_as_current_span("GET /price"):
            pass

    driven(world, of(asking, asking_too))
    assert parent_of(traced.one("GET /stock")) == id_of(traced.one("order asking"))
    assert parent_of(traced.one("GET /price")) == id_of(traced.one("order asking_too"))


def test_units_of_a_bundle_are_each_in_the_trace_of_their_own_run(
    world: World, traced: Traced
) -> None:
    worker = world.worker(of(reserve, charge))
    runs = [worker.start("order", {}) for _ in range(4)]
    with traced.tracer.start_as_current_span("the message") as message:
        worker.engine.advance_together(world.publish())
    starts = {about(one)["durable.run_id"]: one for one in traced.spans("start order")}
    assert len({trace_of(one) for one in starts.values()}) == 4
    for name in ("order reserve", "order charge"):
        units = {about(one)["durable.run_id"]: one for one in traced.spans(name)}
        assert set(units) == {str(run.id) for run in runs}
        for run_id, span in units.items():
            assert parent_of(span) == id_of(starts[run_id])
            assert [link.context.span_id for link in span.links] == [
                message.get_span_context().span_id
            ]


def test_each_attempt_is_a_span_that_says_which_it_is_and_how_it_ended(
    world: World, traced: Traced
) -> None:
    def flaky(ctx: Any) -> None:
        if ctx.attempt == 1:
            raise ConnectionError("away")

    soon = RetryPolicy(max_attempts=2, initial=0.0, jitter=False)
    driven(world, of(flaky, retry=soon))
    first, second = traced.spans("order flaky")
    assert [about(one)["durable.attempt"] for one in (first, second)] == [1, 2]
    assert [about(one)["durable.outcome"] for one in (first, second)] == ["failed", "completed"]
    assert [one.status.status_code for one in (first, second)] == [
        StatusCode.ERROR,
        StatusCode.UNSET,
    ]
    assert trace_of(first) == trace_of(second)
    assert about(first)["error.type"] == "ConnectionError"
    (event,) = first.events
    assert event.name == "exception"
    recorded = dict(event.attributes or {})
    assert recorded["exception.type"] == "ConnectionError"
    assert "in flaky" in str(recorded["exception.stacktrace"])


def test_compensations_are_spans_of_the_same_trace(world: World, traced: Traced) -> None:
    def define(durable: Durable) -> None:
        step = durable.step(name="reserve", compensate=reserve)(reserve)
        durable.workflow("order").step(step).step(declined)

    driven(world, define)
    undone = traced.one("order reserve#compensate")
    assert about(undone)["durable.unit"] == "reserve#compensate"
    assert parent_of(undone) == id_of(traced.one("start order"))


def test_items_and_iterations_share_the_name_of_their_node(world: World, traced: Traced) -> None:
    def define(durable: Durable) -> None:
        (
            durable.workflow("order")
            .map("lines", over=lambda _: [1, 2], handler=reserve)
            .loop("poll", charge, max_iterations=2)
            .parallel("checks", {"fraud": reserve})
        )

    driven(world, define)
    assert [about(one)["durable.unit"] for one in traced.spans("order lines")] == [
        *("lines", "lines#0", "lines#1"),
    ]
    assert [about(one)["durable.unit"] for one in traced.spans("order poll")] == [
        *("poll#0", "poll#1"),
    ]
    assert about(traced.one("order checks#fraud"))["durable.unit"] == "checks#fraud"


def test_a_child_run_is_in_the_same_trace_below_the_unit_that_starts_it(
    world: World, traced: Traced
) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("child").step(charge)
        durable.workflow("order").step(reserve).child_workflow("fulfil", "child")

    run = driven(world, define)
    unit = traced.one("order fulfil")
    in_child = traced.one("child charge")
    assert parent_of(in_child) == id_of(unit)
    assert trace_of(in_child) == trace_of(traced.one("start order"))
    assert about(unit)["durable.outcome"] == "waiting"
    assert about(in_child)["durable.root_run_id"] == str(run.id)


def test_a_child_keeps_the_trace_where_the_worker_that_starts_it_makes_no_spans(
    world: World, traced: Traced
) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("child").step(charge)
        durable.workflow("order").child_workflow("fulfil", "child").step(reserve)

    worker = world.worker(define)
    worker.start("order", {})
    observers, observing.observers[:] = [*observing.observers], []
    for token_id in world.publish():
        worker.engine.advance(token_id)
    observing.observers[:] = observers
    world.drain(worker)
    assert parent_of(traced.one("child charge")) == id_of(traced.one("start order"))


def test_a_signal_is_a_span_linked_to_its_sender_and_the_wait_is_none(
    world: World, traced: Traced
) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("order").wait_for_signal("signoff", "founder").step(charge)

    worker = world.worker(define)
    run = worker.start("order", {})
    world.drain(worker)
    assert traced.names() == ["start order"]
    with traced.tracer.start_as_current_span("POST /signoff") as request:
        worker.resume(run.id, "founder", {"card": SECRET})
    world.drain(worker)
    sent, consumed = traced.one("signal founder"), traced.one("order signoff")
    assert parent_of(sent) == request.get_span_context().span_id
    assert about(sent) == {"durable.signal": "founder", "durable.run_id": str(run.id)}
    assert [link.context.span_id for link in consumed.links] == [id_of(sent)]
    assert parent_of(consumed) == id_of(traced.one("start order"))
    assert about(consumed)["durable.outcome"] == "signalled"
    assert parent_of(traced.one("order charge")) == id_of(traced.one("start order"))


def test_signals_to_many_runs_carry_the_trace_too(world: World, traced: Traced) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("order").wait_for_signal("signoff")

    worker = world.worker(define)
    worker.start_many("order", [{}] * 2)
    assert about(traced.one("start order"))["durable.runs"] == 2
    world.drain(worker)
    worker.bulk("resume", workflow="order", signal="signoff")
    world.drain(worker)
    sent = traced.one("signal signoff")
    assert [
        link.context.span_id for one in traced.spans("order signoff") for link in one.links
    ] == [id_of(sent)] * 2


def test_a_step_that_suspends_says_so_and_its_answer_is_linked(
    world: World, traced: Traced
) -> None:
    def ask(ctx: Any) -> Any:
        return None if ctx.is_resumed else Suspend({"question": SECRET})

    worker = world.worker(of(ask))
    run = worker.start("order", {})
    world.drain(worker)
    worker.resume(run.id, "ask", True)
    world.drain(worker)
    outcomes = [about(one)["durable.outcome"] for one in traced.spans("order ask")]
    assert outcomes == ["suspended", "signalled", "completed"]
    linked = traced.spans("order ask")[1].links
    assert [link.context.span_id for link in linked] == [id_of(traced.one("signal ask"))]


def test_a_unit_whose_worker_died_is_in_the_same_trace_and_says_how_often(
    world: World, traced: Traced
) -> None:
    define = of(reserve)
    dead, other = world.worker(define), world.worker(define)
    run = dead.start("order", {})
    (token_id,) = world.publish()
    assert claimed(dead, token_id)
    world.kill(dead)
    assert world.reap(other) == 1
    world.drain(other)
    assert world.has_ended(run)
    span = traced.one("order reserve")
    assert about(span)["durable.crashes"] == 1
    assert parent_of(span) == id_of(traced.one("start order"))


def test_a_run_that_sql_has_started_has_no_trace_and_hangs_on_the_message(
    world: World, traced: Traced
) -> None:
    worker = world.worker(of(reserve))
    worker.run_factory.outline("order", 1)
    world.rows("SELECT durable_start('order', '{}')")
    with traced.tracer.start_as_current_span("the message") as message:
        world.drain(worker)
    span = traced.one("order reserve")
    assert parent_of(span) == message.get_span_context().span_id
    assert not span.links


def test_no_span_has_anything_of_a_payload(world: World, traced: Traced) -> None:
    """Inputs, results, items, snapshots, signals, errors: none of them."""

    def define(durable: Durable) -> None:
        durable.workflow("child").step(lambda ctx: ctx.input, name="echo")
        (
            durable.workflow("order")
            .step(lambda ctx: {"card": ctx.input["card"]}, name="reserve")
            .map("lines", over=lambda _: [SECRET], handler=lambda ctx: ctx.item)
            .child_workflow("call", "child", map_input=lambda _: {"card": SECRET})
            .wait_for_signal("signoff")
            .step(declined, retry=ONCE)
        )

    worker = world.worker(define)
    run = worker.start("order", {"card": SECRET}, key=SECRET, tags={"card": SECRET})
    worker.resume(run.id, "signoff", {"card": SECRET}, key=SECRET)
    world.drain(worker)
    assert world.status(run) == "failed"
    assert len(traced.spans()) == 9
    assert SECRET not in "".join(span.to_json() for span in traced.spans())


def test_messages_of_exceptions_are_there_if_they_are_asked_for(
    world: World, traced: Traced
) -> None:
    DurableInstrumentor().uninstrument()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(traced.exporter))
    DurableInstrumentor().instrument(tracer_provider=provider, exception_messages=True)
    driven(world, of(declined))
    span = traced.one("order declined")
    assert span.status.description == f"the card {SECRET} is declined"
    (event,) = span.events
    assert dict(event.attributes or {})["exception.message"] == span.status.description


def test_a_transactional_step_that_fails_at_its_commit_is_a_failed_span(
    world: World, traced: Traced
) -> None:
    world.rows(
        "CREATE TABLE IF NOT EXISTS parent (id int PRIMARY KEY);"
        "CREATE TABLE IF NOT EXISTS orphan ("
        "id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)"
    )

    def book(ctx: Any) -> None:
        ctx.session.connection().exec_driver_sql("INSERT INTO orphan VALUES (1)")

    driven(world, of(book, transactional=True, retry=ONCE))
    span = traced.one("order book")
    assert about(span)["durable.outcome"] == "failed"
    assert span.status.status_code is StatusCode.ERROR


def test_until_that_raises_is_an_error_of_its_iterations_span(world: World, traced: Traced) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("order").loop("poll", reserve, until=lambda *_: 1 / 0, max_iterations=2)

    driven(world, define)
    span = traced.one("order poll")
    assert span.status.status_code is StatusCode.ERROR
    assert about(span)["error.type"] == "ZeroDivisionError"


def test_a_start_that_is_refused_is_an_error_span(world: World, traced: Traced) -> None:
    worker = world.worker(of(reserve))
    with pytest.raises(NotSerializable):
        worker.start("order", {"what": object()})
    span = traced.one("start order")
    assert span.status.status_code is StatusCode.ERROR
    assert about(span)["error.type"] == "NotSerializable"


def test_an_async_caller_and_a_callers_transaction_keep_the_trace(
    world: World, traced: Traced
) -> None:
    worker = world.worker(of(reserve))

    async def start() -> None:
        with traced.tracer.start_as_current_span("async"):
            await worker.astart("order", {})

    asyncio.run(start())
    engine = sa.create_engine(world.url)
    with traced.tracer.start_as_current_span("joined"), engine.begin() as connection:
        worker.start("order", {}, session=connection)
    engine.dispose()
    world.drain(worker)
    callers = [id_of(traced.one("async")), id_of(traced.one("joined"))]
    starts = traced.spans("start order")
    assert [parent_of(one) for one in starts] == callers
    assert [parent_of(one) for one in traced.spans("order reserve")] == [*map(id_of, starts)]


def test_what_is_not_sampled_at_the_start_is_not_sampled_later(world: World) -> None:
    for traced in tracing(ParentBased(ALWAYS_OFF)):
        run = driven(world, of(reserve))
        assert traced.names() == []
        stored = world.one("SELECT trace FROM durable_run WHERE id = %s", run.id)
        assert int(stored["traceparent"].rpartition("-")[2], 16) & 1 == 0


def test_what_an_observer_raises_is_logged_and_the_run_goes_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(observing.Observer):
        def begin_unit(self, _: Any) -> object:
            raise RuntimeError("the sampler has a bug")

    observing.observers.append(Broken())
    try:
        run = driven(world, of(reserve))
    finally:
        observing.observers.clear()
    assert world.status(run) == "completed"
    assert "begin_unit has failed; the run goes on" in caplog.text
    assert "the sampler has a bug" in caplog.text


def test_a_trace_that_somebody_has_written_wrongly_is_no_trace(
    world: World, traced: Traced
) -> None:
    worker = world.worker(of(reserve))
    for stored in ("[]", '"text"', '{"traceparent": 7}', '{"traceparent": "no"}', "{}"):
        run = worker.start("order", {})
        world.rows("UPDATE durable_run SET trace = %s WHERE id = %s", stored, run.id)
        world.drain(worker)
        assert world.status(run) == "completed"
    assert [parent_of(one) for one in traced.spans("order reserve")] == [None] * 5


OBSERVING = (
    "workflow/observing.py",
    "workflow/around.py",
    "contrib/opentelemetry",
    "opentelemetry/",
)


def modules_called(call: Callable[[], object]) -> set[str]:
    """The files of all functions that are called meanwhile."""
    files: set[str] = set()

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            files.add(frame.f_code.co_filename)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return files


def test_a_unit_calls_nothing_of_it_while_nobody_observes(world: World) -> None:
    worker = world.worker(of(reserve, charge))
    worker.start_many("order", [{}] * 4)
    together = world.publish()
    files = modules_called(lambda: worker.engine.advance_together(together))
    worker.start("order", {})
    (alone,) = world.publish()
    files |= modules_called(lambda: worker.engine.advance(alone))
    assert any("workflow/execute.py" in file for file in files)
    assert not [file for file in files for part in OBSERVING if part in file]
    assert world.one("SELECT count(trace) FROM durable_run") == 0


def test_nothing_of_opentelemetry_is_imported_until_it_is_switched_on() -> None:
    program = (
        "import sys, celery_durable, celery_durable.durable, celery_durable.worker.install;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_spans_cost_no_statement(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trace comes with the claim, and with the start."""
    executed: list[str] = []
    here = threading.get_ident()

    def note(one: Executed) -> None:
        """But for what the lease's thread asks meanwhile, and for relays, which are not woken twice
        in a short time.
        """
        if threading.get_ident() == here and "channel" not in one.parameters:
            executed.append(one.text)

    watch(monkeypatch, note)

    def define(durable: Durable) -> None:
        durable.workflow("child").step(reserve)
        durable.workflow("order").step(reserve).wait_for_signal("go").child_workflow("c", "child")

    def statements(worker: Durable) -> list[str]:
        executed.clear()
        run = worker.start("order", {})
        worker.resume(run.id, "go")
        world.drain(worker)
        return [*executed]

    worker = world.worker(define)
    statements(worker)
    without = statements(worker)
    for traced in tracing():
        assert statements(worker) == without
        assert len(traced.spans()) == 6


def test_opentelemetrys_own_command_switches_it_on() -> None:
    (found,) = entry_points(group="opentelemetry_instrumentor", name="celery_durable")
    assert found.load() is DurableInstrumentor
    program = "from celery_durable.workflow.observing import observers; print(len(observers))"
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("opentelemetry-instrument")),
            *("--traces_exporter", "none", "--metrics_exporter", "none", "--logs_exporter", "none"),
            *(sys.executable, "-c", program),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "1", done.stderr

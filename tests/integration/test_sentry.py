"""What Sentry's SDK sends of runs, to a transport that keeps it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from celery import Celery
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport

from celery_durable import Durable, GiveUp, RetryPolicy
from celery_durable.contrib.sentry import DurableIntegration, SentryObserver
from celery_durable.run import Run
from celery_durable.workflow import observing
from tests.integration.driving import ONCE, Define, World, claimed

SECRET = "4242-4242"

SOON = RetryPolicy(max_attempts=2, initial=0.0, jitter=False)


class Kept(Transport):
    """A transport that keeps what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.envelopes: list[Envelope] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)

    def _items(self, kind: str) -> list[dict[str, Any]]:
        found = [item for one in self.envelopes for item in one.items if item.type == kind]
        return [dict(item.payload.json or {}) for item in found]

    @property
    def errors(self) -> list[dict[str, Any]]:
        return self._items("event")

    @property
    def transactions(self) -> list[dict[str, Any]]:
        return self._items("transaction")

    def text(self) -> str:
        return "".join(one.serialize().decode() for one in self.envelopes)


@pytest.fixture
def sentry() -> Iterator[Kept]:
    yield from reporting()


def reporting(**options: Any) -> Iterator[Kept]:
    kept = Kept()
    sentry_sdk.init(
        dsn="https://public@sentry.example/1",
        transport=kept,
        traces_sample_rate=1.0,
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[DurableIntegration(), LoggingIntegration(), DedupeIntegration()],
        **options,
    )
    # The SDK sets an integration up once in a process.
    observing.observers[:] = [SentryObserver()]
    try:
        yield kept
    finally:
        observing.observers.clear()
        sentry_sdk.get_client().close()
        sentry_sdk.Scope.get_global_scope().set_client(None)


def of(*steps: Any, **options: Any) -> Define:
    def define(durable: Durable) -> None:
        workflow = durable.workflow("order")
        for step in steps:
            workflow.step(step, **options)

    return define


def reserve(_: Any) -> None: ...


def charge(ctx: Any) -> None:
    card = ctx.input["card"]
    raise ConnectionError(f"the bank is away, said {len(card)} times")


def driven(world: World, define: Define, input: object = None) -> Run:
    worker = world.worker(define)
    run = worker.start("order", input or {})
    world.drain(worker)
    assert world.has_ended(run)
    return run


def test_a_final_failure_is_reported_once_with_the_handlers_frames(
    world: World, sentry: Kept
) -> None:
    run = driven(world, of(charge, retry=SOON), {"card": "x"})
    (event,) = sentry.errors
    (value,) = event["exception"]["values"]
    assert (value["type"], value["value"]) == (
        "ConnectionError",
        "the bank is away, said 1 times",
    )
    assert [frame["function"] for frame in value["stacktrace"]["frames"]] == ["charge"]
    assert value["mechanism"] == {"type": "celery_durable", "handled": False}
    assert event["level"] == "error"
    assert event["transaction"] == "order charge"
    assert event["fingerprint"] == ["{{ default }}", "order", "charge"]
    assert event["tags"] == {
        "durable.run": str(run.id),
        "durable.workflow": "order",
        "durable.unit": "charge",
        "durable.attempt": "2",
        "durable.outcome": "failed",
    }


def test_a_failure_that_is_tried_again_is_no_event(world: World, sentry: Kept) -> None:
    def flaky(ctx: Any) -> None:
        if ctx.attempt == 1:
            raise ConnectionError("away")

    driven(world, of(flaky, retry=SOON))
    assert sentry.errors == []


def test_a_handler_that_gives_up_is_a_warning(world: World, sentry: Kept) -> None:
    def declined(_: Any) -> None:
        raise GiveUp("declined")

    driven(world, of(declined))
    (event,) = sentry.errors
    assert (event["level"], event["tags"]["durable.outcome"]) == ("warning", "gave up")
    assert event["exception"]["values"][0]["mechanism"]["handled"] is True


def test_a_run_that_is_paused_with_its_tries_used_up_is_reported(
    world: World, sentry: Kept
) -> None:
    worker = world.worker(of(charge, retry=RetryPolicy(max_attempts=1, on_exhausted="pause")))
    worker.start("order", {"card": "x"})
    world.drain(worker)
    (event,) = sentry.errors
    assert event["tags"]["durable.outcome"] == "paused"


def test_a_failed_compensation_is_reported_too(world: World, sentry: Kept) -> None:
    def define(durable: Durable) -> None:
        first = durable.step(name="reserve")(reserve)
        first.compensate(retry=ONCE)(lambda _: 1 / 0)
        durable.workflow("order").step(first).step(charge, retry=ONCE)

    driven(world, define, {"card": "x"})
    units = [event["tags"]["durable.unit"] for event in sentry.errors]
    assert units == ["charge", "reserve#compensate"]


def test_a_unit_that_kills_its_workers_is_reported_without_frames(
    world: World, sentry: Kept
) -> None:
    define = of(reserve)
    worker = world.worker(define, max_crashes=1)
    run = worker.start("order", {})
    dead = world.worker(define, max_crashes=1)
    (token_id,) = world.publish()
    assert claimed(dead, token_id)
    world.kill(dead)
    assert world.reap(worker) == 1
    world.drain(worker)
    assert world.status(run) == "failed"
    (event,) = sentry.errors
    (value,) = event["exception"]["values"]
    assert value["type"] == "WorkerLost"
    assert "stacktrace" not in value
    assert event["tags"]["durable.unit"] == "reserve"


def test_items_of_a_node_are_one_issue(world: World, sentry: Kept) -> None:
    def define(durable: Durable) -> None:
        line = durable.step(name="line", retry=ONCE)(lambda _: 1 / 0)
        durable.workflow("order").map("lines", over=lambda _: [1, 2], handler=line)

    driven(world, define)
    assert {tuple(event["fingerprint"]) for event in sentry.errors} == {
        ("{{ default }}", "order", "lines")
    }
    assert {event["tags"]["durable.unit"] for event in sentry.errors} == {"lines#0", "lines#1"}


def test_what_a_handler_reports_by_itself_is_not_reported_again(world: World, sentry: Kept) -> None:
    def reporting(_: Any) -> None:
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError as error:
            sentry_sdk.capture_exception(error)
            raise

    driven(world, of(reporting, retry=ONCE))
    (event,) = sentry.errors
    assert event["exception"]["values"][0]["mechanism"]["type"] == "generic"
    assert event["tags"]["durable.unit"] == "reporting"
    assert event["transaction"] == "order reporting"


def test_the_event_has_what_its_handler_has_left_and_nothing_of_other_runs(
    world: World, sentry: Kept
) -> None:
    logger = logging.getLogger("shop")

    def talking(ctx: Any) -> None:
        logger.warning("charging %s", ctx.input["name"])
        sentry_sdk.set_tag("customer", ctx.input["name"])
        raise GiveUp(ctx.input["name"])

    worker = world.worker(of(talking))
    names = ["a", "b", "c"]
    for name in names:
        worker.start("order", {"name": name})
    worker.engine.advance_together(world.publish())
    world.drain(worker)
    assert sorted(event["tags"]["customer"] for event in sentry.errors) == names
    for event in sentry.errors:
        name = event["tags"]["customer"]
        crumbs = [one["message"] for one in event["breadcrumbs"]["values"]]
        assert [text for text in crumbs if "charging" in text] == [f"charging {name}"]


def test_no_payload_is_sent(world: World, sentry: Kept) -> None:
    """Inputs, results, items, signals: none of them, where frames have no variables."""

    def define(durable: Durable) -> None:
        (
            durable.workflow("order")
            .step(lambda ctx: ctx.input, name="reserve")
            .map("lines", over=lambda _: [SECRET], handler=lambda ctx: ctx.item)
            .wait_for_signal("signoff")
            .step(charge, retry=ONCE)
        )

    for kept in reporting(include_local_variables=False):
        worker = world.worker(define)
        run = worker.start("order", {"card": SECRET}, tags={"card": SECRET}, key=SECRET)
        worker.resume(run.id, "signoff", {"card": SECRET})
        world.drain(worker)
        assert len(kept.errors) == 1
        assert SECRET not in kept.text()


def test_local_variables_are_sent_as_sentry_is_told(world: World, sentry: Kept) -> None:
    driven(world, of(charge, retry=ONCE), {"card": SECRET})
    frames = sentry.errors[0]["exception"]["values"][0]["stacktrace"]["frames"]
    assert frames[0]["vars"]["card"] == f"'{SECRET}'"


def test_each_unit_is_a_transaction_in_the_trace_of_whoever_started(
    world: World, sentry: Kept
) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("child").step(reserve)
        durable.workflow("order").step(reserve).child_workflow("fulfil", "child").step(
            charge, retry=ONCE
        )

    worker = world.worker(define)
    with sentry_sdk.start_transaction(name="POST /orders") as request:
        worker.start("order", {"card": "x"})
        trace_id = request.trace_id
    world.drain(worker)
    named = {one["transaction"]: one for one in sentry.transactions}
    units = ["order reserve", "order fulfil", "child reserve", "order charge"]
    assert set(named) == {"POST /orders", *units}
    assert {one["contexts"]["trace"]["trace_id"] for one in named.values()} == {trace_id}
    statuses = {unit: named[unit]["contexts"]["trace"]["status"] for unit in units}
    assert statuses == {
        "order reserve": "ok",
        "order fulfil": "ok",
        "child reserve": "ok",
        "order charge": "internal_error",
    }
    in_child = named["child reserve"]["contexts"]["trace"]
    assert in_child["parent_span_id"] == named["order fulfil"]["contexts"]["trace"]["span_id"]
    (event,) = sentry.errors
    assert event["contexts"]["trace"]["trace_id"] == trace_id


def test_a_process_whose_sentry_has_no_such_integration_sends_nothing_by_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    observing.observers[:] = [SentryObserver()]
    try:
        run = driven(world, of(charge, retry=ONCE), {"card": "x"})
    finally:
        observing.observers.clear()
    assert world.status(run) == "failed"
    assert "the run goes on" not in caplog.text
    assert world.one("SELECT count(trace) FROM durable_run") == 0


def test_a_task_that_is_a_step_is_reported_once_and_not_at_each_try(
    world: World, sentry: Kept
) -> None:
    """Celery's integration captures what a task raises wherever it is called."""

    def define(durable: Durable) -> None:
        app: Celery = durable.app

        @app.task(name="shop.pay")
        def pay() -> None:
            try:
                charge(None)
            except AttributeError as error:
                event, hint = sentry_sdk.utils.event_from_exception(
                    error, mechanism={"type": "celery", "handled": False}
                )
                sentry_sdk.capture_event(event, hint=hint)
                raise

        durable.workflow("order").step(pay, args=lambda _: (), retry=SOON)

    driven(world, define)
    (event,) = sentry.errors
    assert event["exception"]["values"][0]["mechanism"]["type"] == "celery_durable"

"""Real workers report to a server that speaks Sentry's protocol, Celery's integration included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from celery_durable import RunFailed
from celery_durable.run import Run
from tests.apps import reported
from tests.apps.reported import DSN
from tests.brokers.shop import Shop
from tests.cluster import WorkerNode
from tests.collector import SENT_WITHIN, Collector, collecting
from tests.waiting import wait_until

APP = "tests.apps.reported:app"

CARD = "4242-4242"

pytestmark = pytest.mark.parametrize("shop", ["redis"], indirect=True)


@dataclass(frozen=True, slots=True)
class Office:
    """A client, a worker that reports, and where it reports to."""

    shop: Shop
    collector: Collector
    worker: WorkerNode

    def failed(self, workflow: str, **input: object) -> Run:
        """A run that has failed."""
        run = self.shop.durable.start(workflow, {"card": CARD, **input})
        with pytest.raises(RunFailed):
            run.result(timeout=30)
        return run

    def event(self, run: Run) -> dict[str, Any]:
        """The one error of a run, once it was reported, and the run's transactions too."""
        tags = {"run": str(run.id)}
        wait_until(
            lambda: self.collector.envelopes("event", **tags) and self.transactions(run),
            timeout=SENT_WITHIN,
            message="an event of the run",
        )
        (event,) = self.collector.envelopes("event", **tags)
        return event

    def transactions(self, run: Run) -> list[dict[str, Any]]:
        return self.collector.envelopes("transaction", run=str(run.id))


@pytest.fixture(scope="module")
def office(shop: Shop) -> Iterator[Office]:
    reported.define(shop.durable)
    with collecting() as collector:
        worker = shop.worker(APP, pool="prefork", env={DSN: collector.dsn}, concurrency=2)
        yield Office(shop, collector, worker)
        worker.teardown()


def test_a_unit_that_has_used_up_its_tries_is_one_event_with_its_frames(office: Office) -> None:
    run = office.failed("reported", failures=2)
    event = office.event(run)
    (value,) = event["exception"]["values"]
    assert value["type"] == "ConnectionError"
    assert [frame["function"] for frame in value["stacktrace"]["frames"]] == ["charge"]
    assert event["tags"]["durable.attempt"] == "2"
    assert event["transaction"] == "reported charge"
    assert event["level"] == "error"


def test_units_and_not_messages_are_the_transactions_that_fail(office: Office) -> None:
    run = office.failed("reported", failures=2)
    event = office.event(run)
    first, second = office.transactions(run)
    for unit in (first, second):
        assert unit["transaction"] == "reported charge"
        assert unit["contexts"]["trace"]["status"] == "internal_error"
        assert unit["transaction_info"] == {"source": "task"}
    assert event["contexts"]["trace"]["trace_id"] == second["contexts"]["trace"]["trace_id"]
    messages = [
        one
        for one in office.collector.envelopes("transaction")
        if one["transaction"] == "durable.advance reported"
    ]
    assert messages
    assert {one["contexts"]["trace"]["status"] for one in messages} == {"internal_error"}


def test_a_failure_that_is_tried_again_is_no_event(office: Office) -> None:
    run = office.shop.durable.start("reported", {"card": CARD, "failures": 1})
    run.result(timeout=30)
    office.event(office.failed("reported", failures=2))  # what came before has been sent
    assert office.collector.envelopes("event", run=str(run.id)) == []


def test_a_task_that_is_a_step_is_one_event_though_celerys_integration_sees_each_try(
    office: Office,
) -> None:
    event = office.event(office.failed("paying"))
    assert event["exception"]["values"][-1]["mechanism"]["type"] == "celery_durable"
    assert event["tags"]["durable.unit"] == "pay"


def test_a_handler_that_gives_up_is_a_warning(office: Office) -> None:
    event = office.event(office.failed("declined", charge="fail"))
    assert (event["level"], event["tags"]["durable.outcome"]) == ("warning", "gave up")


def test_a_unit_that_kills_its_workers_is_one_event(office: Office) -> None:
    run = office.shop.durable.start("declined", {"card": CARD, "charge": "die"})
    with pytest.raises(RunFailed):
        run.result(timeout=60)
    wait_until(
        lambda: office.collector.envelopes("event", run=str(run.id)),
        timeout=SENT_WITHIN,
        message="an event of the run",
    )
    (event,) = office.collector.envelopes("event", run=str(run.id))
    assert event["exception"]["values"][0]["type"] == "WorkerLost"


def test_lines_of_the_librarys_own_log_are_no_events(office: Office) -> None:
    """Celery's own are: that a process of its pool was killed."""
    events = office.collector.envelopes("event")
    loggers = [one.get("logger") or "" for one in events]
    assert events
    assert [name for name in loggers if name.startswith("celery_durable")] == []

"""The tests of the shop. Each has a database of its own; none has a broker, a worker, or waits."""

from datetime import timedelta

import pytest

from celery_durable import Run, RunFailed
from celery_durable.testing import Harness, RunStands, make_context
from examples.tested.shop import bank, careless_order, order, release, ship

LAMP = {"sku": "lamp", "price": 7}


def payments(run: Run) -> list[int]:
    return bank.payments[str(run.id)]


def test_a_step_alone() -> None:
    ctx = make_context(ship, workflow=order, results={"reserve": {"sku": "lamp"}})
    assert ship(ctx) == "shipped lamp"
    undoing = make_context(release, workflow=order, result={"reservation": "reservation 1"})
    assert release(undoing) == "released the reservation 1"


def test_an_order_that_is_signed_off(durable_harness: Harness) -> None:
    run = durable_harness.run(order, LAMP)
    with pytest.raises(RunStands, match="signoff"):
        run.result()
    run.resume("signoff", {"by": "the founder"})
    durable_harness.drain()
    assert payments(run) == [7]
    durable_harness.advance(timedelta(hours=24))
    assert run.result()["ship"] == "shipped lamp"


def test_an_order_that_nobody_signs_off(durable_harness: Harness) -> None:
    run = durable_harness.run(order, LAMP)
    durable_harness.advance(timedelta(days=3))
    with pytest.raises(RunFailed, match="signoff"):
        run.result()
    assert payments(run) == []
    assert [entry.unit for entry in run.history()][-1] == "reserve#compensate"


def test_an_order_is_charged_once_whenever_a_worker_dies(durable_harness: Harness) -> None:
    report = durable_harness.crash_everywhere(
        order, LAMP, signals={"signoff": {"by": "the founder"}}, check=payments
    )
    report.raise_if_found()


def test_a_careless_order_is_found(durable_harness: Harness) -> None:
    report = durable_harness.crash_everywhere(careless_order, LAMP, check=payments)
    assert [finding.unit for finding in report.findings] == ["charge_carelessly"]
    print(report)

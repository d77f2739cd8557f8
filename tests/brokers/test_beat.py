"""celery beat schedules `durable.recover` and `durable.start`."""

from uuid import UUID

import pytest

from tests.brokers.shop import SHOP, Shop
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("shift")


def test_beat_recovers_and_starts_one_run_of_a_schedule_at_a_time(shop: Shop) -> None:
    worker = shop.worker()
    shop.start().result(timeout=30)  # the worker has stored the plans by now
    shop.cluster.beat(SHOP)
    wait_until(lambda: nightly(shop), message="the first run of the schedule")
    wait_until(
        lambda: worker.logs().count("Task durable.start[") >= 6, message="the schedule to go on"
    )
    worker.wait_for_log("Task durable.recover[")
    (only,) = nightly(shop)
    run = shop.durable.run(only)
    shop.wait_for(run, "charge")
    shop.open_gate(run)
    run.result(timeout=30)
    wait_until(lambda: len(nightly(shop)) == 2, message="the next run of the schedule")
    assert "Traceback" not in worker.logs()


@pytest.mark.parametrize("shop", ["redis"], indirect=True)
def test_a_start_that_is_delivered_twice_starts_one_run(shop: Shop) -> None:
    worker = shop.worker()
    shop.start().result(timeout=30)
    shop.query("DELETE FROM durable_run")
    for _ in range(3):
        shop.app.send_task(
            "durable.start",
            kwargs={"workflow": "order", "input": {}},
            task_id="delivered-often",
            queue=shop.broker.queue(),
        )
    wait_until(
        lambda: worker.logs().count("[delivered-often] succeeded") == 3, message="three deliveries"
    )
    assert shop.query("SELECT key FROM durable_run") == [("message-delivered-often",)]


def nightly(shop: Shop) -> list[UUID]:
    """The runs of the schedule."""
    return [found.run_id for found in shop.durable.list(tags={"schedule": "nightly"})]

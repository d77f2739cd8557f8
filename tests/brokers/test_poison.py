"""A step that kills its process each time does not go round for ever (durable_max_crashes)."""

import pytest

from celery_durable import RunFailed
from tests.brokers.shop import Shop


def test_a_step_that_kills_its_workers_fails_and_is_undone(shop: Shop) -> None:
    worker = shop.worker()
    poison = shop.start(charge="die")
    others = shop.durable.start_many("order", [{}] * 10, version=1)
    with pytest.raises(RunFailed) as failed:
        poison.result(timeout=60)
    assert failed.value.error is not None
    assert (failed.value.error.type, failed.value.error.unit) == ("WorkerLost", "charge")
    assert [entry.unit for entry in shop.ledger(poison, event="begin")] == [
        "reserve",
        *["charge"] * 3,
        "reserve#compensate",
    ]
    assert len({entry.pid for entry in shop.ledger(poison, "charge")}) == 3
    for run in others:
        run.result(timeout=30)
        assert len(shop.ledger(run, event="end")) == 3
    assert worker.is_running

"""Messages that a busy worker has taken before it can follow them (P2)."""

import pytest

from tests.brokers.shop import Shop
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("shop", ["redis", "rabbitmq"], indirect=True)


def test_runs_behind_a_long_step_are_taken_by_another_worker(shop: Shop) -> None:
    """Recovery takes their hints for lost, and sends others."""
    busy = shop.worker(concurrency=1, options=["--prefetch-multiplier", "4"])
    long = shop.start(charge="hold")
    shop.wait_for(long, "charge")
    behind = [shop.start() for _ in range(3)]
    wait_until(
        lambda: busy.logs().count("received") == 4, message="the worker to prefetch three more"
    )
    assert shop.broker.size(shop.broker.queue()) == 0
    shop.worker(concurrency=1)
    shop.let_pass("10 minutes")
    for run in behind:
        run.result(timeout=30)
    theirs = {entry.pid for run in behind for entry in shop.ledger(run)}
    assert theirs.isdisjoint(busy.children())

    shop.finish(long, timeout=30)
    wait_until(
        lambda: busy.logs().count("succeeded") == busy.logs().count("received"),
        message="the worker to follow what it had prefetched",
    )
    assert [len(shop.ledger(run)) for run in (long, *behind)] == [6] * 4

"""Several brokers in one setting, and the first of them is away."""

import pytest

from tests.brokers.shop import Shop, on_redis


@on_redis
@pytest.mark.usefixtures("shift")
def test_a_worker_whose_first_broker_is_away_does_its_runs(shop: Shop) -> None:
    """P2: its consumer and its relay both find the second."""
    urls = f"redis://127.0.0.1:1/0;{shop.broker.url}"
    shop.worker(concurrency=1, env={"CELERY_BROKER_URL": urls})
    run = shop.start()
    run.result(timeout=30)
    assert len(shop.ledger(run)) == 6

"""The shop under pytest-celery's own `celery_setup`, with our processes as its nodes."""

from collections.abc import Iterator

import pytest
from pytest_celery import CeleryBrokerCluster, CeleryTestSetup, CeleryWorkerCluster

from tests.brokers.shop import Shop, on_redis

pytestmark = on_redis


@pytest.fixture
def celery_broker_cluster(shop: Shop) -> CeleryBrokerCluster:
    if shop.broker.node is None:
        pytest.skip("a Redis given as REDIS_URL is not ours to hand over")
    return CeleryBrokerCluster(shop.broker.node)


@pytest.fixture
def celery_backend_cluster() -> None:
    """Durable runs need no result backend."""


@pytest.fixture
def celery_worker_cluster(shop: Shop) -> Iterator[CeleryWorkerCluster]:
    worker = shop.worker()
    yield CeleryWorkerCluster(worker)
    worker.kill()


@pytest.fixture
def celery_setup_app(shop: Shop) -> object:
    return shop.app


def test_a_run_completes_and_survives_a_restart_in_a_celery_setup(
    shop: Shop, celery_setup: CeleryTestSetup
) -> None:
    assert celery_setup.ready(control=True, docker=True)
    held = shop.start(charge="hold")
    shop.wait_for(held, "charge")
    celery_setup.worker.kill("SIGKILL")
    celery_setup.worker.restart()
    celery_setup.worker.assert_log_exists("Task order.charge[")
    shop.wait_for(held, "charge", times=2)
    shop.finish(held, timeout=30)
    assert len(held.history()) == 3

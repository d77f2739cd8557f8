"""A worker that cannot do its work says why and exits (P12)."""

import pytest

from tests.apps.shop import CONFIG
from tests.brokers.shop import SHOP, Shop, on_redis

pytestmark = on_redis


def refused(shop: Shop, config: str = "", pool: str = "prefork", **env: str) -> str:
    """The log of a worker that exits by itself, with an exit code that says so."""
    worker = shop.worker(pool=pool, concurrency=1, env={CONFIG: config, **env}, ready=False)
    code = worker.wait_for_exit()
    assert code != 0, worker.logs()
    log: str = worker.logs()
    assert "ready." not in log
    assert "Traceback" not in log, "it is nobody's bug"
    return log


def test_a_missing_schema(shop: Shop, empty_database_url: str) -> None:
    log = refused(shop, DURABLE_DATABASE_URL=empty_database_url)
    assert "The durable schema in 'public' does not exist" in log
    assert "durable migrate" in log
    loud = [line for line in log.splitlines() if "CRITICAL" in line or "ERROR" in line]
    assert len(loud) == 1, log


def test_an_unknown_setting(shop: Shop) -> None:
    log = refused(shop, '{"durable_quue": "x"}')
    assert "Unknown setting 'durable_quue'. Did you mean 'durable_queue'?" in log


def test_a_setting_of_the_wrong_type(shop: Shop) -> None:
    log = refused(shop, '{"durable_worker_ttl": "soon"}')
    assert "durable_worker_ttl takes a number of seconds above 0, not 'soon'" in log


def test_tasks_that_run_in_their_caller(shop: Shop) -> None:
    assert "task_always_eager" in refused(shop, '{"task_always_eager": true}')


def test_the_eventlet_pool(shop: Shop) -> None:
    pytest.importorskip("eventlet")
    assert "do not run on the eventlet pool" in refused(shop, pool="eventlet")


def test_a_command_says_it_without_a_traceback(shop: Shop) -> None:
    done = shop.cluster.celery(SHOP, "durable", "list", env={CONFIG: '{"durable_quue": "x"}'})
    assert done.returncode != 0
    assert "Unknown setting 'durable_quue'" in done.stderr
    assert "Traceback" not in done.stderr

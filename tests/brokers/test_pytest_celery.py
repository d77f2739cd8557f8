"""pytest-celery's setup, workers and broker as local processes, beside Celery's own fixtures.

Nothing here needs the library under test: this shows that the ground holds on which the tests of
crashes stand. The fixtures that pytest-celery fills with Docker containers hold nodes of ours.
"""

import os
import signal
from collections.abc import Iterator, Mapping

import pytest
from celery import Celery
from celery.contrib.testing.worker import TestWorkController
from pytest_celery import CeleryBrokerCluster, CeleryTestSetup, CeleryWorkerCluster

from tests.cluster import Cluster, RedisNode, WorkerNode
from tests.cluster.process import is_alive
from tests.services import RedisServer, own_redis, unique
from tests.transports import RedisBroker
from tests.waiting import wait_until

PLAIN = "tests.apps.plain:app"


@pytest.fixture(scope="module")
def redis_node(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisNode]:
    """A Redis that these tests may restart."""
    if redis_server.node is not None:
        yield redis_server.node
        return
    with own_redis(tmp_path_factory.mktemp("redis")) as node:
        yield node


@pytest.fixture(scope="module")
def plain_broker(redis_node: RedisNode) -> Iterator[RedisBroker]:
    broker = RedisBroker(redis_node.url, redis_node)
    yield broker
    broker.close()


@pytest.fixture(scope="module")
def plain_cluster(
    plain_broker: RedisBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """One worker of the plain app for all tests of this module."""
    with Cluster(
        tmp_path_factory.mktemp("plain"), plain_broker.env(), plain_broker.node
    ) as cluster:
        cluster.worker(PLAIN)
        yield cluster


@pytest.fixture
def celery_broker_cluster(redis_node: RedisNode) -> CeleryBrokerCluster:
    return CeleryBrokerCluster(redis_node)


@pytest.fixture
def celery_backend_cluster() -> None:
    """No result backend."""


@pytest.fixture
def celery_worker_cluster(plain_cluster: Cluster) -> CeleryWorkerCluster:
    """The same worker for each test, started again if the last one left it dead."""
    for node in plain_cluster.nodes:
        if isinstance(node, WorkerNode) and not node.is_running:
            node.start()
    return plain_cluster.workers


@pytest.fixture
def celery_setup_app(celery_setup_app: Celery, plain_broker: RedisBroker) -> Celery:
    """The app that pytest-celery makes, looking where the workers look."""
    return plain_broker.configure(celery_setup_app)


@pytest.fixture
def worker(celery_setup: CeleryTestSetup) -> WorkerNode:
    node = celery_setup.worker
    assert isinstance(node, WorkerNode)
    return node


def greet(setup: CeleryTestSetup) -> str:
    """Send a task; return what the worker will log when it runs."""
    name = unique("test")
    setup.app.send_task("plain.greet", [name])
    return f"hello {name}"


def test_a_setup_of_local_processes_is_ready_and_answers(
    celery_setup: CeleryTestSetup, worker: WorkerNode
) -> None:
    assert celery_setup.ready(control=True, docker=True)
    assert len(celery_setup) == 2
    replies = celery_setup.app.control.ping(destination=[worker.hostname()], timeout=20, limit=1)
    assert replies == [{worker.hostname(): {"ok": "pong"}}]


def test_a_task_that_is_sent_runs(celery_setup: CeleryTestSetup, worker: WorkerNode) -> None:
    worker.assert_log_exists(greet(celery_setup))


def test_the_processes_of_a_worker_are_its_main_process_and_its_children(
    worker: WorkerNode,
) -> None:
    found = {row["pid"] for row in worker.get_running_processes_info(["pid", "name"])}
    assert {worker.pid, *worker.children()} == found
    assert len(worker.children()) == 2


def test_a_killed_child_is_replaced(celery_setup: CeleryTestSetup, worker: WorkerNode) -> None:
    victim, *_ = worker.children()
    os.kill(victim, signal.SIGKILL)
    wait_until(
        lambda: len(worker.children()) == 2 and victim not in worker.children(),
        message="a new child",
    )
    worker.assert_log_exists(greet(celery_setup))


def test_a_killed_worker_leaves_no_process_and_restarts(
    celery_setup: CeleryTestSetup, worker: WorkerNode
) -> None:
    before = {worker.pid, *worker.children()}
    worker.kill("SIGKILL")
    assert worker.wait_for_exit() == -signal.SIGKILL
    wait_until(
        lambda: not any(map(is_alive, before)), message="the children to die with their worker"
    )
    worker.restart()
    assert worker.pid not in before
    worker.assert_log_exists(greet(celery_setup))


def test_a_stopped_worker_ends_its_work_and_exits_cleanly(
    celery_setup: CeleryTestSetup, worker: WorkerNode
) -> None:
    assert worker.stop() == 0
    assert "Warm shutdown" in worker.logs()
    expected = greet(celery_setup)
    worker.start()
    worker.assert_log_exists(expected)


def test_a_restarted_broker_has_lost_its_messages_and_the_worker_returns(
    celery_setup: CeleryTestSetup, worker: WorkerNode, plain_broker: RedisBroker
) -> None:
    worker.stop()
    greet(celery_setup)
    assert plain_broker.size(plain_broker.queue()) == 1
    celery_setup.broker.restart()
    assert plain_broker.size(plain_broker.queue()) == 0
    worker.start()
    celery_setup.broker.kill()
    worker.wait_for_log("Connection to broker lost")
    celery_setup.broker.restart()
    worker.assert_log_exists(greet(celery_setup), timeout=60)


def test_beat_and_celery_commands_run_as_local_processes(
    plain_cluster: Cluster, worker: WorkerNode
) -> None:
    beat = plain_cluster.beat(PLAIN)
    worker.wait_for_log("hello beat")
    beat.stop()
    done = plain_cluster.celery(
        PLAIN, "inspect", "ping", "-d", worker.hostname(), "--timeout", "20"
    )
    assert (done.returncode, "pong" in done.stdout) == (0, True), done.stderr


@pytest.fixture(scope="session")
def celery_config() -> Mapping[str, object]:
    """For Celery's own fixtures: everything inside this process."""
    return {
        "broker_url": "memory://",
        "broker_transport_options": {"polling_interval": 0.01},
        "result_backend": "cache+memory://",
    }


@pytest.fixture(scope="session")
def celery_includes() -> tuple[str, ...]:
    return ("celery.contrib.testing.tasks",)


def test_celery_s_own_app_fixture_works(celery_app: Celery) -> None:
    @celery_app.task
    def double(number: int) -> int:
        return 2 * number

    celery_app.conf.task_always_eager = True
    assert double.delay(21).get(timeout=20) == 42


def test_celery_s_own_session_worker_works(
    celery_session_app: Celery, celery_session_worker: TestWorkController
) -> None:
    assert celery_session_worker.app is celery_session_app
    pong = celery_session_app.send_task("celery.ping")
    assert pong.get(timeout=20, disable_sync_subtasks=False) == "pong"

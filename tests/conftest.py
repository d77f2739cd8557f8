"""Fixtures for all tests. What they hand out is described where it is made:

postgres, empty_database_url, database_url    `tests.services`
redis_server, rabbitmq                        `tests.services`
broker                                        `tests.transports`
cluster                                       `tests.cluster`
"""

import gc
import logging
import os
import shutil
import signal
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from pluggy import Result

from celery_durable.errors import ConfigurationError
from tests import forms, services
from tests.cluster import Cluster
from tests.cluster.rabbitmq import RabbitMQServer, rabbitmq_server, running_rabbitmq
from tests.services import PostgresServer, RedisServer
from tests.transports import Broker, PgmqBroker, RabbitMQBroker, RedisBroker, pgmq_in

LOG_TAIL_LINES = 60
LONG_FORM_SECONDS = 900
XDIST_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-services",
        action="store_true",
        help="fail, instead of skip, a test whose service (Postgres, Redis, RabbitMQ) is missing",
    )
    parser.addoption(
        "--long",
        action="store_true",
        help="the long forms of tests that repeat something (`tests.forms`)",
    )
    parser.addoption(
        "--screenshots",
        action="store_true",
        help="tests/browser: write the pictures of docs/images anew",
    )
    parser.addoption(
        "--model-longer",
        action="store_true",
        help="tests/model: more crashes, duplicates and losses at once, and more random workflows",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--long"):
        os.environ[forms.LONG] = "1"
    # What a shell starts in the background ignores SIGINT, and so would what the tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What has been imported and collected stays: the garbage collector need not look at it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long forms have a time limit too."""
    if config.getoption("--model-longer") or forms.is_long():
        for item in items:
            item.add_marker(pytest.mark.timeout(LONG_FORM_SECONDS), append=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, Result[pytest.TestReport], None]:
    """Show the logs of the processes of a failed test: of its cluster, or of its shop's."""
    report = (yield).get_result()
    fixtures = getattr(item, "funcargs", {})
    cluster = fixtures.get("cluster") or getattr(fixtures.get("shop"), "cluster", None)
    if report.failed and isinstance(cluster, Cluster):
        for node in cluster.nodes:
            tail = node.logs().splitlines()[-LOG_TAIL_LINES:]
            report.sections.append((f"log of {node.name()}", "\n".join(tail)))


@pytest.fixture(autouse=True)
def logging_is_left_as_it_was() -> Iterator[None]:
    """A command of Celery's that runs in the process of the tests sets logging up as it likes."""
    root = logging.getLogger()
    ours = logging.getLogger("celery_durable")
    before = root.level, [*root.handlers], ours.level
    ours.setLevel(logging.INFO)
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    ours.setLevel(before[2])


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A Postgres server: ``DATABASE_URL``, else an embedded one."""
    with ExitStack() as stack:
        if url := os.environ.get("DATABASE_URL"):
            server = PostgresServer(url)
        else:
            try:
                server = stack.enter_context(services.embedded_postgres())
            except ConfigurationError as error:
                services.missing(request.config, "Postgres", f"set DATABASE_URL, or: {error}")
        yield server


@pytest.fixture(scope="session")
def template_database(postgres: PostgresServer) -> Iterator[str]:
    """The name of a migrated database that tests copy and never connect to."""
    if shared := os.environ.get(services.TEMPLATE):
        yield shared
        return
    with postgres.migrated(f"durable_test_template_{XDIST_WORKER}") as name:
        yield name


@pytest.fixture
def database_url(postgres: PostgresServer, template_database: str) -> Iterator[str]:
    """The SQLAlchemy URL of a database of this test's own, migrated and empty."""
    with postgres.database(f"durable_test_{XDIST_WORKER}", template_database) as name:
        yield postgres.url(name)


@pytest.fixture
def empty_database_url(postgres: PostgresServer) -> Iterator[str]:
    """The same without the library's schema."""
    with postgres.database(f"durable_test_{XDIST_WORKER}") as name:
        yield postgres.url(name)


@pytest.fixture(scope="session")
def redis_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """The URL in ``REDIS_URL``, else a redis-server of our own: a node that tests may kill."""
    if url := os.environ.get("REDIS_URL"):
        yield RedisServer(url)
        return
    if shutil.which("redis-server") is None:
        services.missing(request.config, "Redis", "install redis-server, or set REDIS_URL")
    with services.own_redis(tmp_path_factory.mktemp("redis")) as node:
        yield RedisServer(node.url, node)


@pytest.fixture(scope="session")
def rabbitmq(request: pytest.FixtureRequest) -> str:
    """The URL of a RabbitMQ server."""
    remedy = f"start one at {services.RABBITMQ_DEFAULT}, or set AMQP_URL"
    return services.rabbitmq_url() or services.missing(request.config, "RabbitMQ", remedy)


@pytest.fixture(scope="session")
def own_rabbitmq(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RabbitMQServer]:
    """A RabbitMQ server that tests may kill and empty; they leave it running."""
    command = rabbitmq_server()
    if command is None:
        services.missing(request.config, "RabbitMQ", "install rabbitmq-server")
    ports = services.free_port(), services.free_port()
    with running_rabbitmq(command, tmp_path_factory.mktemp("rabbitmq"), *ports) as server:
        yield server


@pytest.fixture
def redis_broker(redis_server: RedisServer) -> Iterator[RedisBroker]:
    with closing(RedisBroker(redis_server.url, redis_server.node)) as broker:
        yield broker


@pytest.fixture
def rabbitmq_broker(rabbitmq: str) -> Iterator[RabbitMQBroker]:
    with closing(RabbitMQBroker(rabbitmq)) as broker:
        yield broker


@pytest.fixture
def pgmq_broker(database_url: str) -> PgmqBroker:
    return pgmq_in(database_url)


@pytest.fixture(params=["redis", "rabbitmq", "pgmq"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Each broker in turn. A test of one broker asks for `redis_broker` and the like instead, or
    narrows this one: ``@pytest.mark.parametrize("broker", ["redis"], indirect=True)``."""
    chosen: Broker = request.getfixturevalue(f"{request.param}_broker")
    return chosen


@pytest.fixture
def cluster(broker: Broker, database_url: str, tmp_path: Path) -> Iterator[Cluster]:
    """Worker processes on the broker and the database of the test; all are gone after it."""
    env = {**broker.env(), "DURABLE_DATABASE_URL": database_url}
    with Cluster(tmp_path, env, broker.node) as started:
        yield started

"""One `Shop` for a module of tests, on each broker in turn.

A module of one broker narrows it: ``pytest.mark.parametrize("shop", ["redis"], indirect=True)``;
``own_rabbitmq`` is a RabbitMQ that may be broken.
Tests of a module share its database, its queues and the workers that a fixture of the module
starts, and know their own runs apart by their ids; with `shift` each test has its own workers.
Where a module names ``PAYMENTS``, the step `charge` has a queue of that role.
"""

from collections.abc import Generator, Iterator
from contextlib import closing

import pytest
from pluggy import Result

from tests.apps.shop import PAYMENTS_QUEUE
from tests.brokers.shop import Shop
from tests.cluster import Cluster, RedisNode
from tests.cluster.rabbitmq import RabbitMQServer
from tests.services import PostgresServer
from tests.transports import Broker, RabbitMQBroker, RedisBroker, pgmq_in

LOG_TAIL_LINES = 80


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, Result[pytest.TestReport], None]:
    """Show the logs of the shop's processes when a test fails."""
    report = (yield).get_result()
    shop = getattr(item, "funcargs", {}).get("shop")
    if report.failed and isinstance(shop, Shop):
        for node in shop.cluster.nodes:
            tail = node.logs().splitlines()[-LOG_TAIL_LINES:]
            report.sections.append((f"log of {node.name()}", "\n".join(tail)))


@pytest.fixture(scope="module", params=["redis", "rabbitmq", "pgmq"])
def shop(
    request: pytest.FixtureRequest,
    postgres: PostgresServer,
    template_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shop]:
    with postgres.database("durable_test_shop", template_database) as name:
        url = postgres.url(name)
        with closing(broker_called(request.param, url, request)) as broker:
            payments = getattr(request.module, "PAYMENTS", "durable")
            env = {
                **broker.env(),
                "DURABLE_DATABASE_URL": url,
                PAYMENTS_QUEUE: broker.queue(payments),
            }
            directory = tmp_path_factory.mktemp(request.param)
            with (
                Cluster(directory, env, broker.node) as cluster,
                closing(Shop(broker, url, cluster)) as opened,
            ):
                yield opened


def broker_called(name: str, database_url: str, request: pytest.FixtureRequest) -> Broker:
    match name:
        case "redis":
            server: RedisNode | str = request.getfixturevalue("redis_server")
            if isinstance(server, str):
                return RedisBroker(server)
            return RedisBroker(server.url, server)
        case "rabbitmq":
            return RabbitMQBroker(request.getfixturevalue("rabbitmq"))
        case "own_rabbitmq":
            own: RabbitMQServer = request.getfixturevalue("own_rabbitmq")
            return RabbitMQBroker(own.url, own)
        case _:
            return pgmq_in(database_url)


@pytest.fixture
def shift(shop: Shop) -> Iterator[None]:
    """Ends the workers that a test has started; what it left undone is not done by later ones."""
    before = len(shop.cluster.nodes)
    yield
    for node in shop.cluster.nodes[before:]:
        node.teardown()
    shop.query("DELETE FROM durable_token")
    shop.query("DELETE FROM durable_worker")

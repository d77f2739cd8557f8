"""One `Shop` for a module of tests, on each broker in turn.

A module of one broker narrows it: ``pytest.mark.parametrize("shop", ["redis"], indirect=True)``;
``own_rabbitmq`` is a RabbitMQ that may be broken.
Tests of a module share its database, its queues and the workers that a fixture of the module
starts, and know their own runs apart by their ids; with `shift` each test has its own workers.
Where a module names ``PAYMENTS``, the step `charge` has a queue of that role.
"""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.brokers.shop import Shop, open_shop
from tests.cluster.rabbitmq import RabbitMQServer
from tests.services import PostgresServer, RedisServer, unique
from tests.transports import Broker, RabbitMQBroker, RedisBroker, pgmq_in


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
            with open_shop(broker, url, tmp_path_factory.mktemp(request.param), payments) as shop:
                yield shop


def broker_called(name: str, database_url: str, request: pytest.FixtureRequest) -> Broker:
    match name:
        case "redis":
            redis: RedisServer = request.getfixturevalue("redis_server")
            return RedisBroker(redis.url, redis.node)
        case "rabbitmq":
            return RabbitMQBroker(request.getfixturevalue("rabbitmq"))
        case "own_rabbitmq":
            own: RabbitMQServer = request.getfixturevalue("own_rabbitmq")
            return RabbitMQBroker(own.url, own)
        case _:
            return pgmq_in(database_url)


@pytest.fixture
def role(shop: Shop) -> Iterator[str]:
    """A role of this test's own, which may do everything, and may be shut out."""
    name = unique("durable_test_role")
    shop.query(f"CREATE ROLE {name} SUPERUSER LOGIN")
    yield name
    shop.query(f"DROP ROLE {name}")


@pytest.fixture
def shift(shop: Shop) -> Iterator[None]:
    """Ends the workers that a test has started; what it left undone is not done by later ones."""
    before = len(shop.cluster.nodes)
    yield
    for node in shop.cluster.nodes[before:]:
        node.teardown()
    shop.query("DELETE FROM durable_token")
    shop.query("DELETE FROM durable_worker")
    shop.query("DELETE FROM durable_relay")

"""The relay on a real RabbitMQ: what no queue takes, and a broker that does not answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest

from celery_durable.errors import BrokerUnavailable
from celery_durable.worker import brokers
from tests.cluster.rabbitmq import RabbitMQServer
from tests.integration.driving import World, all_at_once, defining, spawn
from tests.integration.relaying import Relays, drain, worker_on
from tests.transports import RabbitMQBroker


@pytest.fixture
def own_broker(own_rabbitmq: RabbitMQServer) -> Iterator[RabbitMQBroker]:
    with closing(RabbitMQBroker(own_rabbitmq.url, own_rabbitmq)) as broker:
        yield broker


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brokers, "CONFIRM_TIMEOUT", 0.5)


def test_messages_whose_queue_was_deleted_are_not_lost(
    world: World, relays: Relays, rabbitmq_broker: RabbitMQBroker
) -> None:
    """P2: RabbitMQ confirms what it drops, and kombu believes that the queue is there."""
    durable, queue = worker_on(rabbitmq_broker, world, defining([], "a")), rabbitmq_broker.queue()
    one = relays.of(durable)
    durable.start("w", {})
    drain(one)
    with rabbitmq_broker.connection() as connection:
        connection.default_channel.queue_delete(queue)
    durable.start_many("w", [{}] * 5)
    drain(one)
    assert world.hints() == 0
    assert rabbitmq_broker.size(queue) == 5


def test_a_message_that_no_queue_takes_is_kept_and_the_others_go(
    world: World, relays: Relays, rabbitmq_broker: RabbitMQBroker
) -> None:
    """P2: an ordinary task of the user's too."""
    durable = worker_on(rabbitmq_broker, world, defining([], "a"))
    durable.start_many("w", [{}] * 3)
    nowhere = json.dumps({"exchange": "amq.direct", "routing_key": "nobody"})
    world.rows(
        "UPDATE durable_outbox SET options = %s WHERE id = (SELECT min(id) FROM durable_outbox)",
        nowhere,
    )
    drain(relays.of(durable))
    (row,) = world.rows("SELECT tries, last_error FROM durable_outbox")
    assert row["tries"] == 1
    assert "no queue takes it" in row["last_error"]
    assert rabbitmq_broker.size(rabbitmq_broker.queue()) == 2


def test_five_relays_at_once_publish_each_row_once(
    world: World, relays: Relays, rabbitmq_broker: RabbitMQBroker
) -> None:
    durable = worker_on(rabbitmq_broker, world, defining([], "a"))
    durable.start_many("w", [{}] * 1000)
    made = [relays.of(durable) for _ in range(5)]
    all_at_once([partial(drain, one) for one in made])
    assert world.hints() == 0
    assert rabbitmq_broker.size(rabbitmq_broker.queue()) == 1000


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("what", ["a confirm", "a declaration", "a connection"])
def test_a_broker_that_stops_answering_is_given_up_and_the_rows_stay(
    what: str, world: World, relays: Relays, own_broker: RabbitMQBroker
) -> None:
    """P2: for whatever it is that the relay waits."""
    durable = worker_on(own_broker, world, defining([], "a"))
    durable.app.conf.broker_connection_timeout = 0.5
    one = relays.of(durable)
    if what != "a connection":
        durable.start("w", {})
        drain(one)
    durable.start("w", {})
    if what == "a declaration":
        options = json.dumps({"queue": own_broker.queue("other")})
        world.rows("UPDATE durable_outbox SET options = %s", options)
    own_broker.pause()
    try:
        tried = spawn(drain, one)
        with pytest.raises(BrokerUnavailable):
            tried.result(20)
        spawn(one._publisher.close).result(20)
        assert world.hints() == 1
    finally:
        own_broker.go_on()
    drain(one)
    assert world.hints() == 0

"""The relay on a real RabbitMQ: what no queue takes, and a broker that does not answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from urllib.parse import urlsplit, urlunsplit

import pytest

from celery_durable.errors import BrokerUnavailable
from celery_durable.worker import brokers
from tests.cluster.rabbitmq import RabbitMQServer
from tests.faults.cutting import CuttingProxy
from tests.integration.driving import World, all_at_once, defining, spawn
from tests.integration.relaying import Relays, drain, publishes, taken_from, worker_on
from tests.transports import RabbitMQBroker
from tests.waiting import wait_until


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


def spoil(world: World, queue: str) -> int:
    """Give a row in the middle headers that are longer than a frame; return its id."""
    ids = [row["id"] for row in world.rows("SELECT id FROM durable_outbox ORDER BY id")]
    spoilt: int = ids[len(ids) // 2]
    options = json.dumps({"queue": queue, "headers": {"x": "a" * 300_000}})
    world.rows("UPDATE durable_outbox SET options = %s WHERE id = %s", options, spoilt)
    return spoilt


def test_a_row_that_costs_each_connection_is_set_aside_and_the_others_go(
    world: World, relays: Relays, rabbitmq_broker: RabbitMQBroker
) -> None:
    """P2: no message is refused at the call that has such options; somebody has written the row."""
    durable, queue = worker_on(rabbitmq_broker, world, defining([], "a")), rabbitmq_broker.queue()
    durable.start_many("w", [{}] * 5)
    spoilt = spoil(world, queue)
    one = relays.of(durable)
    drain(one)
    (row,) = world.rows("SELECT id, tries, last_error FROM durable_outbox")
    assert (row["id"], row["tries"]) == (spoilt, 1)
    assert "the broker ends the connection for it" in row["last_error"]
    published = {message["args"][0] for message in taken_from(rabbitmq_broker, queue)}
    assert len(published) == 4
    world.let_time_pass(3600)
    durable.start_many("w", [{}] * 5)
    drain(one)
    (row,) = world.rows("SELECT tries FROM durable_outbox")
    assert row["tries"] == 2
    assert rabbitmq_broker.size(queue) == 5, "it is alone now, and costs the others nothing"


@pytest.mark.usefixtures("impatient")
def test_a_broker_that_goes_away_while_it_publishes_blames_no_row(
    world: World, relays: Relays, own_broker: RabbitMQBroker
) -> None:
    """P2"""
    durable = worker_on(own_broker, world, defining([], "a"))
    durable.app.conf.broker_connection_timeout = 0.5
    one = relays.of(durable)
    durable.start_many("w", [{}] * 5)
    one._publisher.connect()
    own_broker.stop()
    with pytest.raises(BrokerUnavailable):
        spawn(drain, one).result(30)
    assert world.rows("SELECT tries FROM durable_outbox") == [{"tries": 0}] * 5
    own_broker.start()
    wait_until(lambda: publishes(one), message="the relay to find the broker again")
    drain(one)
    assert world.hints() == 0


@pytest.mark.parametrize("lost", ["what is published", "the row"])
def test_a_way_to_the_broker_that_breaks_at_every_message_blames_no_row(
    lost: str, world: World, relays: Relays, rabbitmq_broker: RabbitMQBroker
) -> None:
    """P2: connections can be made; and each is lost as soon as something is published.

    In the second case only messages of rows are cut, and then the broker is gone.
    """
    address = urlsplit(rabbitmq_broker.url)
    durable = worker_on(rabbitmq_broker, world, defining([], "a"))
    door = threading.Event()

    def is_cut(data: bytes) -> bool:
        if lost == "the row":
            is_of_row = rabbitmq_broker.queue().encode() in data and BASIC_PUBLISH in data
            if is_of_row:
                door.set()
            return is_of_row or door.is_set()
        return BASIC_PUBLISH in data

    with closing(CuttingProxy(str(address.hostname), address.port or 5672, is_cut)) as proxy:
        url = address._replace(netloc=f"{address.username}:{address.password}@{proxy.place}")
        durable.app.conf.broker_url = urlunsplit(url)
        durable.start_many("w", [{}] * 3)
        with pytest.raises(BrokerUnavailable):
            drain(relays.of(durable))
        assert proxy.cuts >= 2
    assert world.rows("SELECT tries FROM durable_outbox") == [{"tries": 0}] * 3


BASIC_PUBLISH = b"\x00\x3c\x00\x28"
"""Class and method of AMQP's basic.publish."""

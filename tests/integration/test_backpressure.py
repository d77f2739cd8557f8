"""A broker that takes no more: of one queue, of all, for now or for ever."""

from __future__ import annotations

import json
import logging

import pytest
from kombu import Exchange, Queue
from redis import Redis

from celery_durable import Durable
from celery_durable.errors import BrokerUnavailable
from celery_durable.worker import brokers
from celery_durable.worker.publisher import KombuPublisher
from tests.cluster.rabbitmq import RabbitMQServer
from tests.integration.driving import World, noting
from tests.integration.relaying import Relays, drain, publishes, worker_on
from tests.transports import Broker, RabbitMQBroker, RedisBroker
from tests.waiting import wait_until

ROOM = 3
"""Messages that the small queue takes."""

REJECTS = {"x-overflow": "reject-publish", "x-max-length": ROOM}


def wide_and_narrow(broker: Broker, world: World) -> Durable:
    """The steps of `wide` go to the queue of the test, those of `narrow` to another."""

    def define(durable: Durable) -> None:
        durable.workflow("wide").step(noting([], "a"))
        durable.workflow("narrow").step(noting([], "a"), queue=broker.queue("narrow"))

    return worker_on(broker, world, define, relay_batch=8, poll_interval=0.05)


def declare(
    broker: Broker, queue: str, arguments: dict[str, object], durable: Durable | None = None
) -> None:
    """Make the queue; `durable`'s app knows that it is so."""
    if durable is not None:
        named = [Queue(queue, Exchange(queue), queue, queue_arguments=arguments)]
        durable.app.conf.task_queues = named
    with broker.connection() as connection:
        channel = connection.default_channel
        channel.exchange_declare(queue, "direct", durable=True, auto_delete=False)
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)
        channel.queue_bind(queue, queue, queue)


def take_one(broker: Broker, queue: str) -> int:
    """As a worker does; how many messages there were."""
    with broker.connection() as connection:
        return 0 if connection.default_channel.basic_get(queue, no_ack=True) is None else 1


def said(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in message for message in caplog.messages)


KINDS: dict[str, dict[str, object]] = {
    "classic": REJECTS,
    "quorum": {**REJECTS, "x-queue-type": "quorum", "x-max-length": ROOM},
    "by bytes": {"x-overflow": "reject-publish", "x-max-length-bytes": 200 * ROOM},
}
"""Each is full long before the 20 messages of the test are in it."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_queue_is_fed_as_it_drains_and_holds_up_no_other(
    kind: str,
    world: World,
    relays: Relays,
    rabbitmq_broker: RabbitMQBroker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """P2: no row is to blame, and there is a line at each end."""
    durable, narrow = wide_and_narrow(rabbitmq_broker, world), rabbitmq_broker.queue("narrow")
    declare(rabbitmq_broker, narrow, KINDS[kind], durable)
    durable.start_many("narrow", [{}] * 20)
    durable.start_many("wide", [{}] * 5)
    with caplog.at_level(logging.INFO, logger="celery_durable"):
        relays.run(durable, KombuPublisher(durable.app))
        wait_until(
            lambda: rabbitmq_broker.size(rabbitmq_broker.queue()) == 5,
            message="the messages of the other queue",
        )
        wait_until(lambda: said(caplog, "takes no more for now"), message="the queue to be full")
        taken = 0

        def take_all() -> bool:
            nonlocal taken
            taken += take_one(rabbitmq_broker, narrow)
            return taken >= 20

        wait_until(take_all, message=lambda: f"20 messages, not {taken}")
        wait_until(lambda: world.hints() == 0, message="the rows to go")
        wait_until(lambda: said(caplog, "takes messages again"), message="the end of it")
    assert said(caplog, "takes no more for now") == said(caplog, "takes messages again") == 1
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_rows_of_a_full_queue_stay_as_they_are_and_bad_ones_record_their_error(
    world: World, relays: Relays, rabbitmq_broker: RabbitMQBroker
) -> None:
    durable, narrow = wide_and_narrow(rabbitmq_broker, world), rabbitmq_broker.queue("narrow")
    declare(rabbitmq_broker, narrow, {**REJECTS, "x-max-length": 0}, durable)
    durable.start("narrow", {})
    (bad,) = durable.start_many("wide", [{}])
    options = json.dumps({"queue": rabbitmq_broker.queue(), "priority": "high"})
    world.rows("UPDATE durable_outbox SET options = %s WHERE run_id = %s", options, bad.id)
    drain(relays.of(durable))
    rows = world.rows("SELECT run_id = %s AS bad, tries, last_error FROM durable_outbox", bad.id)
    found = {row["bad"]: (row["tries"], bool(row["last_error"])) for row in rows}
    assert found == {True: (1, True), False: (0, False)}


def test_a_queue_that_refuses_for_ever_costs_one_try_at_a_time(
    world: World, relays: Relays, rabbitmq_broker: RabbitMQBroker
) -> None:
    """The first row records the error; the others wait, and those of other queues go."""
    durable, narrow = wide_and_narrow(rabbitmq_broker, world), rabbitmq_broker.queue("narrow")
    declare(rabbitmq_broker, narrow, {"x-max-priority": 3})
    durable.start_many("narrow", [{}] * 20)
    durable.start_many("wide", [{}] * 20)
    drain(relays.of(durable))
    assert rabbitmq_broker.size(rabbitmq_broker.queue()) == 20
    tried = world.rows("SELECT last_error FROM durable_outbox WHERE tries > 0")
    assert 1 <= len(tried) <= 3, "each 50 ms and then less often"
    assert "PRECONDITION_FAILED" in tried[0]["last_error"]


def test_a_broker_that_is_short_of_memory_gets_each_message_once(
    world: World,
    relays: Relays,
    own_rabbitmq: RabbitMQServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """P2: what it was given before it said so, it has."""
    broker = RabbitMQBroker(own_rabbitmq.url, own_rabbitmq)
    durable = wide_and_narrow(broker, world)
    one = relays.of(durable)
    own_rabbitmq.run_short_of_memory()
    try:
        durable.start_many("wide", [{}] * 20)
        for _ in range(3):
            with pytest.raises(BrokerUnavailable, match="short of memory or disk"):
                drain(one)
        assert world.hints() == 20
    finally:
        own_rabbitmq.has_memory_again()
    wait_until(lambda: publishes(one), message="the broker to take messages again")
    drain(one)
    assert world.hints() == 0
    assert broker.size(broker.queue()) == 20
    assert world.one("SELECT count(*) FROM durable_outbox WHERE tries > 0") == 0
    broker.close()


def test_a_queue_that_confirms_nothing_holds_up_no_other(
    world: World,
    relays: Relays,
    own_rabbitmq: RabbitMQServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P2: the broker answers, so it is not away."""
    monkeypatch.setattr(brokers, "CONFIRM_TIMEOUT", 0.5)
    broker = RabbitMQBroker(own_rabbitmq.url, own_rabbitmq)
    durable = wide_and_narrow(broker, world)
    one = relays.of(durable)
    durable.start("narrow", {})
    drain(one)
    own_rabbitmq.hold_up_queue(broker.queue("narrow"))
    durable.start_many("narrow", [{}] * 20)
    durable.start_many("wide", [{}] * 20)
    drain(one)
    assert broker.size(broker.queue()) == 20
    assert world.one("SELECT count(*) FROM durable_outbox WHERE tries = 0") == 20


FULL = {
    "out of memory": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    "without its replicas": (
        ("CONFIG", "SET", "min-replicas-to-write", "1"),
        ("CONFIG", "SET", "min-replicas-to-write", "0"),
    ),
    "a replica": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
}


@pytest.mark.parametrize("state", FULL)
def test_a_redis_that_takes_nothing_is_away_and_no_row_is_to_blame(
    state: str, world: World, relays: Relays, redis_broker: RedisBroker
) -> None:
    durable = wide_and_narrow(redis_broker, world)
    one = relays.of(durable)
    begin, end = FULL[state]
    durable.start_many("wide", [{}] * 3)
    with Redis.from_url(redis_broker.url) as client:
        client.execute_command(*begin)
        try:
            with pytest.raises(BrokerUnavailable):
                drain(one)
        finally:
            client.execute_command(*end)
    assert world.one("SELECT max(tries) FROM durable_outbox") == 0
    drain(one)
    assert redis_broker.size(redis_broker.queue()) == 3


def test_a_redis_that_refuses_one_queue_takes_what_is_for_others(
    world: World, relays: Relays, redis_broker: RedisBroker
) -> None:
    """Something else has a key of the queue's name."""
    durable, narrow = wide_and_narrow(redis_broker, world), redis_broker.queue("narrow")
    with Redis.from_url(redis_broker.url) as client:
        client.set(narrow, "not a list")
        durable.start_many("narrow", [{}] * 3)
        durable.start_many("wide", [{}] * 3)
        drain(relays.of(durable))
        client.delete(narrow)
    assert redis_broker.size(redis_broker.queue()) == 3
    (row,) = world.rows("SELECT last_error FROM durable_outbox WHERE tries > 0")
    assert "WRONGTYPE" in row["last_error"]

"""A row that the broker refuses blocks no other. (Of the three, RabbitMQ can refuse.)"""

import pytest

from tests.brokers.shop import Shop
from tests.waiting import wait_until

PAYMENTS = "payments"
"""`charge` has a queue of its own here: the one that refuses."""

pytestmark = [
    pytest.mark.parametrize("shop", ["rabbitmq"], indirect=True),
    pytest.mark.usefixtures("shift"),
]


def test_a_queue_that_is_full_delays_its_own_messages_only(shop: Shop) -> None:
    declare(shop, {"x-max-length": 0, "x-overflow": "reject-publish"})
    refuse_one_and_go_on(shop)


def test_a_queue_that_was_declared_otherwise_delays_its_own_messages_only(shop: Shop) -> None:
    """The relay declares a queue before it publishes to it, and RabbitMQ closes its channel."""
    declare(shop, {"x-max-priority": 3})
    refuse_one_and_go_on(shop)


def declare(shop: Shop, arguments: dict[str, object]) -> None:
    with shop.broker.connection() as connection:
        channel = connection.default_channel
        channel.queue_delete(shop.payments)
        channel.exchange_declare(shop.payments, "direct", durable=True, auto_delete=False)
        channel.queue_declare(shop.payments, durable=True, auto_delete=False, arguments=arguments)
        channel.queue_bind(shop.payments, shop.payments, shop.payments)


def refuse_one_and_go_on(shop: Shop) -> None:
    worker = shop.worker(concurrency=2, queues=shop.broker.queue())
    refused = [shop.start() for _ in range(3)]
    wait_until(
        lambda: shop.query("SELECT count(*) FROM durable_outbox WHERE tries > 0") == [(3,)],
        message="three rows that were refused",
    )
    for run in shop.durable.start_many("booking", [{}] * 10):
        run.result(timeout=20)
    worker.wait_for_log("durable.advance could not be published (try 1)")
    with shop.broker.connection() as connection:
        connection.default_channel.queue_delete(shop.payments)
    worker.kill()
    shop.worker(concurrency=1, queues=f"{shop.broker.queue()},{shop.payments}")
    for run in refused:
        run.result(timeout=60)
        assert len(shop.ledger(run)) == 6

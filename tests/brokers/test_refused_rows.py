"""A queue that takes nothing blocks no other. (Of the three brokers, RabbitMQ has such.)"""

import pytest

from tests.brokers.shop import Shop

PAYMENTS = "payments"
"""`charge` has a queue of its own here: the one that refuses."""

pytestmark = [
    pytest.mark.parametrize("shop", ["rabbitmq"], indirect=True),
    pytest.mark.usefixtures("shift"),
]


def test_a_queue_that_is_full_delays_its_own_messages_only(shop: Shop) -> None:
    """No row is to blame: nothing is recorded, and one line is said of the queue."""
    full = {"x-max-length": 0, "x-overflow": "reject-publish"}
    declare(shop, full)
    named = {"exchange": shop.payments, "routing_key": shop.payments, "queue_arguments": full}
    conf = {"task_queues": {shop.payments: named}}
    worker = shop.worker(concurrency=2, queues=shop.broker.queue(), conf=conf)
    for _ in range(3):
        shop.start()
    said = f"Queue {shop.payments!r} takes no more for now"
    worker.wait_for_log(said)
    for run in shop.durable.start_many("booking", [{}] * 10):
        run.result(timeout=20)
    assert shop.query("SELECT unit FROM durable_token") == [("charge",)] * 3
    assert shop.query("SELECT tries, last_error FROM durable_outbox") == [(0, None)] * 3
    assert worker.logs().count(said) == 1
    assert "could not be published" not in worker.logs()


def declare(shop: Shop, arguments: dict[str, object]) -> None:
    with shop.broker.connection() as connection:
        channel = connection.default_channel
        channel.queue_delete(shop.payments)
        channel.exchange_declare(shop.payments, "direct", durable=True, auto_delete=False)
        channel.queue_declare(shop.payments, durable=True, auto_delete=False, arguments=arguments)
        channel.queue_bind(shop.payments, shop.payments, shop.payments)

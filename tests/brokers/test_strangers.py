"""Two apps with a database each on one broker and one queue."""

from functools import partial

import pytest

from celery_durable.worker.publisher import KombuPublisher, origin_of
from tests.brokers.shop import Shop, on_redis
from tests.integration.driving import make_durable, noting
from tests.integration.relaying import Relays, drain


@on_redis
@pytest.mark.usefixtures("shift")
def test_a_worker_that_gets_the_messages_of_another_app_says_so(
    shop: Shop, database_url: str
) -> None:
    worker = shop.worker(concurrency=1)
    other = make_durable(database_url, queue=shop.broker.queue())
    other.workflow("w").step(noting([], "a"))
    shop.broker.configure(other.app)
    other.start("w", {})
    relay = Relays().make(other, KombuPublisher(other.app, partial(origin_of, other.database)))
    try:
        drain(relay)
        worker.wait_for_log("This worker gets messages for runs of schema 'public' of database")
        run = shop.start()
        run.result(timeout=30)
        assert worker.logs().count("This worker gets messages for runs of") == 1
    finally:
        relay.close()
        other.database.close()

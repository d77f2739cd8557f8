"""Steps run where they are placed, and relays where they are wanted."""

import json

import pytest

from tests.apps import QUEUE
from tests.apps.shop import CONFIG, PAYMENTS_QUEUE
from tests.brokers.shop import SHOP, Shop, on_redis
from tests.waiting import wait_until

PAYMENTS = "payments"
"""`charge` has a queue of its own here."""

pytestmark = pytest.mark.usefixtures("shift")


def test_a_step_with_a_queue_runs_on_the_worker_of_that_queue_only(shop: Shop) -> None:
    orders, paying = shop.workers({}, {"queues": shop.payments}, concurrency=1)
    for run in shop.durable.start_many("order", [{}] * 5, version=1):
        run.result(timeout=30)
        assert {entry.pid for entry in shop.ledger(run, "charge")} == {*paying.children()}
        assert {entry.pid for entry in shop.ledger(run, "ship")} == {*orders.children()}


@on_redis
def test_a_worker_of_other_queues_runs_no_relay_and_names_those_it_lacks(shop: Shop) -> None:
    other = shop.worker(concurrency=1, queues=shop.broker.queue("other"))
    lacking = sorted([shop.broker.queue(), shop.payments])
    other.wait_for_log(f"The workflows of this app need the queues {', '.join(lacking)}.")
    other.wait_for_log(f"-Q {','.join([shop.broker.queue('other'), *lacking])}")
    run = shop.start()
    assert "durable_relay" not in other.ask(shop.app, "stats")
    assert shop.query("SELECT count(*) FROM durable_outbox") == [(1,)]
    serving = shop.worker(queues=f"{shop.broker.queue()},{shop.payments}")
    run.result(timeout=30)
    assert serving.ask(shop.app, "stats")["durable_relay"]["running"]
    assert "The workflows of this app need" not in serving.logs()


@on_redis
def test_a_queue_that_is_added_at_run_time_is_served_and_written_down(shop: Shop) -> None:
    queue, elsewhere = shop.broker.queue(), shop.broker.queue("other")
    worker = shop.worker(concurrency=1, queues=elsewhere)
    for added in (queue, shop.payments):
        worker.ask(shop.app, "add_consumer", queue=added)
    shop.start().result(timeout=30)
    said = "SELECT DISTINCT queues FROM durable_worker"
    everything = [(sorted([queue, shop.payments, elsewhere]),)]
    wait_until(lambda: shop.query(said) == everything, message="what it consumes in its row")
    worker.ask(shop.app, "cancel_consumer", queue=elsewhere)
    wait_until(lambda: shop.query(said) != everything, message="what it no longer consumes")
    assert "Traceback" not in worker.logs()


@on_redis
def test_a_relay_of_its_own_serves_workers_without_one(shop: Shop) -> None:
    worker = shop.worker(
        queues=f"{shop.broker.queue()},{shop.payments}", options=["--no-durable-relay"]
    )
    run = shop.start()
    assert not worker.ask(shop.app, "stats")["durable_relay"]["running"]
    assert shop.query("SELECT count(*) FROM durable_outbox") == [(1,)]
    relay = shop.relay()
    run.result(timeout=30)
    assert relay.stop() == 0
    assert "Traceback" not in relay.logs()


@pytest.mark.parametrize("shop", ["rabbitmq"], indirect=True)
def test_quorum_queues_do_as_classic_ones(shop: Shop) -> None:
    queue = shop.broker.queue("quorum")
    kind = {"task_default_queue_type": "quorum", "task_create_missing_queue_type": "quorum"}
    env = {QUEUE: queue, PAYMENTS_QUEUE: queue, CONFIG: json.dumps(kind)}
    worker = shop.worker(concurrency=1, queues=queue, env=env)
    shop.cluster.celery(SHOP, "durable", "start", "order", "{}", "--wait", env=env, check=True)
    with shop.broker.connection() as connection:
        arguments = {"x-queue-type": "quorum"}
        connection.default_channel.queue_declare(
            queue, durable=True, auto_delete=False, arguments=arguments
        )
    assert "ERROR" not in worker.logs()

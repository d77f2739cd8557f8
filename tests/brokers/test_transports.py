"""The brokers that the other tests stand on: each carries a task, and can lose its messages."""

from celery import Celery

from tests.cluster import Cluster
from tests.services import unique
from tests.transports import Broker, RedisBroker
from tests.waiting import wait_until

PLAIN = "tests.apps.plain:app"


def test_a_worker_runs_what_the_test_sends(broker: Broker, cluster: Cluster) -> None:
    name = unique("test")
    broker.configure(Celery("sender")).send_task("plain.greet", [name])
    assert broker.size(broker.queue()) == 1
    worker = cluster.worker(PLAIN, concurrency=1)
    worker.wait_for_log(f"hello {name}")
    wait_until(lambda: broker.size(broker.queue()) == 0, message="the message to be acknowledged")


def test_a_purged_queue_has_lost_its_messages(broker: Broker) -> None:
    app = broker.configure(Celery("sender"))
    for number in range(3):
        app.send_task("plain.greet", [number])
    assert broker.size(broker.queue()) == 3
    broker.purge(broker.queue())
    assert broker.size(broker.queue()) == 0


def test_queues_of_one_test_are_unknown_to_the_next(redis_broker: RedisBroker) -> None:
    other = RedisBroker(redis_broker.url)
    redis_broker.configure(Celery("sender")).send_task("plain.greet", ["me"])
    assert (redis_broker.size(redis_broker.queue()), other.size(other.queue())) == (1, 0)
    redis_broker.close()
    assert redis_broker.size(redis_broker.queue()) == 0


def test_a_redis_that_was_stopped_comes_back_empty(redis_broker: RedisBroker) -> None:
    redis_broker.configure(Celery("sender")).send_task("plain.greet", ["me"])
    redis_broker.stop()
    redis_broker.start()
    assert redis_broker.size(redis_broker.queue()) == 0

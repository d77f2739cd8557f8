"""The shop, with workers that can be made deaf: the consumer is cut, and the processes live."""

from typing import Any

from celery.worker.control import control_command

from tests.apps.shop import app, durable

__all__ = ["app", "durable"]


@control_command()
def go_deaf(state: Any) -> None:
    """Cancel at the broker what the worker goes on to believe that it consumes."""
    consumer = state.consumer.task_consumer
    for queue in consumer.queues:
        consumer.cancel_by_queue(queue.name)

"""The shop, whose workers log which thread changes their prefetch count on RabbitMQ.

That thread then reads the connection, for the answer.
"""

import logging
import threading
from typing import Any

from kombu.transport.pyamqp import Channel

from tests.apps.shop import app

__all__ = ["CHANGED_IN", "app"]

CHANGED_IN = "The prefetch count is changed in "

logger = logging.getLogger("celery.watched")
_basic_qos = Channel.basic_qos


def basic_qos(self: Channel, *args: Any, **options: Any) -> Any:
    logger.warning("%s%s", CHANGED_IN, threading.current_thread().name)
    return _basic_qos(self, *args, **options)


Channel.basic_qos = basic_qos

"""What this process is to Celery."""

from __future__ import annotations

import socket
from typing import Any
from uuid import uuid4

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from celery_durable.liveness import Surroundings

TIMEOUTS: tuple[type[BaseException], ...] = (SoftTimeLimitExceeded,)
"""What a pool raises in a task whose soft time limit has passed."""

_ATTRIBUTE = "_durable_surroundings"


def introduce(worker: Any) -> None:
    """Remember, before its pool forks, which Celery worker this is."""
    found = Surroundings(
        hostname=str(worker.hostname),
        pool=worker.pool_cls.__module__.rpartition(".")[2],
        queues=tuple(sorted(worker.app.amqp.queues.consume_from)),
        node_id=uuid4(),
    )
    setattr(worker.app, _ATTRIBUTE, found)


def surroundings(app: Celery) -> Surroundings:
    """What was remembered; a spawned child, which remembers nothing, is known by its host."""
    unknown = Surroundings(socket.gethostname(), pool="unknown", queues=(), node_id=uuid4())
    found: Surroundings = getattr(app, _ATTRIBUTE, unknown)
    return found

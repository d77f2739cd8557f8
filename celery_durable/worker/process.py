"""What this process is to Celery."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import uuid4

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded, WorkerShutdown, WorkerTerminate

from celery_durable.liveness import Surroundings

TIMEOUTS: tuple[type[BaseException], ...] = (SoftTimeLimitExceeded,)
"""What a pool raises in a task whose soft time limit has passed."""

try:
    from greenlet import GreenletExit
except ImportError:  # there is no gevent either
    GreenletExit = WorkerTerminate

EXITS: tuple[type[BaseException], ...] = (GreenletExit, WorkerShutdown, WorkerTerminate)
"""What Celery raises in a task that must end because the worker does: it has crashed nothing. Solo
and gevent pools; `engine.is_told_to_exit` knows what billiard raises.
"""

_ATTRIBUTE = "_durable_surroundings"


def introduce(worker: Any) -> None:
    """Remember, before its pool forks, which Celery worker this is."""
    found = Surroundings(
        hostname=str(worker.hostname),
        pool=worker.pool_cls.__module__.rpartition(".")[2],
        queues=(),
        node_id=uuid4(),
    )
    setattr(worker.app, _ATTRIBUTE, found)


def forget(app: Any) -> None:
    """The worker has ended, and its process goes on."""
    vars(app).pop(_ATTRIBUTE, None)


def consumed(app: Any) -> tuple[str, ...]:
    """The queues that this process's worker consumes by now, sorted."""
    return tuple(sorted(app.amqp.queues.consume_from))


def is_worker_of(app: Celery) -> bool:
    """Whether this process, or the one it was forked from, is a worker of `app`."""
    return hasattr(app, _ATTRIBUTE)


def surroundings(app: Celery) -> Surroundings:
    """What was remembered; a spawned child, which remembers nothing, is known by its host."""
    knows = partial(_places, app)
    found: Surroundings | None = getattr(app, _ATTRIBUTE, None)
    if found is None:
        return Surroundings(socket.gethostname(), "unknown", (), uuid4(), knows)
    return replace(found, queues=consumed(app), knows=knows)


def _places(app: Any) -> Mapping[str, Sequence[str]]:
    places: Mapping[str, Sequence[str]] = app.durable.engine.places()
    return places

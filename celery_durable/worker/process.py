"""What this process is to Celery."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID, uuid4

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
_VARIABLE = "CELERY_DURABLE_WORKER"


def introduce(worker: Any, modules: Iterable[str] = ()) -> None:
    """Remember, before its pool starts children, which Celery worker this is.

    A spawned child is a fresh interpreter: it has the environment, and imports what the app
    includes. That must have the modules of the workflows, which need not have tasks of their own.
    """
    app = worker.app
    found = Surroundings(
        hostname=str(worker.hostname),
        pool=worker.pool_cls.__module__.rpartition(".")[2],
        queues=consumed(app),
        node_id=uuid4(),
    )
    setattr(app, _ATTRIBUTE, found)
    app.conf.include = tuple({*app.conf.include, *modules} - {"__main__"})
    facts = [os.getpid(), app.main, found.hostname, found.pool, found.queues, str(found.node_id)]
    os.environ[_VARIABLE] = json.dumps(facts)


def forget(app: Any) -> None:
    """The worker has ended, and its process goes on."""
    vars(app).pop(_ATTRIBUTE, None)
    os.environ.pop(_VARIABLE, None)


def _inherited(app: Any) -> Surroundings | None:
    """What the environment of a spawned child says of its worker."""
    parent, main, *facts = json.loads(os.environ.get(_VARIABLE, "[0, null]"))
    if (parent, main) != (os.getppid(), app.main):
        return None  # it is another's: a program that a step has started, for instance
    hostname, pool, queues, node_id = facts
    return Surroundings(hostname, pool, tuple(queues), UUID(node_id))


def consumed(app: Any) -> tuple[str, ...]:
    """The queues that this process's worker consumes by now, sorted."""
    return tuple(sorted(app.amqp.queues.consume_from))


def is_worker_of(app: Celery) -> bool:
    """Whether this process, or the one that started it, is a worker of `app`."""
    return hasattr(app, _ATTRIBUTE) or _inherited(app) is not None


def surroundings(app: Celery) -> Surroundings:
    """What was remembered; a process that is no worker's is known by its host."""
    knows = partial(_places, app)
    found: Surroundings | None = getattr(app, _ATTRIBUTE, None)
    if found is not None:
        return replace(found, queues=consumed(app), knows=knows)
    found = _inherited(app) or Surroundings(socket.gethostname(), "unknown", (), uuid4())
    return replace(found, knows=knows)


def _places(app: Any) -> Mapping[str, Sequence[str]]:
    places: Mapping[str, Sequence[str]] = app.durable.engine.places()
    return places

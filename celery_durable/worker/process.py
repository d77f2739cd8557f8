"""The Celery worker that this process belongs to, and the exceptions by which Celery ends it."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from billiard import get_start_method, pool  # pyright: ignore[reportAttributeAccessIssue]
from billiard.common import _should_have_exited as _is_ending
from billiard.process import current_process
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded, WorkerShutdown, WorkerTerminate

from celery_durable.background.liveness import Surroundings
from celery_durable.process import interrupts
from celery_durable.workflow.loops import threads_are_greenlets

TIMEOUTS: tuple[type[BaseException], ...] = (SoftTimeLimitExceeded,)
"""Raised by a pool in a task whose soft time limit has passed."""

try:
    from greenlet import GreenletExit
except ImportError:  # there is no gevent either
    GreenletExit = WorkerTerminate

EXITS: tuple[type[BaseException], ...] = (GreenletExit, WorkerShutdown, WorkerTerminate)
"""Raised by Celery, on solo and gevent pools, in a task that must end because the worker does."""


def is_exit(error: BaseException) -> bool:
    """Return True if the process has to exit; if not, the handler has failed.

    In a prefork child a signal has arrived, and any exception afterwards follows from it: billiard
    raises SystemExit, which a handler may turn into another exception. In the main process Celery's
    signal handlers raise Celery's own exceptions. They do not reach the threads of a pool.
    """
    return _is_ending[0] or (isinstance(error, EXITS) and _runs_signal_handlers())


def _runs_signal_handlers() -> bool:
    """Return True if what a signal handler of the main process raises may arrive here."""
    is_main = threading.current_thread() is threading.main_thread()
    is_child = current_process().name != "MainProcess"
    return not is_child and (is_main or threads_are_greenlets())


@contextmanager
def soft_limit_held_off() -> Iterator[None]:
    """Let the pool's soft limit strike in handlers only: see `interrupts`.

    Each prefork child sets the pool's signal handler after Celery has sent its last signal, so it
    is replaced for the time of a task.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGUSR1) is not pool.soft_timeout_sighandler:
        yield
        return
    signal.signal(signal.SIGUSR1, _on_soft_limit)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGUSR1) is _on_soft_limit:  # unless a handler has set its own
            signal.signal(signal.SIGUSR1, pool.soft_timeout_sighandler)


def _on_soft_limit(_signum: int, _frame: object) -> None:
    interrupts.strike(SoftTimeLimitExceeded())


_ATTRIBUTE = "_durable_surroundings"
_VARIABLE = "DURABLE_PARENT_WORKER"


def remember_worker(worker: Any, modules: Iterable[str] = ()) -> None:
    """Remember which Celery worker this is, before its pool starts children.

    A spawned child is a fresh interpreter: it inherits the environment, and imports what the app
    includes. So the modules of workflows are added there: they need not contain tasks.
    """
    app = worker.app
    pool_name = worker.pool_cls.__module__.rpartition(".")[2]
    found = Surroundings(
        hostname=str(worker.hostname),
        pool=pool_name,
        queues=consumed(app),
        node_id=uuid4(),
        slots=1 if pool_name == "prefork" else slots_of(worker),
    )
    setattr(app, _ATTRIBUTE, found)
    if getattr(worker, "pool_start_method", "fork") != "fork" or get_start_method() != "fork":
        importable = {name for name in modules if name in sys.modules} - {"__main__"}
        app.conf.include = tuple({*app.conf.include, *importable})
    facts = [os.getpid(), app.main, found.hostname, found.pool, found.queues, str(found.node_id)]
    os.environ[_VARIABLE] = json.dumps(facts)


def slots_of(worker: Any) -> int:
    """Return how many messages the worker, with all its processes, executes at once."""
    return max(int(getattr(worker, "concurrency", None) or 1), 1)


def forget_worker(app: Any) -> None:
    """Forget the worker after its end, in a process that goes on."""
    vars(app).pop(_ATTRIBUTE, None)
    os.environ.pop(_VARIABLE, None)


def _inherited(app: Any) -> Surroundings | None:
    """Return what the environment of a spawned child says of its worker."""
    parent, main, *facts = json.loads(os.environ.get(_VARIABLE, "[0, null]"))
    if (parent, main) != (os.getppid(), app.main):
        return None  # inherited by another process, such as a program that a step has started
    hostname, pool, queues, node_id = facts
    return Surroundings(hostname, pool, tuple(queues), UUID(node_id))


def consumed(app: Any) -> tuple[str, ...]:
    """Return the queues that this process's worker consumes now, sorted."""
    return tuple(sorted(app.amqp.queues.consume_from))


def is_worker_of(app: Celery) -> bool:
    """Return True if this process, or the one that started it, is a worker of `app`."""
    return hasattr(app, _ATTRIBUTE) or _inherited(app) is not None


def surroundings(app: Celery) -> Surroundings:
    """Return what was remembered; a process of no worker is known by the name of its host."""
    knows = partial(_offers, app)
    found: Surroundings | None = getattr(app, _ATTRIBUTE, None)
    if found is not None:
        return replace(found, queues=consumed(app), knows=knows)
    found = _inherited(app) or Surroundings(socket.gethostname(), "unknown", (), uuid4())
    return replace(found, knows=knows)


def _offers(app: Any) -> Mapping[str, Sequence[str]]:
    offers: Mapping[str, Sequence[str]] = app.durable.engine.offers()
    return offers

"""What happens to the process, told to the liveness. Signals are global; other apps are let be.

A worker that is told to stop says so in the rows of its processes, again and again until it ends: a
child may register after the first time, and Postgres may be away. A thread does it, because the
signal's own handler may have interrupted the connection it needs, and under gevent must not wait.
"""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue
from typing import Any

from celery import Celery, signals
from celery.exceptions import WorkerTerminate
from celery.platforms import EX_FAILURE

from celery_durable.errors import DatabaseUnavailable, DurableError
from celery_durable.store import workers
from celery_durable.worker import process
from celery_durable.worker.host import Host
from celery_durable.worker.loggers import enable_loggers
from celery_durable.worker.queues import consumes_durable

logger = logging.getLogger(__name__)

SOLO = "solo"
INITIALISED = (SOLO, "prefork")
"""The pools that send `worker_process_init`."""

REGISTER_AGAIN_AFTER = 5.0
"""Seconds until a process registers for which Postgres was away."""

DRAIN_EVERY = 0.25
"""Seconds after which a worker that stops says so once more."""


class Lifecycle:
    """The signals of one app's workers."""

    def __init__(self, durable: Host, app: Celery) -> None:
        self._durable = durable
        self._app = app
        # Of all that wakes a thread, only its put() may be interrupted by itself, in the handler of
        # another signal. https://docs.python.org/3/library/queue.html#queue.SimpleQueue.put
        self._told_to_stop: SimpleQueue[None] = SimpleQueue()
        self._is_over = threading.Event()
        self._program: Any = None

    def connect(self) -> None:
        """Hear them for as long as the process lives."""
        signals.celeryd_after_setup.connect(self._on_setup, weak=False)
        signals.worker_ready.connect(self._on_ready, weak=False)
        signals.worker_process_init.connect(self._on_child_start, weak=False)
        signals.worker_shutting_down.connect(self._on_stopping, weak=False)
        signals.worker_process_shutdown.connect(self._on_child_exit, weak=False)
        signals.worker_shutdown.connect(self._on_shutdown, weak=False)

    def _on_setup(self, instance: Any, **_: Any) -> None:
        """Called when a worker has read its options, before its pool forks."""
        if instance.app is self._app:
            self._program = instance
            self._hear_of_cold_shutdown(instance)

    def _hear_of_cold_shutdown(self, worker: Any) -> None:
        """Celery says that it stops only after a soft shutdown's wait, in which what is begun may
        end; without this the next step would begin then, and be killed.

        On the solo pool its signal handler interrupts the step in hand, which the pool cannot
        cancel: an error that says so would be raised in the step, and be the step's failure.
        """
        wait = worker.wait_for_soft_shutdown

        def tell_and_wait() -> None:
            self._on_stopping()
            wait()
            if process.surroundings(self._app).pool == SOLO:
                raise WorkerTerminate(EX_FAILURE)

        worker.wait_for_soft_shutdown = tell_and_wait

    def _on_child_start(self, **_: Any) -> None:
        """Called in a new prefork child, which must not take long; on solo in the main process."""
        enable_loggers()
        if process.is_worker_of(self._app) and consumes_durable(self._durable, self._app):
            threading.Thread(target=self._register, name="durable-register", daemon=True).start()

    def _on_ready(self, sender: Any, **_: Any) -> None:
        """Called in the main process when it begins to consume."""
        if sender.app is not self._app:
            return
        self._is_over.clear()
        threading.Thread(target=self._say_it_stops, name="durable-drain", daemon=True).start()
        if process.surroundings(self._app).pool not in INITIALISED:
            self._on_child_start()

    def _register(self) -> None:
        """Let others know, before the first message, where this process can go on.

        As long as nobody is known to consume a queue, no lost hint is sent again there.
        """
        while True:
            try:
                self._durable.liveness.worker_id()
            except DurableError as error:
                logger.info("It registers with its first message, or later: %s", error)
            else:
                return
            if self._is_over.wait(REGISTER_AGAIN_AFTER):
                return

    def _on_stopping(self, **_: Any) -> None:
        """Called in the main process, in a signal's handler, while its pool still works."""
        self._told_to_stop.put(None)

    def _say_it_stops(self) -> None:
        """The thread."""
        self._told_to_stop.get()
        while self._has_database:
            self._drain()
            if self._is_over.wait(DRAIN_EVERY):
                return

    def _drain(self) -> None:
        node_id = process.surroundings(self._app).node_id
        try:
            with self._durable.database.autocommit() as connection:
                workers.drain(connection, node_id)
        except DatabaseUnavailable:
            return

    def _on_child_exit(self, **_: Any) -> None:
        """Called in a prefork child that exits in good order."""
        if self._has_database:
            self._durable.liveness.leave()

    def _on_shutdown(self, sender: Any, **_: Any) -> None:
        """Called in the main process when its pool has ended."""
        if sender.app is self._app:
            self.end(sender)

    def on_terminated(self, worker: Any) -> None:
        """Called when a worker is stopped at once: with it ends the process that `celery worker`
        is, and not one that has started a worker within itself, such as a test.
        """
        if worker is not self._program:
            self.end(worker)

    def end(self, worker: Any) -> None:
        """Leave nothing of the worker behind in this process, which may go on."""
        for step in worker.steps:
            if hasattr(step, "finish"):
                step.finish()
        self._is_over.set()
        if self._has_database:
            self._durable.liveness.leave()
            self._durable.database.close()
        process.forget(self._app)

    @property
    def _has_database(self) -> bool:
        """Whether this process has used the database; else there is nothing to say goodbye to."""
        return "database" in vars(self._durable)

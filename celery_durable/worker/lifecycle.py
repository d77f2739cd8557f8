"""Keeps the lease in step with the process. Celery's signals are global; other apps' are ignored.

A worker that stops marks the rows of its processes as draining, again and again until it ends: a
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

from celery_durable.errors import ConfigurationError, DatabaseUnavailable, DurableError
from celery_durable.store import workers
from celery_durable.worker import process
from celery_durable.worker.configuration import refuse_missing_driver
from celery_durable.worker.host import Host
from celery_durable.worker.loggers import enable_loggers
from celery_durable.worker.queues import consumes_durable

logger = logging.getLogger(__name__)

SOLO = "solo"
INITIALISED = (SOLO, "prefork")
"""The pools in which Celery sends `worker_process_init`."""

REGISTER_AGAIN_AFTER = 5.0
"""Seconds after which a process that could not register tries again."""

DRAIN_EVERY = 0.25
"""Seconds after which a worker that stops marks its rows again."""


class Lifecycle:
    """Handles the signals of one app's workers."""

    def __init__(self, durable: Host, app: Celery) -> None:
        self._durable = durable
        self._app = app
        # A signal handler may call put() while it interrupts put() in the same thread; nothing else
        # that wakes a thread allows that.
        # https://docs.python.org/3/library/queue.html#queue.SimpleQueue.put
        self._stop_requests: SimpleQueue[None] = SimpleQueue()
        self._is_over = threading.Event()
        self._program: Any = None

    def connect(self) -> None:
        """Connect the handlers for as long as the process lives."""
        signals.celeryd_init.connect(self._on_init, weak=False)
        signals.celeryd_after_setup.connect(self._on_setup, weak=False)
        signals.worker_ready.connect(self._on_ready, weak=False)
        signals.worker_process_init.connect(self._on_child_start, weak=False)
        signals.worker_shutting_down.connect(self._on_stopping, weak=False)
        signals.worker_process_shutdown.connect(self._on_child_exit, weak=False)
        signals.worker_shutdown.connect(self._on_shutdown, weak=False)

    def _on_init(self, instance: Any, **_: Any) -> None:
        """Called before a worker connects to its broker, and before it can log."""
        if instance.app is self._app:
            try:
                refuse_missing_driver(self._app)
            except ConfigurationError as error:
                # Celery logs what else a handler raises, and goes on.
                raise SystemExit(f"This worker cannot start: {error}") from error

    def _on_setup(self, instance: Any, **_: Any) -> None:
        """Called after a worker has read its options, before its pool forks."""
        if instance.app is self._app:
            self._program = instance
            self._drain_before_soft_shutdown(instance)

    def _drain_before_soft_shutdown(self, worker: Any) -> None:
        """Drain before Celery waits in a soft shutdown, for the steps that are executing to end.

        Celery sends its signal only after that wait: another step would begin meanwhile, and be
        killed. On the solo pool Celery's signal handler interrupts the executing step, which the
        pool cannot cancel. Its error for that would be raised in the step, as the step's failure:
        hence `WorkerTerminate`.
        """
        wait = worker.wait_for_soft_shutdown

        def drain_and_wait() -> None:
            self._on_stopping()
            wait()
            if process.surroundings(self._app).pool == SOLO:
                raise WorkerTerminate(EX_FAILURE)

        worker.wait_for_soft_shutdown = drain_and_wait

    def _on_child_start(self, **_: Any) -> None:
        """Called in a new prefork child, and on solo in the main process; it must return soon."""
        enable_loggers()
        if process.is_worker_of(self._app) and consumes_durable(self._durable, self._app):
            threading.Thread(target=self._register, name="durable-register", daemon=True).start()

    def _on_ready(self, sender: Any, **_: Any) -> None:
        """Called in the main process when it begins to consume."""
        if sender.app is not self._app:
            return
        self._is_over.clear()
        threading.Thread(
            target=self._drain_until_the_end, name="durable-drain", daemon=True
        ).start()
        if process.surroundings(self._app).pool not in INITIALISED:
            self._on_child_start()

    def _register(self) -> None:
        """Register before the first message, so that others know what this process can execute.

        A lost hint is sent again only to a queue that a registered worker consumes.
        """
        while True:
            try:
                self._durable.liveness.worker_id()
            except DurableError as error:
                logger.info(
                    "This process is not registered as a worker yet, trying again: %s", error
                )
            else:
                return
            if self._is_over.wait(REGISTER_AGAIN_AFTER):
                return

    def _on_stopping(self, **_: Any) -> None:
        """Called in the main process, in a signal's handler, while its pool still works."""
        self._stop_requests.put(None)

    def _drain_until_the_end(self) -> None:
        """Runs in a thread of its own."""
        self._stop_requests.get()
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
        """Called in a prefork child that exits normally."""
        if self._has_database:
            self._durable.liveness.leave()

    def _on_shutdown(self, sender: Any, **_: Any) -> None:
        """Called in the main process when its pool has ended."""
        if sender.app is self._app:
            self.end(sender)

    def on_terminated(self, worker: Any) -> None:
        """Called when a worker is stopped at once.

        The process of `celery worker` ends with its worker. One that has started a worker inside
        itself, such as a test, goes on.
        """
        if worker is not self._program:
            self.end(worker)

    def end(self, worker: Any) -> None:
        """Remove all traces of the worker from this process, which may go on."""
        for step in worker.steps:
            if hasattr(step, "finish"):
                step.finish()
        self._is_over.set()
        if self._has_database:
            self._durable.liveness.leave()
            self._durable.database.close()
        process.forget_worker(self._app)

    @property
    def _has_database(self) -> bool:
        """True if this process has used the database; else there is no lease to end."""
        return "database" in vars(self._durable)

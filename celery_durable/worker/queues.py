"""The queues that a worker consumes, and those that the workflows need.

`add_consumer` and `cancel_consumer` change the first while the worker runs. Its processes do not
notice, and forked ones cannot: the main process writes the change into their rows.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from celery_durable.errors import DurableError
from celery_durable.store import workers
from celery_durable.worker import process
from celery_durable.worker.host import Host

logger = logging.getLogger(__name__)

WRITE_AGAIN_AFTER = 2.0
"""Seconds after which the queues are written again: a process that was forked before the change may
register after it.
"""


def needed(durable: Host) -> frozenset[str]:
    """Return the queues to which runs of the workflows known here are sent."""
    if not durable.registry.names():
        return frozenset()
    return durable.registry.queues() | {durable.settings.queue}


def consumes_durable(durable: Host, app: Any) -> bool:
    """Return True if this worker takes messages of durable runs."""
    queues = {durable.settings.queue, *durable.registry.queues()}
    return not queues.isdisjoint(process.surroundings(app).queues)


def warn_of_missing(durable: Host, app: Any) -> None:
    """Warn once of the queues that neither this worker nor another running one consumes."""
    consumed = process.consumed(app)
    missing = needed(durable) - {*consumed}
    if missing:
        missing -= _consumed_elsewhere(durable)
    if missing:
        logger.warning(
            "The workflows of this app need the queues %s. Neither this worker nor another that"
            " is running consumes them: until one does, their runs wait. Start this one with -Q %s,"
            " or another for them.",
            ", ".join(sorted(missing)),
            ",".join([*consumed, *sorted(missing)]),
        )


def _consumed_elsewhere(durable: Host) -> frozenset[str]:
    try:
        with durable.database.autocommit() as connection:
            return workers.consumed(connection)
    except DurableError:
        return frozenset()


class QueueChanges:
    """Writes the queues that a running worker consumes into its rows, after each change."""

    def __init__(self, durable: Host, app: Any, on_change: Callable[[], None]) -> None:
        self._durable = durable
        self._app = app
        self._on_change = on_change
        self._changed = threading.Event()
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, consumer: Any) -> None:
        """Notice what remote control does to this worker's consumer."""
        add, queues = consumer.add_task_queue, self._app.amqp.queues

        def add_and_select(queue: str, *args: Any, **options: Any) -> None:
            add(queue, *args, **options)
            # Celery 5.5 does not select a queue that it knew before.
            queues.select_add(queues[queue])

        consumer.add_task_queue = self._noticed(add_and_select)
        consumer.cancel_task_queue = self._noticed(consumer.cancel_task_queue)

    def _noticed(self, change: Callable[..., None]) -> Callable[..., None]:
        def change_and_notice(*args: Any, **options: Any) -> None:
            change(*args, **options)
            self._changed.set()
            if self._thread is None:  # this runs in the worker's event loop, which must not wait
                self._thread = threading.Thread(
                    target=self._keep_writing, name="durable-queues", daemon=True
                )
                self._thread.start()

        return change_and_notice

    def _keep_writing(self) -> None:
        """Runs in a thread of its own."""
        while not self._is_over.is_set():
            if self._changed.is_set():
                self._changed.clear()
                self._on_change()
            self._write()
            self._changed.wait(WRITE_AGAIN_AFTER)

    def _write(self) -> None:
        here = process.surroundings(self._app)
        try:
            with self._durable.database.autocommit() as connection:
                workers.set_queues(connection, here.node_id, here.queues)
        except DurableError as error:
            logger.debug("The queues of this worker are not written yet, trying again: %s", error)

    def stop(self) -> None:
        """End the thread, as the worker ends."""
        self._is_over.set()
        self._changed.set()

"""What happens to the process, told to the liveness. Signals are global; other apps are let be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import Celery, signals

from celery_durable.errors import DatabaseUnavailable
from celery_durable.store import workers
from celery_durable.worker import process

if TYPE_CHECKING:
    from celery_durable.durable import Durable


class Lifecycle:
    """The signals of one app's workers."""

    def __init__(self, durable: Durable, app: Celery) -> None:
        self._durable = durable
        self._app = app

    def connect(self) -> None:
        """Hear them for as long as the process lives."""
        signals.celeryd_after_setup.connect(self._on_setup, weak=False)
        signals.worker_shutting_down.connect(self._on_stopping, weak=False)
        signals.worker_process_shutdown.connect(self._on_child_exit, weak=False)
        signals.worker_shutdown.connect(self._on_shutdown, weak=False)

    def _on_setup(self, instance: Any, **_: Any) -> None:
        """Called when a worker has read its options, before its pool forks."""
        if instance.app is self._app:
            process.introduce(instance)

    def _on_stopping(self, **_: Any) -> None:
        """Called in the main process when it is told to stop, while its pool still works."""
        if not self._has_database:
            return
        node_id = process.surroundings(self._app).node_id
        try:
            with self._durable.database.autocommit() as connection:
                workers.drain(connection, node_id)
        except DatabaseUnavailable:
            return  # their rows cannot say so; what they have claimed is freed when they are gone

    def _on_child_exit(self, **_: Any) -> None:
        """Called in a prefork child that exits in good order."""
        if self._has_database:
            self._durable.liveness.leave()

    def _on_shutdown(self, sender: Any, **_: Any) -> None:
        """Called in the main process when its pool has ended."""
        if sender.app is not self._app or not self._has_database:
            return
        for step in sender.steps:
            if hasattr(step, "finish"):
                step.finish()
        self._durable.liveness.leave()

    @property
    def _has_database(self) -> bool:
        """Whether this process has used the database; else there is nothing to say goodbye to."""
        return "database" in vars(self._durable)

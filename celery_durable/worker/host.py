"""`Host` is the app's `Durable` as a worker uses it: a client with an engine and a lease."""

from __future__ import annotations

from functools import partial

from celery import Celery

from celery_durable.background.liveness import Liveness
from celery_durable.client import Client
from celery_durable.engine.loop import Engine
from celery_durable.errors import ConfigurationError
from celery_durable.process.once import once
from celery_durable.settings import Settings, read_settings
from celery_durable.worker import process
from celery_durable.workflow.registry import Registry


class Host(Client):
    """A client that belongs to a Celery app, and follows hints where the app runs as a worker.

    `modules` define the workflows: a spawned child of a pool has to import them.
    """

    def __init__(self) -> None:
        super().__init__(Registry(), self._settings_of_app)
        self.modules: set[str] = set()
        self._app: Celery | None = None

    @property
    def app(self) -> Celery:
        """The Celery app."""
        if self._app is None:
            raise ConfigurationError("Durable has no Celery app yet; call durable.init_app(app).")
        return self._app

    @once
    def liveness(self) -> Liveness:
        """The lease of this process as a worker."""
        return Liveness(
            self.database, self.settings.worker_ttl, partial(process.surroundings, self.app)
        )

    @once
    def engine(self) -> Engine:
        """The engine, which follows hints."""
        return Engine(
            self.database,
            self.registry,
            self.settings,
            self.liveness,
            self.notify,
            timeouts=process.TIMEOUTS,
            is_exit=process.is_exit,
        )

    def _settings_of_app(self) -> Settings:
        refuse_eager(self.app)
        return read_settings(self.app.conf, namespace=self.app.namespace)


def refuse_eager(app: Celery) -> None:
    """Raise `ConfigurationError` if tasks would run inside their caller."""
    if app.conf.task_always_eager:
        raise ConfigurationError(
            "task_always_eager runs tasks inside their caller, before it commits; durable runs need"
            " a worker. Turn it off; celery_durable.testing has a Postgres to test on."
        )

"""`Host` is the app's `Durable` as a worker uses it: a client with an engine and a lease."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from celery import Celery

from celery_durable.background.liveness import Liveness
from celery_durable.bulk.client import Bulk
from celery_durable.database.framework import Framework
from celery_durable.engine.loop import Engine
from celery_durable.errors import ConfigurationError
from celery_durable.ordinary.composing import Composer
from celery_durable.process.once import forget, once
from celery_durable.settings import Settings, read_settings
from celery_durable.worker import process
from celery_durable.workflow.around import Around
from celery_durable.workflow.registry import Registry


class Host(Bulk):
    """A client that belongs to a Celery app, and follows hints where the app runs as a worker.

    `modules` define the workflows: a spawned child of a pool has to import them. `around_each` is
    what `Durable.around` has registered, in order.
    """

    def __init__(self) -> None:
        super().__init__(Registry(), self._settings_of_app)
        self.modules: set[str] = set()
        self.around_each: list[Around] = []
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
            compose=self.composer.compose,
            around_units=self.framework.around_units if self.framework else None,
            around=self.around_each,
        )

    @once
    def composer(self) -> Composer:
        """What makes messages of signatures of the app's tasks."""
        return Composer(self.app, self.settings.max_payload_bytes)

    def reset(self) -> None:
        """Close the connections of this process and forget the settings, for tests.

        What comes next reads the settings anew: a test can point the app at another database, or
        change a default of steps. Workflows stay defined. Nothing may be using `durable` meanwhile.
        Raises `ConfigurationError` in the process of a running worker.
        """
        if self._app is not None and process.is_worker_of(self._app):
            raise ConfigurationError(
                "reset() would take the connections of the worker that runs in this process; stop"
                " it first."
            )
        made = vars(self)
        if made.get("in_caller") is not None:
            made["in_caller"].close()
        if "liveness" in made:
            self.liveness.leave()
        if "_ends" in made:
            self.ends.close()
        if "database" in made:
            self.database.close()
        forget(self)
        self.registry.thaw()

    def _settings_of_app(self) -> Settings:
        return read_settings(
            self.app.conf,
            namespace=self.app.namespace,
            has_framework=self.framework is not None,
        )

    def _find_framework(self) -> Framework | None:
        found = (find(self) for find in finders)
        return next((framework for framework in found if framework is not None), None)


Finder = Callable[[Host], Framework | None]

finders: list[Finder] = []
"""How a framework is found that an app belongs to; a framework adds its own when it is set up."""

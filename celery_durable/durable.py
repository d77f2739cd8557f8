"""`Durable`: the one object users hold."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, overload

from celery import Celery

from celery_durable.client import twin
from celery_durable.core.retry import STEP_RETRY, RetryPolicy
from celery_durable.database import schema
from celery_durable.errors import ConfigurationError
from celery_durable.settings import default_retry, step_timeout
from celery_durable.worker.host import Host
from celery_durable.worker.install import install
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.step import STEP_OPTIONS, Handler, Options, Step, checked_options


class Durable(Host):
    """Durable workflows for a Celery app: `durable = Durable(app)`, or `init_app` later.

    Every method that talks to the database raises `DatabaseUnavailable` when it does not answer,
    and `SchemaOutOfDate` when `migrate` has not been run. Each has a twin for `async` code:
    `astart`, ...
    """

    def __init__(self, app: Celery | None = None) -> None:
        super().__init__()
        self.modules.add(_caller()[0])
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Celery) -> None:
        """Join a Celery app: add durable workflows to its tasks, workers and command line."""
        if self._app is not None and self._app is not app:
            raise ConfigurationError("This Durable belongs to another Celery app already.")
        if self._app is None:
            self._app = app
            install(self, app)

    @property
    def default_retry(self) -> RetryPolicy:
        """The retry policy of steps without one."""
        return default_retry(self._app.conf) if self._app else STEP_RETRY

    @property
    def default_timeout(self) -> float | None:
        """Seconds that a step without a `timeout` may take; None for no limit."""
        return step_timeout(self._app.conf) if self._app else None

    @overload
    def step(
        self,
        function: Handler,
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        compensate: Handler | None = None,
        timeout: float | timedelta | None = None,
        queue: str | None = None,
        priority: int | None = None,
        transactional: bool = False,
        suspends: bool = False,
    ) -> Step: ...

    @overload
    def step(
        self,
        function: None = None,
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        compensate: Handler | None = None,
        timeout: float | timedelta | None = None,
        queue: str | None = None,
        priority: int | None = None,
        transactional: bool = False,
        suspends: bool = False,
    ) -> Callable[[Handler], Step]: ...

    def step(
        self,
        function: Handler | None = None,
        *,
        name: str | None = None,
        compensate: Handler | None = None,
        **options: Any,
    ) -> Step | Callable[[Handler], Step]:
        """Decorator: make a step of a function of the context, plain or async.

        Options: `retry` (a `RetryPolicy`; default `durable_default_retry`), `timeout` (seconds or
        a timedelta; default `durable_step_timeout`), `queue`, `priority`, `transactional`
        (`ctx.session` then commits together with the step), `suspends` (a result whose `status` is
        "suspended" then waits for an answer). `compensate` is the function that undoes the step.
        """
        chosen = Options(**checked_options("step", options, STEP_OPTIONS))

        def decorate(function: Handler) -> Step:
            made = Step(function, name=name, options=chosen)
            if compensate is not None:
                made.compensate(compensate)
            return made

        return decorate if function is None else decorate(function)

    def workflow(self, name: str, *, version: int = 1, input: type | None = None) -> Workflow:
        """Begin a workflow; chain `.step(...)` on what this returns.

        `input` is a dataclass or a pydantic model class; inputs are checked against it at start.
        """
        module, line = _caller()
        self.modules.add(module)
        made = Workflow(
            name, version=version, input=input, client=self, defined_at=f"{module}:{line}"
        )
        self.registry.add(made)
        return made

    def migrate(self) -> None:
        """Create the tables, or bring them to this release."""
        schema.migrate(self.database.engine, self.settings.schema)

    amigrate = twin(migrate)

    def create_tables(self) -> None:
        """The same as `migrate`."""
        self.migrate()

    def autodiscover(self, packages: Sequence[str] | None = None) -> None:
        """Import the module `workflows` of these packages, as Celery imports `tasks`.

        By default of every package that a fixup of Celery knows: with Django, every installed app.
        """
        self.app.autodiscover_tasks(packages, related_name="workflows")


def _caller() -> tuple[str, int]:
    """Return the module and line from which the caller of this function was called."""
    frame = sys._getframe(2)  # noqa: SLF001 - there is no public way to it
    return str(frame.f_globals.get("__name__")), frame.f_lineno

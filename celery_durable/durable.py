"""`Durable`: the one object users hold."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, overload
from uuid import UUID

from celery import Celery

from celery_durable import worker
from celery_durable.checks import StartOptions, checked_run_id
from celery_durable.client import Client
from celery_durable.core.retry import STEP_RETRY, RetryPolicy
from celery_durable.engine import Engine
from celery_durable.errors import ConfigurationError, RunError
from celery_durable.liveness import Liveness
from celery_durable.once import once
from celery_durable.run import Run
from celery_durable.settings import Settings, default_retry, read_settings, step_timeout
from celery_durable.store import codec, schema
from celery_durable.store.database import Database
from celery_durable.store.notify import Notifier
from celery_durable.store.signals import Delivery
from celery_durable.store.views import JournalEntry, RunSnapshot, RunSummary
from celery_durable.threads import Threads
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.registry import Registry
from celery_durable.workflow.step import STEP_OPTIONS, Handler, Options, Step, checked_options

T = TypeVar("T")
Runs = list[Run]  # inside of Durable, `list` is the method


class Durable:
    """Durable workflows for a Celery app: `durable = Durable(app)`, or `init_app` later.

    Every method that talks to the database raises `DatabaseUnavailable` when it does not answer,
    and `SchemaOutOfDate` when `migrate` has not been run. Each has a twin for `async` code:
    `astart`, ...
    """

    def __init__(self, app: Celery | None = None) -> None:
        self._app: Celery | None = None
        self.registry = Registry()
        self.modules = {_caller()[0]}
        self.threads = Threads()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Celery) -> None:
        """Join a Celery app: its tasks, worker and command line learn of durable workflows."""
        if self._app is not None and self._app is not app:
            raise ConfigurationError("This Durable belongs to another Celery app already.")
        if self._app is None:
            self._app = app
            worker.install(self, app)

    @property
    def app(self) -> Celery:
        """The Celery app."""
        if self._app is None:
            raise ConfigurationError("Durable has no Celery app yet; call durable.init_app(app).")
        return self._app

    @once
    def settings(self) -> Settings:
        """The app's `durable_*` settings, read once when they are first needed."""
        worker.refuse_eager(self.app)
        chosen = read_settings(self.app.conf, namespace=self.app.namespace)
        codec.allow(chosen.allowed_types)
        return chosen

    @property
    def default_retry(self) -> RetryPolicy:
        """The retry policy of steps that name none."""
        return default_retry(self._app.conf) if self._app else STEP_RETRY

    @property
    def default_timeout(self) -> float | None:
        """Seconds that a step may take that names no `timeout`; None for ever."""
        return step_timeout(self._app.conf) if self._app else None

    @once
    def database(self) -> Database:
        """This process's connections."""
        chosen = self.settings
        return Database(
            chosen.database_url, direct_url=chosen.direct_database_url, schema=chosen.schema
        )

    @once
    def notify(self) -> Notifier:
        """Wakes the relays."""
        return Notifier(self.database)

    @once
    def client(self) -> Client:
        """What the methods below are made of."""
        return Client(self.database, self.registry, self.settings, self.notify)

    @once
    def liveness(self) -> Liveness:
        """This process's life as a worker."""
        return Liveness(
            self.database, self.settings.worker_ttl, partial(worker.surroundings, self.app)
        )

    @once
    def engine(self) -> Engine:
        """What follows hints."""
        return Engine(
            self.database,
            self.registry,
            self.settings,
            self.liveness,
            self.notify,
            timeouts=worker.TIMEOUTS,
            is_exit=worker.is_exit,
        )

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
        """Decorator: a function of the context, plain or async, as a step.

        Options: `retry` (a `RetryPolicy`; default `durable_default_retry`), `timeout` (seconds or
        a timedelta; default `durable_step_timeout`), `queue`, `priority`, `transactional` (then
        `ctx.session` commits together with the step), `suspends` (a result whose `status` is
        "suspended" then waits for an answer). `compensate` undoes it.
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

        `input`, a dataclass or a pydantic model class, is what inputs are checked against at start.
        """
        module, line = _caller()
        self.modules.add(module)
        made = Workflow(
            name, version=version, input=input, client=self, defined_at=f"{module}:{line}"
        )
        self.registry.add(made)
        return made

    def start(
        self,
        workflow: Workflow | str,
        input: object = None,
        *,
        key: str | None = None,
        version: int | None = None,
        session: object = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Run:
        """Start a run and return a handle on it.

        With `session` the run starts if and when that transaction commits. `key` is unique per
        workflow: a second start with it returns the first run, with `.created` False. `delay` is in
        seconds. Raises `UnknownWorkflow`, `PayloadError` or `ConfigurationError`, having written
        nothing.
        """
        run_id, created = self.client.start(
            workflow,
            input,
            key=key,
            version=version,
            session=session,
            options=StartOptions.of(delay, priority, tags),
        )
        return Run(self, run_id, created=created)

    def start_many(
        self,
        workflow: Workflow | str,
        inputs: Sequence[object],
        *,
        version: int | None = None,
        session: object = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Runs:
        """Start a run for each input in one transaction: all, or none."""
        options = StartOptions.of(delay, priority, tags)
        ids = self.client.start_many(
            workflow, inputs, version=version, session=session, options=options
        )
        return [Run(self, run_id, created=True) for run_id in ids]

    def run(
        self,
        run_id: UUID | str | None = None,
        *,
        workflow: str | None = None,
        key: str | None = None,
    ) -> Run:
        """A handle on a run, by its id, or by its workflow and key.

        Whether there is a run with this id is asked when the handle is used (`RunNotFound`). A key
        is looked up at once: `RunError` where no run of the workflow has it.
        """
        if run_id is not None:
            return Run(self, checked_run_id(run_id))
        if workflow is None or key is None:
            raise ConfigurationError("run() takes a run id, or a workflow and a key.")
        found = self.client.run_with_key(workflow, key)
        if found is None:
            raise RunError(None, f"Workflow {workflow!r} has no run with key {key!r}.")
        return Run(self, found)

    def status(self, run_id: UUID | str, *, results: bool = True) -> RunSnapshot:
        """How the run stood at one moment. Raises `RunNotFound`.

        With `results=False` no result is read, however large they are: `sizes` says how large.
        """
        return self.client.status(checked_run_id(run_id), results=results)

    def list(
        self,
        *,
        status: str | None = None,
        workflow: str | None = None,
        parent: UUID | str | None = None,
        tags: Mapping[str, str] | None = None,
        limit: int = 100,
        before: UUID | str | None = None,
    ) -> Sequence[RunSummary]:
        """Runs, newest first, in one query; for the next page, `before` is the last run id of this
        one.
        """
        return self.client.list(
            status=status,
            workflow=workflow,
            parent=checked_run_id(parent) if parent else None,
            tags=tags,
            limit=limit,
            before=checked_run_id(before) if before else None,
        )

    def history(
        self,
        run_id: UUID | str,
        *,
        limit: int | None = None,
        after: str | None = None,
        results: bool = True,
    ) -> Sequence[JournalEntry]:
        """The units of the run that ended, in order of completion. Raises `RunNotFound`.

        All, or at most `limit`; for the next page, `after` is the last unit of this one. With
        `results=False` no result is read: `size` says how large it is.
        """
        return self.client.history(
            checked_run_id(run_id), limit=limit, after=after, results=results
        )

    def cancel(
        self,
        run_id: UUID | str,
        *,
        compensate: bool = False,
        reason: str | None = None,
        session: object = None,
    ) -> None:
        """Ask the run to end; a run that has ended stays as it is. Raises `RunNotFound`.

        No further unit begins. What waits ends at once; a unit that is being executed ends, and its
        result is dropped. With `compensate` its result counts, and everything completed is undone.
        """
        self.client.cancel(
            checked_run_id(run_id), compensate=compensate, reason=reason, session=session
        )

    def resume(
        self,
        run_id: UUID | str,
        signal: str,
        data: Any = None,
        *,
        key: str | None = None,
        session: object = None,
    ) -> Delivery:
        """Send the run a signal, for a wait or a suspended step. Raises `RunNotFound`.

        It may come before the run waits for it: it is kept until it is consumed or the run ends,
        signals of one name in the order in which they came. The same `key` under the same name
        counts once. With `session` it becomes visible, or vanishes, with the caller's transaction.
        """
        return self.client.resume(checked_run_id(run_id), signal, data, key=key, session=session)

    def recover(self) -> int:
        """Free what dead workers had claimed and send lost hints again; how many tokens were moved
        on.

        Harmless at any time, anywhere, any number at once. Relays do it too.
        """
        return self.client.recover()

    def migrate(self) -> None:
        """Create the tables, or bring them to this release."""
        schema.migrate(self.database.engine, self.settings.schema)

    def create_tables(self) -> None:
        """The same as `migrate`."""
        self.migrate()

    def autodiscover(self, packages: Sequence[str] | None = None) -> None:
        """Import the module `workflows` of these packages, as Celery does it with `tasks`.

        By default of every package that a fixup knows, which with Django is every installed app.
        """
        self.app.autodiscover_tasks(packages, related_name="workflows")

    async def astart(self, workflow: Workflow | str, input: object = None, **options: Any) -> Run:
        """`start`; `session` may be an AsyncSession too."""
        session = options.pop("session", None)
        return await self._joined_or_apart(
            session, lambda joined: self.start(workflow, input, session=joined, **options)
        )

    async def astart_many(
        self, workflow: Workflow | str, inputs: Sequence[object], **options: Any
    ) -> Runs:
        """`start_many`; `session` may be an AsyncSession too."""
        session = options.pop("session", None)
        return await self._joined_or_apart(
            session, lambda joined: self.start_many(workflow, inputs, session=joined, **options)
        )

    async def acancel(self, run_id: UUID | str, **options: Any) -> None:
        """`cancel`; `session` may be an AsyncSession too."""
        session = options.pop("session", None)
        await self._joined_or_apart(
            session, lambda joined: self.cancel(run_id, session=joined, **options)
        )

    async def aresume(
        self, run_id: UUID | str, signal: str, data: Any = None, **options: Any
    ) -> Delivery:
        """`resume`; `session` may be an AsyncSession too."""
        session = options.pop("session", None)
        return await self._joined_or_apart(
            session, lambda joined: self.resume(run_id, signal, data, session=joined, **options)
        )

    async def astatus(self, run_id: UUID | str, **options: Any) -> RunSnapshot:
        """`status`."""
        return await self.threads.call(lambda: self.status(run_id, **options))

    async def alist(self, **options: Any) -> Sequence[RunSummary]:
        """`list`."""
        return await self.threads.call(lambda: self.list(**options))

    async def ahistory(self, run_id: UUID | str, **options: Any) -> Sequence[JournalEntry]:
        """`history`."""
        return await self.threads.call(lambda: self.history(run_id, **options))

    async def arecover(self) -> int:
        """`recover`."""
        return await self.threads.call(self.recover)

    async def amigrate(self) -> None:
        """`migrate`."""
        await self.threads.call(self.migrate)

    async def _joined_or_apart(self, session: Any, call: Callable[[Any], T]) -> T:
        """Run `call` in the AsyncSession's or AsyncConnection's own transaction, or in a thread."""
        if session is None:
            return await self.threads.call(lambda: call(None))
        if not hasattr(session, "run_sync"):
            raise ConfigurationError(
                f"session= of an async method takes an AsyncSession or AsyncConnection,"
                f" not {type(session).__name__}."
            )
        result: T = await session.run_sync(call)
        return result


def _caller() -> tuple[str, int]:
    """The module and line that call the function which asks."""
    frame = sys._getframe(2)  # noqa: SLF001 - there is no other way to it
    return str(frame.f_globals.get("__name__")), frame.f_lineno

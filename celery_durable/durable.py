"""`Durable`: the one object users hold."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Literal, Protocol, TypeVar, Unpack, overload

from celery import Celery
from celery.canvas import Signature

from celery_durable.arguments import checked_key
from celery_durable.connected import twin
from celery_durable.core.finding import Finding
from celery_durable.core.generics import In, Returned
from celery_durable.core.retry import STEP_RETRY, RetryPolicy
from celery_durable.database import schema
from celery_durable.database.ends import Ends
from celery_durable.database.notify import Notifier
from celery_durable.errors import ConfigurationError
from celery_durable.ordinary.canvas import Canvas
from celery_durable.ordinary.canvas_workflows import build
from celery_durable.ordinary.signatures import hook_of
from celery_durable.process.once import once
from celery_durable.settings import default_retry, step_timeout
from celery_durable.worker import examination
from celery_durable.worker.host import Host
from celery_durable.worker.in_caller import InCaller
from celery_durable.worker.install import install
from celery_durable.worker.tasks import START, skips_overlap
from celery_durable.workflow.around import as_around
from celery_durable.workflow.builder import OfContext, Workflow
from celery_durable.workflow.context import Context
from celery_durable.workflow.hooks import NO_HOOKS, Hooks
from celery_durable.workflow.step import Handler, Step, StepOptions, as_step, made_step

Surrounding = TypeVar(
    "Surrounding", bound=Callable[[Any], AbstractContextManager[object] | Iterator[object]]
)
"""A function that `Durable.around` takes."""


class StepDecorator(Protocol):
    """Makes a step of a function: `durable.step` with options."""

    def __call__(self, function: OfContext[In, Returned], /) -> Step[In, Returned]:
        """Make the step."""
        ...


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

    @once
    def in_caller(self) -> InCaller | None:
        """What executes runs in their caller; None unless `task_always_eager` is set."""
        if self._app is None or not self._app.conf.task_always_eager:
            return None
        from celery_durable.testing.eager import Eager  # noqa: PLC0415 - only tests need it

        return Eager(self)

    @once
    def notify(self) -> Notifier:
        """The notifier, which wakes the relays, or executes what is due in this very call."""
        return self.in_caller or Notifier(self.database)

    @once
    def _ends(self) -> Ends:
        return Ends(self.database) if self.in_caller is None else self.in_caller.ends

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
        function: OfContext[In, Returned],
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        compensate: OfContext[In, object] | None = None,
        timeout: float | timedelta | None = None,
        queue: str | None = None,
        priority: int | None = None,
        transactional: bool = False,
        suspends: bool = False,
    ) -> Step[In, Returned]: ...

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
    ) -> StepDecorator: ...

    def step(
        self,
        function: Handler | None = None,
        *,
        name: str | None = None,
        compensate: Handler | None = None,
        **options: Any,
    ) -> Step | StepDecorator:
        """Decorator: make a step of a function of the context, plain or async.

        Options: `retry` (a `RetryPolicy`; default `durable_default_retry`), `timeout` (seconds or
        a timedelta; default `durable_step_timeout`), `queue`, `priority`, `transactional`
        (`ctx.session` then commits together with the step), `suspends` (a result whose `status` is
        "suspended" then waits for an answer). `compensate` is the function that undoes the step.
        """
        return made_step(function, name=name, compensate=compensate, **options)

    def step_of(
        self,
        task: Callable[..., object],
        *,
        args: Callable[[Context], Sequence[object]] | None = None,
        kwargs: Callable[[Context], Mapping[str, object]] | None = None,
        name: str | None = None,
        **options: Unpack[StepOptions],
    ) -> Step:
        """Make a step of an existing Celery task, for every place that takes a step.

        `args` and `kwargs` are functions of the context; the task is called with what they return.
        The other options are those of `step`. Where they say nothing, the task says it: its name,
        queue, priority, time limit, and `autoretry_for` with the options beside it. A plain
        function is taken, too. Raises `InvalidWorkflow` or `ConfigurationError`.
        """
        return as_step(task, args, kwargs, name).with_options(name, options)

    def around(self, function: Surrounding) -> Surrounding:
        """Decorator: execute every unit inside of a context manager; return the function as it is.

        `function` takes the unit's context, and is a generator function that yields once, or
        returns a context manager:

            @durable.around
            def in_flask(ctx):
                with flask_app.app_context():
                    yield

        It is entered before and left after each step, branch, item, iteration and compensation, and
        the functions between steps (selectors, `over`, `until`, ...), in the thread that executes
        them; nothing is entered for a wait. Several are entered in the order in which they were
        registered. What one raises is the unit's failure, as if its handler had raised it; what one
        swallows is raised again. Raises `ConfigurationError` for an async function.
        """
        self.around_each.append(as_around(function))
        return function

    @overload
    def workflow(
        self,
        name: str,
        *,
        version: int = 1,
        input: type[In],
        timeout: float | timedelta | None = None,
        expires: float | timedelta | None = None,
        on_completed: Signature | None = None,
        on_failed: Signature | None = None,
    ) -> Workflow[In]: ...

    @overload
    def workflow(
        self,
        name: str,
        *,
        version: int = 1,
        input: None = None,
        timeout: float | timedelta | None = None,
        expires: float | timedelta | None = None,
        on_completed: Signature | None = None,
        on_failed: Signature | None = None,
    ) -> Workflow: ...

    def workflow(
        self,
        name: str,
        *,
        version: int = 1,
        input: type | None = None,
        timeout: float | timedelta | None = None,
        expires: float | timedelta | None = None,
        on_completed: Signature | None = None,
        on_failed: Signature | None = None,
    ) -> Workflow:
        """Begin a workflow; chain `.step(...)` on what this returns.

        `input` is a dataclass or a pydantic model class; inputs are checked against it at start.
        `timeout` and `expires`, in seconds or timedeltas, hold for runs whose start names none, and
        for child runs: see `start`.

        `on_completed` and `on_failed` are signatures of ordinary tasks, such as `notify.s("ops")`.
        One is sent when a run ends with that status, if and only if the end commits, and at least
        once, always with the same task id. The task gets the run's id, a string, before its own
        arguments; one with `.si()` gets its own alone. Raises `InvalidWorkflow`.
        """
        module, line = _caller()
        self.modules.add(module)
        made = Workflow(
            name,
            version=version,
            input=input,
            timeout=timeout,
            expires=expires,
            hooks=Hooks(
                hook_of(name, "on_completed", on_completed), hook_of(name, "on_failed", on_failed)
            ),
            client=self,
            defined_at=f"{module}:{line}",
        )
        self.registry.add(made)
        return made

    def send_task(self, signature: Signature, *, session: object = None) -> str:
        """Send an ordinary task by the outbox, and return its id.

        With `session`, or inside of `joining`, it is sent if and when that transaction commits;
        else at once, also while the broker is away. It is sent at least once, always with the same
        id, and the tasks of one transaction in their order. `countdown` and `eta` count from this
        call.

        `signature` is of one task, `task.s(...)`, with any options; or it is a chain or a group,
        whose id is that of its last task, or of the group. Raises `ConfigurationError` for what the
        outbox cannot hold, such as a chord, and `PayloadError` for arguments that cannot be
        written or are longer than `durable_max_payload_bytes`, having written nothing.
        """
        composed = self.composer.compose(signature)
        self.put_tasks(composed.messages, self._joined(session))
        return composed.id

    asend_task = twin(send_task)

    def from_canvas(self, name: str, canvas: Signature, *, version: int = 1) -> Workflow:
        """Make a workflow of a canvas: a chain, group, chord, map, starmap or chunks, also nested.

        What a canvas hands on is handed on here: `.s()` takes the result before it as its first
        argument, `.si()` does not, and the result of a run is what `.get()` of the canvas would
        return. The input of a run, if it has one, is the first argument of the first task.

        A member of a group that is more than one task becomes a workflow of its own, called after
        this one. `countdown` and `eta` are sleeps. `link_error` is the workflow's `on_failed`; it
        gets the run's id before its own arguments. Raises `InvalidWorkflow` for what a workflow has
        no counterpart of; nothing is defined then.
        """
        module, line = _caller()
        self.modules.add(module)
        taken_apart = Canvas(f"from_canvas({name!r})", canvas, self)
        hooks = Hooks(on_failed=hook_of(name, "link_error", taken_apart.on_error))
        made: list[Workflow] = []

        def define(name: str, hooks: Hooks = NO_HOOKS) -> Workflow:
            defined_at = f"{module}:{line}"
            made.append(
                Workflow(name, version=version, hooks=hooks, client=self, defined_at=defined_at)
            )
            return made[-1]

        workflow = build(define(name, hooks), taken_apart.parts, define)
        for one in made:
            self.registry.add(one)
        return workflow

    def start_signature(
        self,
        workflow: Workflow,
        input: object = None,
        *,
        key: str | None = None,
        schedule: str | None = None,
        overlap: Literal["allow", "skip"] = "allow",
    ) -> Signature:
        """Return a signature that starts a run of a workflow; see `Workflow.s`.

        Raises `ConfigurationError` for a wrong `key` or `overlap`.
        """
        checked_key(key)
        skips_overlap(schedule, overlap)
        options = {"key": key, "schedule": schedule, "overlap": overlap}
        kwargs = {"workflow": workflow.name, "version": workflow.version, **options}
        is_said = input is not None
        args = (input,) if is_said else ()
        return Signature(START, args, kwargs, immutable=is_said, app=self.app)

    def migrate(self) -> None:
        """Create the tables, or bring them to this release."""
        schema.migrate(self.database.engine, self.settings.schema)

    amigrate = twin(migrate)

    def create_tables(self) -> None:
        """The same as `migrate`."""
        self.migrate()

    def doctor(self) -> Sequence[Finding]:
        """Look at all that runs depend on: settings, Postgres, broker, relays, workers, queues.

        Raises nothing for what is wrong: that is a finding. Takes seconds at most where Postgres
        and the broker answer; each question is given up after 20 s.
        """
        return examination.findings(self)

    adoctor = twin(doctor)

    def autodiscover(self, packages: Sequence[str] | None = None) -> None:
        """Import the module `workflows` of these packages, as Celery imports `tasks`.

        By default of every package that a fixup of Celery knows: with Django, every installed app.
        """
        self.app.autodiscover_tasks(packages, related_name="workflows")


def _caller() -> tuple[str, int]:
    """Return the module and line from which the caller of this function was called."""
    frame = sys._getframe(2)  # noqa: SLF001 - there is no public way to it
    return str(frame.f_globals.get("__name__")), frame.f_lineno

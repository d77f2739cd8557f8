"""Makes steps of Celery tasks: `durable.step_of(task, args=...)`, and a bare task as a handler.

A task that is a proxy stays one until the workflow is frozen. To resolve a proxy binds the task to
its app, which reads the configuration, or even finalizes the app: too early for a module that is
being imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from celery import Task
from celery.exceptions import NotRegistered
from celery.local import PromiseProxy, Proxy

from celery_durable.core.claim import Claim
from celery_durable.core.retry import RetryPolicy
from celery_durable.errors import GiveUp, InvalidWorkflow, nearest
from celery_durable.ordinary.canvas import NamedTask
from celery_durable.ordinary.task_attempt import perform, request_of
from celery_durable.ordinary.task_options import options_of
from celery_durable.workflow.options import Options
from celery_durable.workflow.step import Attempting, Handler, Step, adopting, checked_handler


@adopting
def step_of_task(
    handler: object, args: Handler | None, kwargs: Handler | None, name: str | None
) -> Step | None:
    """Return the step that calls a task; None if `handler` is none."""
    task: Any = handler
    if not is_task(task):
        return None
    for argument, function in (("args=", args), ("kwargs=", kwargs)):
        if function is not None:
            checked_handler(f"{argument} of a task", function)
    call = TaskCall(task, args, kwargs)
    own_name = name_of(task).rsplit(".", maxsplit=1)[-1]
    return Step(
        call, name=own_name if name is None else name, options=Options(), inherits=call.options
    )


def is_task(handler: object) -> bool:
    """Return True for a task, and for a proxy that stands for one, which is not resolved."""
    if type(handler) not in (Proxy, PromiseProxy):
        return isinstance(handler, Task | NamedTask)
    return _name_in(handler) is not None or isinstance(resolved(handler), Task)


def resolved(handler: Any) -> Any:
    """Return the task that a proxy or a name stands for; a task as it is."""
    if isinstance(handler, NamedTask):
        known = handler.host.app.tasks
        try:
            return known[handler.name]
        except NotRegistered:
            raise InvalidWorkflow(
                f"No task {handler.name!r} is registered in the app."
                f"{nearest(handler.name, known)} Import the module that defines it."
            ) from None
    is_proxy = type(handler) in (Proxy, PromiseProxy)
    return handler._get_current_object() if is_proxy else handler  # noqa: SLF001 - documented


def name_of(task: Any) -> str:
    """Return the full name of a task, without resolving a proxy."""
    found = _name_in(task) if type(task) in (Proxy, PromiseProxy) else None
    return str(task.name) if found is None else found


def _name_in(proxy: Any) -> str | None:
    """Return the name of the task that a proxy will resolve to; None if the proxy does not say it.

    `@app.task` keeps the function and its options in the proxy, `@shared_task` in a closure.
    """
    make: Any = _inside(proxy, "local")
    args: Any = _inside(proxy, "args")
    match getattr(make, "__name__", None):
        case "_task_from_fun" if args:
            (function,) = args
            own_name = _inside(proxy, "kwargs").get("name")
            found = own_name or make.__self__.gen_task_name(function.__name__, function.__module__)
        case "task_by_cons":
            kept = inspect.getclosurevars(make).nonlocals
            if "fun" not in kept:
                return None
            function = kept["fun"]
            found = kept.get("name") or f"{function.__module__}.{function.__name__}"
        case _:
            return None
    return str(found)


def _inside(proxy: Any, name: str) -> Any:
    """Return what a proxy has been made with; None once it has been resolved."""
    try:
        return object.__getattribute__(proxy, f"_Proxy__{name}")
    except AttributeError:
        return None


class TaskCall(Attempting):
    """Calls a task with what `args` and `kwargs`, functions of the context, return."""

    def __init__(self, task: Any, args: Handler | None, kwargs: Handler | None) -> None:
        self.task = task
        self.args = args
        self.kwargs = kwargs

    @property
    def user_functions(self) -> tuple[Any, Handler | None, Handler | None]:
        """What two definitions of a workflow are compared by."""
        return resolved(self.task), self.args, self.kwargs

    def __repr__(self) -> str:
        return f"<task {name_of(self.task)}>"

    def __call__(self, context: Any) -> Any:
        """Call the task in place, as `task(...)` does."""
        args, kwargs = self._arguments(context)
        return resolved(self.task)(*args, **kwargs)

    def attempt(self, context: Any, claim: Claim, policy: RetryPolicy) -> Any:
        """Call the task as Celery's worker does: with a request, its hooks, and signals."""
        task = resolved(self.task)
        args, kwargs = self._arguments(context)
        misfit = misfit_of(task, args, kwargs)
        if misfit is not None:
            raise GiveUp(
                f"{task.name} does not take the arguments that args= and kwargs= of"
                f" {claim.token.unit} returned: {misfit}"
            ) from misfit
        request = request_of(task, context.idempotency_key, claim, args, kwargs)
        request.in_transaction = context.is_transactional
        return perform(task, request, policy)

    def options(self) -> Options:
        """Return what the task says of queue, priority, time limit and retries."""
        task = resolved(self.task)
        nothing_said = self.args is None and self.kwargs is None
        misfit = misfit_of(task, (), {}) if nothing_said else None
        if misfit is not None:
            raise InvalidWorkflow(
                f"The step that calls {task.name} says no arguments: {misfit}. Give them, as"
                f" .step(task, args=lambda ctx: (...,)); elsewhere, as a branch or a handler, with"
                " durable.step_of(task, args=...)."
            ) from misfit
        return options_of(task)

    def _arguments(self, context: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args: Any = self.args(context) if self.args else ()
        kwargs: Any = self.kwargs(context) if self.kwargs else {}
        if not isinstance(args, Sequence) or isinstance(args, str | bytes):
            raise GiveUp(
                f"args= of the step that calls {name_of(self.task)} returned"
                f" {type(args).__name__}, not a tuple or list; for one argument: (value,)."
            )
        if not isinstance(kwargs, Mapping):
            raise GiveUp(
                f"kwargs= of the step that calls {name_of(self.task)} returned"
                f" {type(kwargs).__name__}, not a mapping."
            )
        return tuple(args), dict(kwargs)


def misfit_of(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TypeError | None:
    """Return why the task does not take these arguments; None if it does, or checks none."""
    check = getattr(task, "__header__", None)
    if check is None or not task.typing:
        return None
    try:
        check(*args, **kwargs)
    except TypeError as error:
        return error
    return None

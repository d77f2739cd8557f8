"""Steps: functions with options, and their compensators."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar, overload

from celery_durable.arguments import fits, flag_of, whole_of
from celery_durable.core.names import checked_name
from celery_durable.core.nodes import Compensator, Routing, StepNode
from celery_durable.core.plan import HIGHEST_PRIORITY
from celery_durable.core.retry import COMPENSATOR_RETRY, RetryPolicy
from celery_durable.errors import ConfigurationError, InvalidWorkflow, nearest
from celery_durable.workflow.arguments import FLAG, TIMEOUT, timeout_of

Handler = Callable[[Any], Any]
"""A function of the context, plain or `async def`."""

H = TypeVar("H", bound=Handler)


@dataclass(frozen=True, slots=True)
class Options:
    """How a step's or a compensator's function is executed. `timeout` is in seconds.

    `retry=None` and `timeout=None` stand for the defaults, which differ for the two.
    """

    retry: RetryPolicy | None = None
    timeout: float | None = None
    queue: str | None = None
    priority: int | None = None
    transactional: bool = False
    suspends: bool = False


def _policy(value: object) -> RetryPolicy | None:
    return value if isinstance(value, RetryPolicy) else None


LONGEST_QUEUE = 255
"""The longest name that AMQP allows, in characters."""


def _queue(value: object) -> str | None:
    return value if isinstance(value, str) and fits(value, LONGEST_QUEUE) else None


def _priority(value: object) -> int | None:
    return whole_of(value, 0, HIGHEST_PRIORITY)


_OPTION_CHECKS: Mapping[str, tuple[Callable[[object], object], str]] = {
    "retry": (_policy, "a RetryPolicy"),
    "timeout": (timeout_of, TIMEOUT),
    "queue": (_queue, "the name of a Celery queue, of 1 to 255 characters"),
    "priority": (_priority, f"a whole number from 0 to {HIGHEST_PRIORITY}"),
    "transactional": (flag_of, FLAG),
    "suspends": (flag_of, FLAG),
}
"""For each option a function that returns the value to keep, or None for a wrong one, and the words
of the error.
"""


def checked_options(
    owner: str, options: Mapping[str, Any], known: tuple[str, ...]
) -> dict[str, Any]:
    """Return those `options` that are not None, as `Options` keeps them.

    Raises `ConfigurationError` for a wrong name or value. `owner` is what errors call the step.
    """
    chosen: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            raise ConfigurationError(
                f"{owner} has no option {name!r}; it takes {', '.join(known)}."
                f"{nearest(name, known)}"
            )
        if value is None:
            continue
        check, words = _OPTION_CHECKS[name]
        checked = check(value)
        if checked is None:
            raise ConfigurationError(f"{owner}: {name}= takes {words}, not {value!r}.")
        chosen[name] = checked
    return chosen


STEP_OPTIONS = ("retry", "timeout", "queue", "priority", "transactional", "suspends")
COMPENSATOR_OPTIONS = ("retry", "timeout", "queue", "transactional")


def checked_handler(
    owner: str, function: object, takes: str = "a function of the context"
) -> Handler:
    """Return `function` if it can be called; raise `InvalidWorkflow` otherwise."""
    if not callable(function):
        raise InvalidWorkflow(f"{owner} takes {takes}, not {function!r}.")
    return function


@dataclass
class Compensation:
    """The compensator of a step, shared by copies of the step: it may be set after the copy."""

    function: Handler | None = None
    options: Options = field(default_factory=Options)


def name_of_function(function: Handler) -> str | None:
    """Return the function's name; None if it has none. Raises `InvalidWorkflow` for a lambda."""
    name = getattr(function, "__name__", None)
    if name == "<lambda>":
        raise InvalidWorkflow("A lambda has no name of its own; give the step name=.")
    return name


class Step:
    """A function with its options. Called with a context, it calls the function."""

    def __init__(self, function: Handler, *, name: str | None = None, options: Options) -> None:
        self.function = function
        checked_handler("step", function)
        self.name = checked_name("step", name_of_function(function) if name is None else name)
        self.options = options
        self._compensation = Compensation()
        functools.update_wrapper(self, function, updated=())

    @property
    def compensator(self) -> Handler | None:
        """The function that compensates this step."""
        return self._compensation.function

    def __call__(self, context: Any) -> Any:
        """Call the function with `context`, without the engine, and return its result."""
        return self.function(context)

    def __repr__(self) -> str:
        return f"<step {self.name}>"

    @overload
    def compensate(
        self,
        function: H,
        *,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
        queue: str | None = None,
        transactional: bool = False,
    ) -> H: ...

    @overload
    def compensate(
        self,
        function: None = None,
        *,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
        queue: str | None = None,
        transactional: bool = False,
    ) -> Callable[[H], H]: ...

    def compensate(self, function: H | None = None, **options: Any) -> H | Callable[[H], H]:
        """Decorator: make a function this step's compensator; it undoes the completed step.

        Options: `retry` (default 5 attempts), `timeout` (default none), `queue` (default the
        step's), `transactional`. In the function, `ctx.result` is what the step returned, and
        `ctx.error` is why the run is rolled back.
        """
        owner = f"compensate of step {self.name!r}"
        chosen = Options(**checked_options(owner, options, COMPENSATOR_OPTIONS))

        def decorate(function: H) -> H:
            if self.compensator is not None:
                raise InvalidWorkflow(f"Step {self.name!r} has a compensator already.")
            self._compensation.function = checked_handler(owner, function)
            self._compensation.options = chosen
            return function

        return decorate if function is None else decorate(function)

    def with_options(self, name: str | None, overrides: Mapping[str, Any]) -> Step:
        """Return a copy of this step with another name or other options, for one workflow."""
        name = self.name if name is None else name
        options = dict(overrides)
        compensator = options.pop("compensate", None)
        chosen = checked_options(f"step {name!r}", options, STEP_OPTIONS)
        step = Step(self.function, name=name, options=replace(self.options, **chosen))
        step._compensation = self._compensation
        if compensator is not None:
            function = checked_handler(f"compensate= of step {name!r}", compensator)
            step._compensation = Compensation(function)
        return step

    def node(
        self, default_retry: RetryPolicy, default_timeout: float | None, name: str | None = None
    ) -> StepNode:
        """Return the step's node for a plan, under its own name or that of its branch."""
        options = self.options
        timeout = default_timeout if options.timeout is None else options.timeout
        return StepNode(
            name=self.name if name is None else name,
            retry=options.retry or default_retry,
            routing=Routing(options.queue, options.priority, timeout),
            transactional=options.transactional,
            compensator=self._compensator_node(),
            suspends=options.suspends,
        )

    def _compensator_node(self) -> Compensator | None:
        if self.compensator is None:
            return None
        options = self._compensation.options
        # A compensator without a queue of its own executes where the step does.
        return Compensator(
            retry=options.retry or COMPENSATOR_RETRY,
            routing=Routing(
                options.queue or self.options.queue, self.options.priority, options.timeout
            ),
            transactional=options.transactional,
        )


def as_step(
    handler: object,
    args: Handler | None = None,
    kwargs: Handler | None = None,
    name: str | None = None,
) -> Step:
    """Return `handler` as a step: a decorated step as it is, any other callable wrapped, as `name`.

    With `args` or `kwargs`, functions of the context, the callable gets what they return instead of
    the context. So an existing Celery task or a plain function becomes a step.
    """
    if args is None and kwargs is None:
        if isinstance(handler, Step):
            return handler
        return Step(checked_handler("step", handler), name=name, options=Options())
    target = checked_handler("step", handler)
    for argument, function in (("args", args), ("kwargs", kwargs)):
        if function is not None:
            checked_handler(argument, function)

    @functools.wraps(target, updated=())
    def call(context: Any) -> Any:
        positional = args(context) if args else ()
        named = kwargs(context) if kwargs else {}
        return target(*positional, **named)

    call.user_functions = (target, args, kwargs)  # type: ignore[attr-defined]
    # A Celery task is called "package.tasks.send_email"; its step is `send_email`.
    full_name = str(getattr(handler, "name", None) or getattr(handler, "__name__", ""))
    last_name = full_name.rsplit(".", maxsplit=1)[-1] or None
    return Step(call, name=last_name if name is None else name, options=Options())


def user_functions(function: Handler) -> tuple[Handler | None, ...]:
    """Return a step's function; of a step with `args=` or `kwargs=`, the callable and those two."""
    found: tuple[Handler | None, ...] = getattr(function, "user_functions", (function,))
    return found

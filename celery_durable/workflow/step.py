"""Step functions and their options."""

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
    """How a function is run. `retry=None` and `timeout=None` are the defaults of its kind.

    `timeout` is in seconds.
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
"""AMQP's longest name."""


def _queue(value: object) -> str | None:
    return value if isinstance(value, str) and fits(value, LONGEST_QUEUE) else None


def _priority(value: object) -> int | None:
    return whole_of(value, 0, HIGHEST_PRIORITY)


_EXPECTED: Mapping[str, tuple[Callable[[object], object], str]] = {
    "retry": (_policy, "a RetryPolicy"),
    "timeout": (timeout_of, TIMEOUT),
    "queue": (_queue, "the name of a Celery queue, of 1 to 255 characters"),
    "priority": (_priority, f"a whole number from 0 to {HIGHEST_PRIORITY}"),
    "transactional": (flag_of, FLAG),
    "suspends": (flag_of, FLAG),
}
"""What makes of each option the value that is kept, and None of a wrong one."""


def checked_options(of: str, given: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    """The options in `given` that are not None, as `Options` keeps them.

    `ConfigurationError` for a wrong name or type.
    """
    chosen: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise ConfigurationError(
                f"{of} has no option {name!r}; it takes {', '.join(known)}.{nearest(name, known)}"
            )
        if value is None:
            continue
        check, words = _EXPECTED[name]
        checked = check(value)
        if checked is None:
            raise ConfigurationError(f"{of}: {name}= takes {words}, not {value!r}.")
        chosen[name] = checked
    return chosen


STEP_OPTIONS = ("retry", "timeout", "queue", "priority", "transactional", "suspends")
COMPENSATOR_OPTIONS = ("retry", "timeout", "queue", "transactional")


def checked_handler(of: str, function: object, takes: str = "a function of the context") -> Handler:
    """`function` if it can be called; `InvalidWorkflow` otherwise."""
    if not callable(function):
        raise InvalidWorkflow(f"{of} takes {takes}, not {function!r}.")
    return function


@dataclass
class Compensation:
    """A step's compensator: one, however often the step is placed with options of its own."""

    function: Handler | None = None
    options: Options = field(default_factory=Options)


def name_of(function: Handler) -> str | None:
    """What a step is called whose user did not say."""
    name = getattr(function, "__name__", None)
    if name == "<lambda>":
        raise InvalidWorkflow("A lambda has no name of its own; give the step name=.")
    return name


class Step:
    """A decorated step function. Called with a context, it calls the function."""

    def __init__(self, function: Handler, *, name: str | None = None, options: Options) -> None:
        self.function = function
        checked_handler("step", function)
        self.name = checked_name("step", name_of(function) if name is None else name)
        self.options = options
        self._undo = Compensation()
        functools.update_wrapper(self, function, updated=())

    @property
    def compensator(self) -> Handler | None:
        """The function that undoes this step."""
        return self._undo.function

    def __call__(self, context: Any) -> Any:
        """The function's own result, without any of the engine."""
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
        """Decorator: the function that undoes this step once it has completed.

        Options: `retry` (default 5 attempts), `timeout` (default none), `queue`, `transactional`.
        In it `ctx.result` is what the step returned and `ctx.error` why the run is rolled back.
        """
        of = f"compensate of step {self.name!r}"
        chosen = Options(**checked_options(of, options, COMPENSATOR_OPTIONS))

        def decorate(function: H) -> H:
            if self.compensator is not None:
                raise InvalidWorkflow(f"Step {self.name!r} has a compensator already.")
            self._undo.function = checked_handler(of, function)
            self._undo.options = chosen
            return function

        return decorate if function is None else decorate(function)

    def with_options(self, name: str | None, overrides: Mapping[str, Any]) -> Step:
        """This step under another name or with other options, in one workflow only."""
        name = self.name if name is None else name
        options = dict(overrides)
        undo = options.pop("compensate", None)
        chosen = checked_options(f"step {name!r}", options, STEP_OPTIONS)
        step = Step(self.function, name=name, options=replace(self.options, **chosen))
        step._undo = self._undo
        if undo is not None:
            step._undo = Compensation(checked_handler(f"compensate= of step {name!r}", undo))
        return step

    def node(
        self, default_retry: RetryPolicy, default_timeout: float | None, name: str | None = None
    ) -> StepNode:
        """The step's entry in a plan, under its own name or that of the branch it is."""
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
        options = self._undo.options
        # An undo runs where the step ran, unless it says otherwise.
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
    """`handler` as a step: a decorated step as it is, any other callable wrapped, as `name`.

    With `args` or `kwargs`, functions of the context, the callable is given what they return and
    not the context: that is how an existing Celery task or a plain function becomes a step.
    """
    if args is None and kwargs is None:
        if isinstance(handler, Step):
            return handler
        return Step(checked_handler("step", handler), name=name, options=Options())
    target = checked_handler("step", handler)
    for of, function in (("args", args), ("kwargs", kwargs)):
        if function is not None:
            checked_handler(of, function)

    @functools.wraps(target, updated=())
    def call(context: Any) -> Any:
        positional = args(context) if args else ()
        named = kwargs(context) if kwargs else {}
        return target(*positional, **named)

    call.made_of = (target, args, kwargs)  # type: ignore[attr-defined]
    # A Celery task is called "package.tasks.send_email"; its step is `send_email`.
    full_name = str(getattr(handler, "name", None) or getattr(handler, "__name__", ""))
    last_name = full_name.rsplit(".", maxsplit=1)[-1] or None
    return Step(call, name=last_name if name is None else name, options=Options())


def made_of(function: Handler) -> tuple[Handler | None, ...]:
    """The function, and those that give it its arguments if the context is not what it takes."""
    found: tuple[Handler | None, ...] = getattr(function, "made_of", (function,))
    return found

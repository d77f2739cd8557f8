"""Step functions and their options."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast, overload

from celery_durable.core.names import checked_name
from celery_durable.core.plan import HIGHEST_PRIORITY, Compensator, Placement, StepNode
from celery_durable.core.retry import COMPENSATOR_RETRY, RetryPolicy
from celery_durable.errors import ConfigurationError, InvalidWorkflow, nearest

Handler = Callable[[Any], Any]
"""A function of the context, plain or `async def`."""

H = TypeVar("H", bound=Handler)


@dataclass(frozen=True, slots=True)
class Options:
    """How a function is run. `retry=None` is the default policy of its kind."""

    retry: RetryPolicy | None = None
    queue: str | None = None
    priority: int | None = None
    transactional: bool = False

    @property
    def placement(self) -> Placement:
        """Where its messages go."""
        return Placement(self.queue, self.priority)


def _is_priority(value: object) -> bool:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return is_whole and 0 <= cast("int", value) <= HIGHEST_PRIORITY


_EXPECTED: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "retry": (lambda value: isinstance(value, RetryPolicy), "a RetryPolicy"),
    "queue": (
        lambda value: isinstance(value, str) and value != "",
        "the name of a Celery queue that is not empty",
    ),
    "priority": (_is_priority, f"a whole number from 0 to {HIGHEST_PRIORITY}"),
    "transactional": (lambda value: isinstance(value, bool), "True or False"),
}


def checked_options(of: str, given: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    """The options in `given` that are not None; `ConfigurationError` for a wrong name or type."""
    for name, value in given.items():
        if name not in known:
            raise ConfigurationError(
                f"{of} has no option {name!r}; it takes {', '.join(known)}.{nearest(name, known)}"
            )
        fits, words = _EXPECTED[name]
        if value is not None and not fits(value):
            raise ConfigurationError(f"{of}: {name}= takes {words}, not {value!r}.")
    return {name: value for name, value in given.items() if value is not None}


STEP_OPTIONS = ("retry", "queue", "priority", "transactional")
COMPENSATOR_OPTIONS = ("retry", "queue", "transactional")


def checked_handler(of: str, function: object) -> Handler:
    """`function` if it can be called; `InvalidWorkflow` otherwise."""
    if not callable(function):
        raise InvalidWorkflow(f"{of} takes a function of the context, not {function!r}.")
    return function


@dataclass
class Undo:
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
        self._undo = Undo()
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
        queue: str | None = None,
        transactional: bool = False,
    ) -> H: ...

    @overload
    def compensate(
        self,
        function: None = None,
        *,
        retry: RetryPolicy | None = None,
        queue: str | None = None,
        transactional: bool = False,
    ) -> Callable[[H], H]: ...

    def compensate(self, function: H | None = None, **options: Any) -> H | Callable[[H], H]:
        """Decorator: the function that undoes this step once it has completed.

        Options: `retry` (default 5 attempts), `queue`, `transactional`. In it `ctx.result` is what
        the step returned and `ctx.error` why the run is rolled back.
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
        chosen = checked_options(f"step {name!r}", overrides, STEP_OPTIONS)
        step = Step(self.function, name=name, options=replace(self.options, **chosen))
        step._undo = self._undo
        return step

    def node(self, default_retry: RetryPolicy) -> StepNode:
        """The step's entry in a plan."""
        return StepNode(
            name=self.name,
            retry=self.options.retry or default_retry,
            placement=self.options.placement,
            transactional=self.options.transactional,
            compensator=self._compensator_node(),
        )

    def _compensator_node(self) -> Compensator | None:
        if self.compensator is None:
            return None
        options = self._undo.options
        # An undo runs where the step ran, unless it says otherwise.
        return Compensator(
            retry=options.retry or COMPENSATOR_RETRY,
            placement=Placement(options.queue or self.options.queue, self.options.priority),
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

    # A Celery task is called "package.tasks.send_email"; its step is `send_email`.
    full_name = str(getattr(handler, "name", None) or getattr(handler, "__name__", ""))
    last_name = full_name.rsplit(".", maxsplit=1)[-1] or None
    return Step(call, name=last_name if name is None else name, options=Options())

"""Steps: functions with options, and their compensators."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Generic, Protocol, TypedDict, TypeVar, overload

from celery_durable.core.claim import Claim
from celery_durable.core.generics import In, Returned
from celery_durable.core.names import checked_name
from celery_durable.core.nodes import Compensator, Routing, StepNode
from celery_durable.core.retry import COMPENSATOR_RETRY, RetryPolicy
from celery_durable.errors import InvalidWorkflow
from celery_durable.workflow.context import Context
from celery_durable.workflow.options import (
    COMPENSATOR_OPTIONS,
    STEP_OPTIONS,
    Options,
    checked_options,
)

Handler = Callable[[Any], Any]
"""A function of the context, plain or `async def`."""

H = TypeVar("H", bound=Handler)


class StepOptions(TypedDict, total=False):
    """The options of a step in a workflow, as type checkers know them."""

    retry: RetryPolicy | None
    compensate: Handler | None
    timeout: float | timedelta | None
    queue: str | None
    priority: int | None
    transactional: bool | None
    suspends: bool | None


def checked_handler(
    owner: str, function: object, takes: str = "a function of the context"
) -> Handler:
    """Return `function` if it can be called; raise `InvalidWorkflow` otherwise."""
    if not callable(function):
        raise InvalidWorkflow(f"{owner} takes {takes}, not {function!r}.")
    return function


class Attempting:
    """A handler that needs to know more of an attempt than its context, as a Celery task does."""

    def __call__(self, context: Any) -> Any:
        """Call it without the engine."""
        raise NotImplementedError

    def attempt(self, context: Any, claim: Claim, policy: RetryPolicy) -> Any:
        """Call it in a worker; `policy` says if there is another attempt when it raises."""
        raise NotImplementedError


class Adopter(Protocol):
    """Makes a step of what is no function of the context; see `adopted`."""

    def __call__(
        self, handler: object, args: Handler | None, kwargs: Handler | None, name: str | None
    ) -> Step | None:
        """Return None for a handler of another kind, which may be anything."""
        ...


_adopters: list[Adopter] = []


def adopting(adopter: Adopter) -> Adopter:
    """Decorator: have `adopted` ask this function, too. So Celery is known where it may be."""
    _adopters.append(adopter)
    return adopter


def adopted(
    handler: object,
    args: Handler | None = None,
    kwargs: Handler | None = None,
    name: str | None = None,
) -> Step | None:
    """Return the step of a Celery task; None for any other handler.

    A task may be a proxy, which any look at it would resolve: ask this first.
    """
    found = (adopter(handler, args, kwargs, name) for adopter in _adopters)
    return next((step for step in found if step is not None), None)


@dataclass
class Compensation:
    """The compensator of a step, shared by copies of the step: it may be set after the copy.

    `step` is the compensator where it is a step with options of its own.
    """

    function: Handler | None = None
    said: Options = field(default_factory=Options)
    step: Step | None = None

    @property
    def options(self) -> Options:
        """How it is executed."""
        return self.said if self.step is None else self.said.over(self.step.options)

    def set(self, owner: str, function: object, said: Options) -> None:
        """Make a function, a step or a task the compensator; `owner` is what errors call it."""
        step = adopted(function) or function
        self.step = step if isinstance(step, Step) else None
        self.function = self.step.function if self.step else checked_handler(owner, function)
        self.said = said


def made_step(
    function: Handler | None,
    *,
    name: str | None = None,
    compensate: Handler | None = None,
    **options: Any,
) -> Step | Callable[[Handler], Step]:
    """Make a step of a function; without one, return the decorator that does."""
    chosen = Options(**checked_options("step", options, STEP_OPTIONS))

    def decorate(function: Handler) -> Step:
        made = Step(function, name=name, options=chosen)
        if compensate is not None:
            made.compensate(compensate)
        return made

    return decorate if function is None else decorate(function)


def name_of_function(function: Handler) -> str | None:
    """Return the function's name; None if it has none. Raises `InvalidWorkflow` for a lambda."""
    name = getattr(function, "__name__", None)
    if name == "<lambda>":
        raise InvalidWorkflow("A lambda has no name of its own; give the step name=.")
    return name


class Step(Generic[In, Returned]):
    """A function with its options. Called with a context, it calls the function."""

    def __init__(
        self,
        function: Callable[[Context[In]], Returned],
        *,
        name: str | None = None,
        options: Options,
        inherits: Callable[[], Options] = Options,
    ) -> None:
        self.function = function
        checked_handler("step", function)
        self.name = checked_name("step", name_of_function(function) if name is None else name)
        self._said = options
        self._inherits = inherits
        self._compensation = Compensation()
        functools.update_wrapper(self, function, updated=())

    @property
    def options(self) -> Options:
        """How it is executed: as it was said, else as its function says, if that is a task."""
        return self._said.over(self._inherits())

    @property
    def compensator(self) -> Handler | None:
        """The function that compensates this step."""
        return self._compensation.function

    def __call__(self, context: Context[In]) -> Returned:
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
            self._compensation.set(owner, function, chosen)
            return function

        return decorate if function is None else decorate(function)

    def with_options(self, name: str | None, overrides: Mapping[str, object]) -> Step[In, Returned]:
        """Return a copy of this step with another name or other options, for one workflow."""
        name = self.name if name is None else name
        options = dict(overrides)
        compensator = options.pop("compensate", None)
        chosen = checked_options(f"step {name!r}", options, STEP_OPTIONS)
        said = replace(self._said, **chosen)
        step = Step(self.function, name=name, options=said, inherits=self._inherits)
        step._compensation = self._compensation
        if compensator is not None:
            step._compensation = Compensation()
            step._compensation.set(f"compensate= of step {name!r}", compensator, Options())
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
    task = adopted(handler, args, kwargs, name)
    if task is not None:
        return task
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
    own_name = getattr(handler, "name" if isinstance(handler, Step) else "__name__", None)
    return Step(call, name=own_name if name is None else name, options=Options())


def user_functions(function: Handler) -> tuple[Handler | None, ...]:
    """Return a step's function; of a step with `args=` or `kwargs=`, the callable and those two."""
    found: tuple[Handler | None, ...] = getattr(function, "user_functions", (function,))
    return found

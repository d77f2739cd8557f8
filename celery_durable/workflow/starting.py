"""What a workflow starts its runs with: a client, and `async` twins of the methods that do."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from celery_durable.core.retry import RetryPolicy
from celery_durable.run import Run


class Starts(Protocol):
    """What starts its runs by a client."""

    @property
    def client(self) -> Starter:
        """The client."""
        ...


W = TypeVar("W", bound=Starts)
P = ParamSpec("P")
T = TypeVar("T")


class Starter(Protocol):
    """What a workflow needs of `Durable`: defaults for its steps, and a way to start its runs."""

    @property
    def default_retry(self) -> RetryPolicy:
        """The retry policy of steps that name none."""
        ...

    @property
    def default_timeout(self) -> float | None:
        """The time limit, in seconds, of steps that name no `timeout`."""
        ...

    def start(self, *args: Any, **options: Any) -> Run:
        """Start a run."""
        ...

    def start_many(self, *args: Any, **options: Any) -> list[Run]:
        """Start a run for each input."""
        ...

    def run(self, *args: Any, **options: Any) -> Run:
        """Return a handle on a run."""
        ...

    def arun(self, *args: Any, **options: Any) -> Coroutine[Any, Any, Run]:
        """Return a handle on a run."""
        ...

    def start_signature(self, *args: Any, **options: Any) -> Any:
        """Return a signature of the task that starts a run."""
        ...


def twin(
    method: Callable[Concatenate[W, P], T],
) -> Callable[Concatenate[W, P], Coroutine[Any, Any, T]]:
    """Make the `async` twin of a method that starts runs: `astart` of `start`."""
    name = f"a{method.__name__}"

    @functools.wraps(method)
    async def awaited(workflow: W, /, *args: P.args, **options: P.kwargs) -> T:
        start: Callable[..., Coroutine[Any, Any, T]] = getattr(workflow.client, name)
        return await start(workflow, *args, **options)

    awaited.__name__, awaited.__qualname__ = name, f"Workflow.{name}"
    awaited.__doc__ = (
        f"`{method.__name__}` for `async` code. `session` is an AsyncSession or AsyncConnection."
    )
    return awaited

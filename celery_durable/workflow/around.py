"""Context managers around units: what `durable.around` registers, and entering them.

They are functions of the user's, as handlers are: what one raises is the unit's failure, its time
limit strikes in them, and a process that one forks ends where it ends.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, cast

from celery_durable.errors import ConfigurationError
from celery_durable.process import interrupts
from celery_durable.workflow import forks

T = TypeVar("T")

Around = Callable[[Any], AbstractContextManager[object]]
"""Makes a context manager for a unit, of its context."""


def as_around(function: object) -> Around:
    """Return what makes the context manager: a generator function becomes one that yields once.

    Raises `ConfigurationError` for what is no plain function.
    """
    if inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function):
        raise ConfigurationError(
            f"durable.around takes a plain function, and {_named(function)} is async. It is entered"
            " in the thread of the unit, around async handlers too: write it with def and yield."
        )
    if not callable(function):
        raise ConfigurationError(
            "durable.around takes a function of the context that yields once, or that returns a"
            f" context manager, not {function!r:.80}."
        )
    return cast(
        "Around", contextmanager(function) if inspect.isgeneratorfunction(function) else function
    )


@contextmanager
def inside(around: Sequence[Around], context: object, name: str) -> Iterator[None]:
    """Execute the block inside of the context managers, the first of them outermost.

    None of them makes a success of a failure: what one swallows is raised again. `name` is for the
    log.
    """
    swallowed: BaseException | None = None
    with ExitStack() as stack:
        try:
            for make in around:
                stack.enter_context(_OfTheUser(make, context, name))
            yield
        except BaseException as error:
            swallowed = error
            raise
    if swallowed is not None:
        raise swallowed


class _OfTheUser:
    """A context manager of the user's, whose functions are called as handlers are."""

    def __init__(self, make: Around, context: object, name: str) -> None:
        self._make = make
        self._context = context
        self._name = name
        self._manager: Any = None

    def __enter__(self) -> None:
        self._manager = self._call(partial(self._make, self._context))
        if not hasattr(self._manager, "__exit__"):
            raise TypeError(
                f"{_named(self._make)}, which durable.around has registered, returned"
                f" {type(self._manager).__name__}: it must yield once, or return a context manager."
            )
        self._call(self._manager.__enter__)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        frames: TracebackType | None,
    ) -> bool:
        return bool(self._call(partial(self._manager.__exit__, kind, error, frames)))

    def _call(self, function: Callable[[], T]) -> T:
        return forks.ending_others(partial(interrupts.in_handler, function), self._name)


def _named(function: object) -> str:
    return str(getattr(function, "__qualname__", repr(function)))

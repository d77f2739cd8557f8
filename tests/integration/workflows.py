"""Handlers and small workflows that tests of several modules run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery_durable import Durable, Suspend
from tests.integration.driving import Define, noting

Handler = Callable[[Any], Any]


def fail(_: Any) -> None:
    raise ValueError("no")


def failing(message: str = "no") -> Callable[..., Any]:
    """A function of any arguments that raises."""

    def function(*_: Any) -> Any:
        raise ValueError(message)

    return function


def numbers(ctx: Any) -> list[int]:
    """As many items as the run's input says."""
    return list(range(ctx.input))


def saying(log: list[str], result: Any = None) -> Handler:
    """A handler that leaves its unit in `log`."""

    def handler(ctx: Any) -> Any:
        log.append(ctx.unit)
        return result

    return handler


def asking(before: Callable[[], object] = lambda: None) -> Handler:
    """A handler that waits for the signal `go`, and returns what came with it."""

    def ask(ctx: Any) -> Any:
        if ctx.is_resumed:
            return ctx.resume_data
        before()
        return Suspend(signal="go")

    return ask


def undoable(durable: Durable, log: list[str], name: str, result: Any = None) -> Any:
    """A step that leaves its unit in `log`, and so does what undoes it."""

    def undo(ctx: Any) -> None:
        log.append(ctx.unit)

    step = durable.step(name=name)(saying(log, result))
    step.compensate(undo)
    return step


def waiting(durable: Durable) -> None:
    """A wait for the signal `go`."""
    durable.workflow("w").wait_for_signal("s", "go")


def waiting_twice(durable: Durable) -> None:
    """Two waits for the same name."""
    durable.workflow("w").wait_for_signal("s", "go").wait_for_signal("t", "go")


def asking_twice(durable: Durable) -> None:
    """Two branches that wait for the same name."""
    ask = asking()
    durable.workflow("w").parallel("p", {"a": ask, "b": ask})


def with_a_child(durable: Durable) -> None:
    """A child of one step."""
    child = durable.workflow("child").step(noting([], "a"))
    durable.workflow("w").child_workflow("kid", child)


def looping(handler: Handler, **options: Any) -> Define:
    """A workflow of one loop, and a step after it."""
    options = {"max_iterations": 10, **options}

    def define(durable: Durable) -> None:
        durable.workflow("w").loop("poll", handler, **options).step(noting([], "after"))

    return define

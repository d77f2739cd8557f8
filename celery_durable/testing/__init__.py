"""Tools for users' tests, this library's own tests and the demo.

Nothing here is needed to run workflows, and nothing outside this package, `tests` and `examples`
imports it; but `Durable` asks for `eager` where `task_always_eager` is set. A name is imported when
it is first used. A module may need an extra (`pip install "celery-durable[demo]"`); each says so in
a `ConfigurationError` when it is used, not when it is imported.

    harness    executes runs in the thread of a test
    courier    brings it hints from the outbox, and lets time pass
    engine     the engine that does: it can be watched, and can die
    handles    handles on its runs, which execute instead of waiting
    crashes    repeats a run with a death at each commit
    report     what that has found
    clock      lets time pass
    eager      executes runs in their callers, under task_always_eager
    context    makes the argument of one handler
    places     finds where a function stands in a workflow
    messages   takes messages out of the outbox
    lease      the test's row among the workers
    plugin     fixtures for pytest
    pointing   points an app at the database of a test
    databases  creates and drops them
    embedded   a Postgres server that tests start and stop
    binaries   finds and copies the programs of that server
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery_durable.testing.context import RecordingContext, make_context
    from celery_durable.testing.engine import Executed
    from celery_durable.testing.handles import RunStands
    from celery_durable.testing.harness import Harness
    from celery_durable.testing.messages import SentTask
    from celery_durable.testing.report import CrashFinding, Report

_HOME = {
    "CrashFinding": "report",
    "Executed": "engine",
    "Harness": "harness",
    "RecordingContext": "context",
    "Report": "report",
    "RunStands": "handles",
    "SentTask": "messages",
    "make_context": "context",
}
"""Where a public name lives."""

__all__ = [
    "CrashFinding",
    "Executed",
    "Harness",
    "RecordingContext",
    "Report",
    "RunStands",
    "SentTask",
    "make_context",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return ["__doc__", *__all__]

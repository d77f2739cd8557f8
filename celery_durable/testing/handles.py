"""Handles on runs that are executed where somebody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, Protocol, cast
from uuid import UUID

from celery_durable.core.reason import Diagnosis
from celery_durable.core.status import FINISHED, Status
from celery_durable.database.ends import AsyncWaiter, Ends, Waiter
from celery_durable.durable import Durable
from celery_durable.errors import ResultTimeout
from celery_durable.run import Run


class RunStands(ResultTimeout):
    """A run of a test has not ended, and nothing but the test moves it on.

    `diagnosis` is what `durable.why` says of it.
    """

    def __init__(self, run_id: UUID, status: Status, diagnosis: Diagnosis) -> None:
        super().__init__(run_id, 0.0, status)
        self.diagnosis = diagnosis
        message = (
            f"Run {run_id} has not ended: it is {status}. {diagnosis}\n"
            "Nothing else moves it on in a test: send what it waits for, or let time pass with"
            " harness.advance(...)."
        )
        self.args = (message,)


def beside_the_loop(call: Callable[[], object]) -> None:
    """Call a function; in another thread if an event loop runs in this one.

    Steps may be coroutines, and a thread runs one event loop at a time.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        call()
        return
    inside = copy_context()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(inside.run, call).result()


class Executor(Protocol):
    """What a handle needs of a harness."""

    @property
    def durable(self) -> Durable:
        """The `Durable` of the runs."""
        ...

    def drain(self) -> int:
        """Execute all that is due."""
        ...


class InPlaceEnds(Ends):
    """Ends of runs that nobody tells: whoever asks for one executes what is due."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    @contextmanager
    def waiter(self, run_id: UUID) -> Iterator[Waiter]:
        """Yield a waiter that executes, and does not wait."""
        yield _Executing(partial(self._execute, run_id))

    @contextmanager
    def async_waiter(self, run_id: UUID) -> Iterator[AsyncWaiter]:
        """`waiter` for a coroutine; its event loop stands still meanwhile."""
        execute = partial(beside_the_loop, partial(self._execute, run_id))
        yield cast("AsyncWaiter", _Executing(execute))

    def close(self) -> None:
        """Nothing is open."""

    def _execute(self, run_id: UUID) -> None:
        """Execute all that is due; raise `RunStands` if the run has not ended then."""
        self._executor.drain()
        durable = self._executor.durable
        status = durable.status(run_id, results=False).status
        if status not in FINISHED:
            raise RunStands(run_id, Status(status), durable.why(run_id))


class _Executing(Waiter):
    """Executes when its run is looked at."""

    def __init__(self, execute: Callable[[], None]) -> None:
        self._execute = execute

    def begin_look(self) -> bool:
        """Execute what is due."""
        self._execute()
        return False


class HandleRuns:
    """The `Durable` of a handle, but for the ends of runs."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.ends = InPlaceEnds(executor)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor.durable, name)

    def retry(self, *args: Any, **options: Any) -> Run:
        """Start a run in the place of another; return a handle of the same kind."""
        return self.handle(self._executor.durable.retry(*args, **options))

    async def aretry(self, *args: Any, **options: Any) -> Run:
        """`retry`."""
        return self.handle(await self._executor.durable.aretry(*args, **options))

    def handle(self, run: Run) -> Run:
        """Return a handle on the run that executes instead of waiting."""
        return Run(cast("Any", self), run.id, created=run.created)

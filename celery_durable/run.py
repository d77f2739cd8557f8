"""`Run` is a handle on one run, and waits for its end, blocking or `async`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

from celery_durable.arguments import checked_seconds
from celery_durable.core.status import Status
from celery_durable.core.why import Diagnosis
from celery_durable.database.ends import Ends
from celery_durable.errors import ResultTimeout
from celery_durable.store.read.history import JournalEntry
from celery_durable.store.read.views import RunSnapshot
from celery_durable.store.signals import Delivery

FIRST_PAUSE, LAST_PAUSE = 0.002, 0.5
"""Seconds from one query for the outcome of a run to the next; each pause is half as long again."""

PAUSE_OF_THE_TOLD = 2.0
"""The same where the end of the run would be told."""


class Runs(Protocol):
    """What a handle needs of `Durable`."""

    @property
    def ends(self) -> Ends:
        """The ends of runs that this process waits for."""
        ...

    def outcome(self, run_id: UUID) -> tuple[Any] | Status:
        """Return the result of a completed run, in a tuple; the status of an unfinished run."""
        ...

    def aoutcome(self, run_id: UUID, /) -> Awaitable[tuple[Any] | Status]:
        """`outcome`."""
        ...

    def status(self, *args: Any, **options: Any) -> RunSnapshot:
        """Return the state of a run."""
        ...

    def history(self, *args: Any, **options: Any) -> Sequence[JournalEntry]:
        """Return the units that ended."""
        ...

    def why(self, *args: Any, **options: Any) -> Diagnosis:
        """Explain why a run stands where it stands."""
        ...

    def cancel(self, *args: Any, **options: Any) -> None:
        """Ask a run to end."""
        ...

    def resume(self, *args: Any, **options: Any) -> Delivery:
        """Send a run a signal."""
        ...

    def astatus(self, *args: Any, **options: Any) -> Awaitable[RunSnapshot]:
        """`status`."""
        ...

    def ahistory(self, *args: Any, **options: Any) -> Awaitable[Sequence[JournalEntry]]:
        """`history`."""
        ...

    def awhy(self, *args: Any, **options: Any) -> Awaitable[Diagnosis]:
        """`why`."""
        ...

    def acancel(self, *args: Any, **options: Any) -> Awaitable[None]:
        """`cancel`."""
        ...

    def aresume(self, *args: Any, **options: Any) -> Awaitable[Delivery]:
        """`resume`."""
        ...


class Run:
    """A run, by its id. `created` is False when `start` found a run with the same key."""

    __slots__ = ("_runs", "created", "id")

    def __init__(self, runs: Runs, run_id: UUID, *, created: bool = False) -> None:
        self._runs = runs
        self.id = run_id
        self.created = created

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def status(self, *, results: bool = True) -> RunSnapshot:
        """Return the state of the run at one moment; see `Durable.status`."""
        return self._runs.status(self.id, results=results)

    def history(
        self, *, limit: int | None = None, after: str | None = None, results: bool = True
    ) -> Sequence[JournalEntry]:
        """Return the units that ended, in order of completion; see `Durable.history`."""
        return self._runs.history(self.id, limit=limit, after=after, results=results)

    def why(self) -> Diagnosis:
        """Explain why the run stands where it stands; see `Durable.why`."""
        return self._runs.why(self.id)

    def result(self, timeout: float | timedelta | None = None) -> Any:
        """Wait for the end, at most `timeout` seconds, and return the run's result.

        The result is the mapping of the nodes' results, or what `.returns` made of it. Raises
        `RunFailed`, `RunCancelled`, `ResultTimeout` or `RunNotFound`.
        """
        pauses = Pauses(self.id, checked_seconds("timeout", timeout))
        with self._runs.ends.waiter(self.id) as waiter:
            while True:
                is_told = waiter.begin_look()
                answer = self._runs.outcome(self.id)
                if isinstance(answer, tuple):
                    return answer[0]
                waiter.wait(pauses.next(answer, is_told=is_told))

    def cancel(self, **options: Any) -> None:
        """Ask the run to end; see `Durable.cancel`."""
        self._runs.cancel(self.id, **options)

    def resume(self, signal: str, data: Any = None, **options: Any) -> Delivery:
        """Send the run a signal; see `Durable.resume`."""
        return self._runs.resume(self.id, signal, data, **options)

    async def aresume(self, signal: str, data: Any = None, **options: Any) -> Delivery:
        """`resume`; `session` may be an AsyncSession too."""
        return await self._runs.aresume(self.id, signal, data, **options)

    async def astatus(self, **options: Any) -> RunSnapshot:
        """`status`."""
        return await self._runs.astatus(self.id, **options)

    async def ahistory(self, **options: Any) -> Sequence[JournalEntry]:
        """`history`."""
        return await self._runs.ahistory(self.id, **options)

    async def awhy(self) -> Diagnosis:
        """`why`."""
        return await self._runs.awhy(self.id)

    async def aresult(self, timeout: float | timedelta | None = None) -> Any:  # noqa: ASYNC109
        """`result`; waiting holds no thread."""
        pauses = Pauses(self.id, checked_seconds("timeout", timeout))
        with self._runs.ends.async_waiter(self.id) as waiter:
            while True:
                is_told = waiter.begin_look()
                answer = await self._runs.aoutcome(self.id)
                if isinstance(answer, tuple):
                    return answer[0]
                await waiter.wait(pauses.next(answer, is_told=is_told))

    async def acancel(self, **options: Any) -> None:
        """`cancel`; `session` may be an AsyncSession too."""
        await self._runs.acancel(self.id, **options)


class Pauses:
    """The pauses between queries for the outcome of a run, at most `limit` seconds in all."""

    def __init__(self, run_id: UUID, limit: float | None) -> None:
        self._run_id = run_id
        self._limit = limit
        self._began = time.monotonic()
        self._next = FIRST_PAUSE

    def next(self, status: Status, *, is_told: bool) -> float:
        """Return the seconds until the next query; `ResultTimeout` if none are left.

        `is_told`: the end of the run would be told, if it came after the last query.
        """
        pause = PAUSE_OF_THE_TOLD if is_told else self._next
        self._next = LAST_PAUSE if is_told else min(1.5 * pause, LAST_PAUSE)
        if self._limit is None:
            return pause
        left = self._began + self._limit - time.monotonic()
        if left <= 0:
            raise ResultTimeout(self._run_id, self._limit, status)
        return min(pause, left)

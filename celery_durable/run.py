"""`Run` is a handle on one run, and waits for its end, blocking or `async`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence
from datetime import timedelta
from types import EllipsisType
from typing import Any, Generic, Protocol
from uuid import UUID

from celery_durable.arguments import checked_seconds
from celery_durable.core.generics import Out
from celery_durable.core.reason import Diagnosis
from celery_durable.core.status import Status
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

    def retry(self, *args: Any, **options: Any) -> Run[Any]:
        """Start a run in its place."""
        ...

    def retry_now(self, *args: Any, **options: Any) -> Sequence[str]:
        """Have a unit tried now."""
        ...

    def skip(self, *args: Any, **options: Any) -> None:
        """Record a unit by hand."""
        ...

    def retry_compensation(self, *args: Any, **options: Any) -> None:
        """Try failed compensations again."""
        ...

    def pause(self, *args: Any, **options: Any) -> bool:
        """Let no further unit begin."""
        ...

    def unpause(self, *args: Any, **options: Any) -> bool:
        """Take a pause back."""
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

    def aretry(self, *args: Any, **options: Any) -> Awaitable[Run[Any]]:
        """`retry`."""
        ...

    def aretry_now(self, *args: Any, **options: Any) -> Awaitable[Sequence[str]]:
        """`retry_now`."""
        ...

    def askip(self, *args: Any, **options: Any) -> Awaitable[None]:
        """`skip`."""
        ...

    def aretry_compensation(self, *args: Any, **options: Any) -> Awaitable[None]:
        """`retry_compensation`."""
        ...

    def apause(self, *args: Any, **options: Any) -> Awaitable[bool]:
        """`pause`."""
        ...

    def aunpause(self, *args: Any, **options: Any) -> Awaitable[bool]:
        """`unpause`."""
        ...


class Run(Generic[Out]):
    """A run, by its id. `created` is False when `start` found a run with the same key.

    `Run[Receipt]` has a result of the type `Receipt`: what the function of `.returns` returns.
    """

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

    def result(self, timeout: float | timedelta | None = None) -> Out:
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
                    result: Out = answer[0]
                    return result
                waiter.wait(pauses.next(answer, is_told=is_told))

    def cancel(
        self, *, compensate: bool = False, reason: str | None = None, session: object = None
    ) -> None:
        """Ask the run to end; see `Durable.cancel`."""
        self._runs.cancel(self.id, compensate=compensate, reason=reason, session=session)

    def resume(
        self, signal: str, data: object = None, *, key: str | None = None, session: object = None
    ) -> Delivery:
        """Send the run a signal; see `Durable.resume`."""
        return self._runs.resume(self.id, signal, data, key=key, session=session)

    def retry(
        self, *, from_step: str | None = None, input: object | EllipsisType = ...
    ) -> Run[Out]:
        """Start a run in place of this one, which has ended; see `Durable.retry`."""
        return self._runs.retry(self.id, from_step=from_step, input=input)

    def retry_now(self, unit: str | None = None) -> Sequence[str]:
        """Have units tried now that wait for their next try; see `Durable.retry_now`."""
        return self._runs.retry_now(self.id, unit)

    def skip(self, unit: str, result: object = None) -> None:
        """Record a unit as completed with `result`; see `Durable.skip`."""
        self._runs.skip(self.id, unit, result)

    def retry_compensation(self) -> None:
        """Try the compensations again that have failed; see `Durable.retry_compensation`."""
        self._runs.retry_compensation(self.id)

    def pause(self, *, step: str | None = None, reason: str | None = None) -> bool:
        """Let no further unit of the run begin; see `Durable.pause`."""
        return self._runs.pause(self.id, step=step, reason=reason)

    def unpause(self, *, step: str | None = None) -> bool:
        """Take `pause` back; see `Durable.unpause`."""
        return self._runs.unpause(self.id, step=step)

    async def aresume(
        self, signal: str, data: object = None, *, key: str | None = None, session: object = None
    ) -> Delivery:
        """`resume`; `session` is an AsyncSession or AsyncConnection."""
        return await self._runs.aresume(self.id, signal, data, key=key, session=session)

    async def astatus(self, *, results: bool = True) -> RunSnapshot:
        """`status`."""
        return await self._runs.astatus(self.id, results=results)

    async def ahistory(
        self, *, limit: int | None = None, after: str | None = None, results: bool = True
    ) -> Sequence[JournalEntry]:
        """`history`."""
        return await self._runs.ahistory(self.id, limit=limit, after=after, results=results)

    async def awhy(self) -> Diagnosis:
        """`why`."""
        return await self._runs.awhy(self.id)

    async def aresult(self, timeout: float | timedelta | None = None) -> Out:  # noqa: ASYNC109
        """`result`; waiting holds no thread."""
        pauses = Pauses(self.id, checked_seconds("timeout", timeout))
        with self._runs.ends.async_waiter(self.id) as waiter:
            while True:
                is_told = waiter.begin_look()
                answer = await self._runs.aoutcome(self.id)
                if isinstance(answer, tuple):
                    result: Out = answer[0]
                    return result
                await waiter.wait(pauses.next(answer, is_told=is_told))

    async def acancel(
        self, *, compensate: bool = False, reason: str | None = None, session: object = None
    ) -> None:
        """`cancel`; `session` is an AsyncSession or AsyncConnection."""
        await self._runs.acancel(self.id, compensate=compensate, reason=reason, session=session)

    async def aretry(
        self, *, from_step: str | None = None, input: object | EllipsisType = ...
    ) -> Run[Out]:
        """`retry`."""
        return await self._runs.aretry(self.id, from_step=from_step, input=input)

    async def aretry_now(self, unit: str | None = None) -> Sequence[str]:
        """`retry_now`."""
        return await self._runs.aretry_now(self.id, unit)

    async def askip(self, unit: str, result: object = None) -> None:
        """`skip`."""
        await self._runs.askip(self.id, unit, result)

    async def aretry_compensation(self) -> None:
        """`retry_compensation`."""
        await self._runs.aretry_compensation(self.id)

    async def apause(self, *, step: str | None = None, reason: str | None = None) -> bool:
        """`pause`."""
        return await self._runs.apause(self.id, step=step, reason=reason)

    async def aunpause(self, *, step: str | None = None) -> bool:
        """`unpause`."""
        return await self._runs.aunpause(self.id, step=step)


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

"""A handle on one run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from celery_durable.durable import Durable
    from celery_durable.store.signals import Delivery
from celery_durable.store.views import JournalEntry, RunSnapshot


class Run:
    """A run, by its id. `created` is False when `start` found a run with the same key."""

    __slots__ = ("_durable", "created", "id")

    def __init__(self, durable: Durable, run_id: UUID, *, created: bool = False) -> None:
        self._durable = durable
        self.id = run_id
        self.created = created

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def status(self, *, results: bool = True) -> RunSnapshot:
        """How the run stood at one moment; see `Durable.status`."""
        return self._durable.status(self.id, results=results)

    def history(
        self, *, limit: int | None = None, after: str | None = None, results: bool = True
    ) -> Sequence[JournalEntry]:
        """The units that ended, in order of completion; see `Durable.history`."""
        return self._durable.history(self.id, limit=limit, after=after, results=results)

    def result(self, timeout: float | timedelta | None = None) -> Any:
        """Wait for the end, at most `timeout` seconds, and return the run's result.

        The mapping of its nodes' results, or what `.returns` made. Raises `RunFailed`,
        `RunCancelled`, `ResultTimeout` or `RunNotFound`.
        """
        return self._durable.client.result(self.id, timeout)

    def cancel(self, **options: Any) -> None:
        """Ask the run to end; see `Durable.cancel`."""
        self._durable.cancel(self.id, **options)

    def resume(self, signal: str, data: Any = None, **options: Any) -> Delivery:
        """Send the run a signal; see `Durable.resume`."""
        return self._durable.resume(self.id, signal, data, **options)

    async def aresume(self, signal: str, data: Any = None, **options: Any) -> Delivery:
        """`resume`; `session` may be an AsyncSession too."""
        return await self._durable.aresume(self.id, signal, data, **options)

    async def astatus(self, **options: Any) -> RunSnapshot:
        """`status`."""
        return await self._durable.astatus(self.id, **options)

    async def ahistory(self, **options: Any) -> Sequence[JournalEntry]:
        """`history`."""
        return await self._durable.ahistory(self.id, **options)

    async def aresult(self, timeout: float | timedelta | None = None) -> Any:  # noqa: ASYNC109
        """`result`; however many wait, they hold no thread."""
        ending = self._durable.client.ending(self.id, timeout)
        while True:
            answer = await self._durable.threads.call(ending.look)
            if isinstance(answer, tuple):
                return answer[0]
            await asyncio.sleep(answer)

    async def acancel(self, **options: Any) -> None:
        """`cancel`; `session` may be an AsyncSession too."""
        await self._durable.acancel(self.id, **options)

"""Callers on an event loop: they hold no thread while they wait, and none of the application's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from celery_durable import Durable
from celery_durable.run import Run
from tests.integration.driving import World, noting

MANY = 60
PATIENCE = 20.0


def define(durable: Durable) -> None:
    durable.workflow("w").wait_for_signal("go")


async def with_one_thread(of_the_application: Callable[[], Awaitable[None]]) -> None:
    """Run on a loop whose default executor is the application's, and has one thread."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    async with asyncio.timeout(PATIENCE):
        await of_the_application()


def test_any_number_may_wait_for_results_and_hold_no_thread(world: World) -> None:
    worker = world.worker(define)
    runs = [worker.start("w") for _ in range(MANY)]
    world.drain(worker)

    async def main() -> None:
        waiting = [asyncio.create_task(run.aresult()) for run in runs]
        # More than there are threads; so all have looked once and wait when these are answered.
        assert {(await run.astatus()).status for run in runs} == {"suspended"}
        deliveries = await asyncio.gather(*(run.aresume("go", n) for n, run in enumerate(runs)))
        assert {delivery.outcome for delivery in deliveries} == {"stored"}
        assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()
        await asyncio.to_thread(world.drain, worker)
        assert await asyncio.gather(*waiting) == [{"go": n} for n in range(MANY)]

    asyncio.run(with_one_thread(main))


def test_no_async_method_uses_a_thread_of_the_application(world: World) -> None:
    worker = world.worker(define)
    gate = threading.Event()

    async def main() -> None:
        # The application's one thread is taken.
        blocked = asyncio.create_task(asyncio.to_thread(gate.wait, PATIENCE))
        try:
            run = await worker.astart("w")
            (other,) = await worker.astart_many("w", [None])
            await other.acancel()
            await worker.acancel(other.id)
            assert (await run.aresume("go")).accepted
            assert (await worker.aresume(run.id, "go", key="k")).accepted
            assert (await run.astatus()).run_id == (await worker.astatus(run.id)).run_id
            assert await run.ahistory() == await worker.ahistory(run.id) == []
            assert len(await worker.alist()) == 2
            await worker.arecover()
            await worker.amigrate()
            assert not blocked.done()
        finally:
            gate.set()
        assert await blocked

    asyncio.run(with_one_thread(main))


def test_a_wait_that_is_cancelled_leaves_nothing_behind(world: World) -> None:
    worker = world.worker(define)
    runs = [worker.start("w") for _ in range(MANY)]

    async def main() -> None:
        waiting = [asyncio.create_task(run.aresult()) for run in runs]
        await runs[0].astatus()
        for task in waiting:
            task.cancel()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(one) for one in ended} == {asyncio.CancelledError}
        # Every thread is free again: as many calls as there are threads are answered.
        await asyncio.gather(*(run.astatus() for run in runs))

    asyncio.run(with_one_thread(main))


def test_a_timeout_of_the_caller_ends_the_wait(world: World) -> None:
    worker = world.worker(lambda durable: durable.workflow("w").step(noting([], "a")))
    run: Run = worker.start("w")

    async def main() -> str:
        try:
            async with asyncio.timeout(0.05):
                await run.aresult()
        except TimeoutError:
            return "timed out"
        return "ended"

    assert asyncio.run(main()) == "timed out"

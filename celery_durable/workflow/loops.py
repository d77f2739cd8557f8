"""Runs coroutines to their end, and ends everything that they leave behind.

A thread keeps its event loop from one coroutine to the next, since clients that handlers keep may
be bound to it. A loop in which a coroutine failed, or left something behind, is closed.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
from collections.abc import Coroutine
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar, cast

T = TypeVar("T")

logger = logging.getLogger(__name__)

ENDS_WITHIN = 2.0
"""Seconds within which the tasks that a coroutine left behind have to end, once cancelled."""

QUIET_WITHIN = 10
"""Most turns of the loop until no callback of an ended task is left."""

MOST_THREADS = 1000
"""Most coroutines at once in a process whose threads are greenlets."""

_thread = threading.local()
"""Each thread's `runner`, which has the event loop that the thread keeps."""


def run(coroutine: Coroutine[Any, Any, T], name: str) -> T:
    """Run `coroutine` and return its result; end what it leaves behind. `name` is for the log."""
    if threads_are_greenlets():
        return _run_in_a_thread(coroutine, name)
    return _run(coroutine, name)


def _run(coroutine: Coroutine[Any, Any, T], name: str) -> T:
    runner: asyncio.Runner = getattr(_thread, "runner", None) or _new_runner()
    _thread.runner = None
    is_clean = False
    try:
        result = runner.run(coroutine, context=contextvars.copy_context())
        is_clean = _is_clean(runner.get_loop(), name)
    finally:
        if is_clean:
            _thread.runner = runner
        else:
            _close(runner.get_loop(), name)
    return result


def _new_runner() -> asyncio.Runner:
    """Return a runner whose loop is not the thread's current one: plain handlers may set that."""
    return asyncio.Runner(loop_factory=asyncio.new_event_loop)


def _is_clean(loop: asyncio.AbstractEventLoop, name: str) -> bool:
    """Return True if nothing of this coroutine runs when the loop runs the next one."""
    timers: Any = getattr(loop, "_scheduled", ())
    for timer in timers:
        timer.cancel()
    turns = 0
    ready: Any = getattr(loop, "_ready", ())
    while not (left := asyncio.all_tasks(loop)) and ready:
        if turns == QUIET_WITHIN:
            return False
        turns += 1
        loop.run_until_complete(asyncio.sleep(0))
    if left:
        logger.warning(
            "%s left %d asyncio tasks behind, which are cancelled: await them before it returns",
            name,
            len(left),
        )
    generators: Any = getattr(loop, "_asyncgens", ())
    return not left and not generators


def _close(loop: asyncio.AbstractEventLoop, name: str) -> None:
    try:
        loop.run_until_complete(_end_everything(name))
    finally:
        loop.close()


async def _end_everything(name: str) -> None:
    """End all tasks and generators that are left in the loop, also those that resist."""
    me = asyncio.current_task()
    left = asyncio.all_tasks() - {me}
    for task in left:
        task.cancel()
    if left:
        _, left = await asyncio.wait(left, timeout=ENDS_WITHIN)
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.get_running_loop().shutdown_asyncgens(), ENDS_WITHIN)
    for task in asyncio.all_tasks() - {me}:
        logger.warning("%s left a task that cannot be cancelled: %r", name, task)
        with suppress(RuntimeError):  # it ignores GeneratorExit, and is forgotten
            task.get_coro().close()


def threads_are_greenlets() -> bool:
    """Return True if gevent has replaced the threads of this process."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and monkey.is_module_patched("threading")


def _run_in_a_thread(coroutine: Coroutine[Any, Any, T], name: str) -> T:
    """Run `coroutine` in a real thread: in one thread asyncio runs one loop at a time."""
    context = contextvars.copy_context()
    loops: list[asyncio.AbstractEventLoop] = []

    async def noting_its_loop() -> T:
        loops.append(asyncio.get_running_loop())
        return await coroutine

    def work() -> tuple[T | None, BaseException | None]:
        try:
            return context.run(_run, noting_its_loop(), name), None
        except BaseException as error:  # noqa: BLE001 - raised in the greenlet that waits
            return None, error

    try:
        result, error = _threads().apply(work)
    except BaseException:  # the greenlet is killed
        for loop in loops:
            loop.call_soon_threadsafe(_cancel_all, loop)
        raise
    if error is not None:
        raise error
    return cast("T", result)


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()


@cache
def _threads() -> Any:
    from gevent.threadpool import ThreadPool  # noqa: PLC0415 - optional

    return ThreadPool(MOST_THREADS)

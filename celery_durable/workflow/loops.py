"""Running coroutines to their end, and with them everything that they have begun.

A thread keeps its event loop from one coroutine to the next, since clients that handlers keep may
be bound to it. A loop in which something went wrong, or was left, is closed and never used again.
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
"""Seconds that what a coroutine has left behind has to end in, once it is cancelled."""

SETTLES_WITHIN = 10
"""Turns of the loop in which what is done has been noted everywhere."""

MOST_THREADS = 1000
"""Most coroutines at once in a process whose threads are greenlets."""

_here = threading.local()


def run(coroutine: Coroutine[Any, Any, T], what: str) -> T:
    """What `coroutine` returns. What it leaves behind is ended before this returns or raises.

    `what` names it in the log.
    """
    if threads_are_greenlets():
        return _run_in_a_thread(coroutine, what)
    return _run(coroutine, what)


def _run(coroutine: Coroutine[Any, Any, T], what: str) -> T:
    runner: asyncio.Runner = getattr(_here, "runner", None) or _new_runner()
    _here.runner = None
    is_clean = False
    try:
        result = runner.run(coroutine, context=contextvars.copy_context())
        is_clean = _is_clean(runner.get_loop(), what)
    finally:
        if is_clean:
            _here.runner = runner
        else:
            _close(runner.get_loop(), what)
    return result


def _new_runner() -> asyncio.Runner:
    """One whose loop is not the thread's current one: that is for plain handlers to set."""
    return asyncio.Runner(loop_factory=asyncio.new_event_loop)


def _is_clean(loop: asyncio.AbstractEventLoop, what: str) -> bool:
    """Whether nothing runs when the loop runs next, but what has been noted by then."""
    timers: Any = getattr(loop, "_scheduled", ())
    for timer in timers:
        timer.cancel()
    turns = 0
    ready: Any = getattr(loop, "_ready", ())
    while not (left := asyncio.all_tasks(loop)) and ready:
        if turns == SETTLES_WITHIN:
            return False
        turns += 1
        loop.run_until_complete(asyncio.sleep(0))
    if left:
        logger.warning(
            "%s left %d asyncio tasks behind, which are cancelled: await them before it returns",
            what,
            len(left),
        )
    generators: Any = getattr(loop, "_asyncgens", ())
    return not left and not generators


def _close(loop: asyncio.AbstractEventLoop, what: str) -> None:
    try:
        loop.run_until_complete(_end(what))
    finally:
        loop.close()


async def _end(what: str) -> None:
    """End all that is left in the loop, whatever it makes of that."""
    me = asyncio.current_task()
    left = asyncio.all_tasks() - {me}
    for task in left:
        task.cancel()
    if left:
        _, left = await asyncio.wait(left, timeout=ENDS_WITHIN)
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.get_running_loop().shutdown_asyncgens(), ENDS_WITHIN)
    for task in asyncio.all_tasks() - {me}:
        logger.warning("%s left a task that cannot be cancelled: %r", what, task)
        with suppress(RuntimeError):  # it goes on despite GeneratorExit: then it is forgotten
            task.get_coro().close()


def threads_are_greenlets() -> bool:
    """Whether this process is gevent's."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and monkey.is_module_patched("threading")


def _run_in_a_thread(coroutine: Coroutine[Any, Any, T], what: str) -> T:
    """Run it in a thread that is one: in one thread asyncio runs one loop at a time."""
    context = contextvars.copy_context()
    loops: list[asyncio.AbstractEventLoop] = []

    async def noting_its_loop() -> T:
        loops.append(asyncio.get_running_loop())
        return await coroutine

    def work() -> tuple[T | None, BaseException | None]:
        try:
            return context.run(_run, noting_its_loop(), what), None
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
    from gevent.threadpool import ThreadPool  # noqa: PLC0415 - nobody else has it

    return ThreadPool(MOST_THREADS)

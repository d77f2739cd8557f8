"""Running user code: a claim in, an event out."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import random
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from celery_durable.core.claim import Claim
from celery_durable.core.decide import retry_policy
from celery_durable.core.event import Event, Failed, Succeeded
from celery_durable.core.failure import ErrorRecord
from celery_durable.core.names import RETURNS
from celery_durable.errors import GiveUp, PayloadError, RetryLater
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.context import Context
from celery_durable.workflow.step import Handler

MESSAGE_LIMIT = 5_000
TRACEBACK_LIMIT = 20_000
"""Most characters that are kept of a failure's message and, from its end, of its traceback."""


@dataclass(frozen=True, slots=True)
class Execution:
    """What happened, and the exception behind it for the log."""

    event: Event
    exception: BaseException | None = None


def execute(
    workflow: Workflow, claim: Claim, context: Context, encode: Callable[[object, str], str]
) -> Execution:
    """Call the unit's function. Whatever it does is an event, also a result without JSON form."""
    unit = claim.token.unit
    try:
        result = _call(function_of(workflow, claim), context)
        text = encode(result, f"the result of {unit}")
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - user code may fail here
        return Execution(failure_of(workflow, claim, error), error)
    return Execution(Succeeded(text, claim.seen_at))


def function_of(workflow: Workflow, claim: Claim) -> Handler:
    """The callable that belongs to the unit in hand."""
    token = claim.token
    if token.unit == RETURNS:
        function = workflow.result_function
    elif token.rollback is not None:
        function = workflow.step_called(token.node).compensator
    else:
        function = workflow.step_called(token.node).function
    assert function is not None, token.unit
    return function


def failure_of(workflow: Workflow, claim: Claim, error: BaseException) -> Failed:
    """The event of a unit that failed with `error`, as its retry policy sees it."""
    record = record_of(error, claim.token.unit)
    match error:
        case RetryLater():
            return Failed(record, claim.seen_at, delay=error.delay, counts=error.counts)
        case GiveUp() | PayloadError():
            return Failed(record, claim.seen_at, may_retry=False)
        case _:
            pass
    may_retry = retry_policy(workflow.plan, claim.token).retries(error)
    return Failed(record, claim.seen_at, may_retry=may_retry, chance=_chance())


def record_of(error: BaseException, unit: str) -> ErrorRecord:
    """An exception as it is stored: text without NUL or lone surrogates, of bounded length."""
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "celery_durable.errors"):
        name = f"{kind.__module__}.{name}"
    lines = "".join(traceback.format_exception(kind, error, _of_handler(error.__traceback__)))
    return ErrorRecord(
        type=name,
        message=_storable(_text_of(error))[:MESSAGE_LIMIT],
        traceback=_storable(lines)[-TRACEBACK_LIMIT:],
        unit=unit,
    )


_OURS = (__name__, "celery_durable.workflow.step", "asyncio.")


def _of_handler(frames: TracebackType | None) -> TracebackType | None:
    """`frames` without ours before the handler's, which are what the reader wants."""
    first = frames
    while first is not None and first.tb_frame.f_globals["__name__"].startswith(_OURS):
        first = first.tb_next
    return first or frames


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - a user's __str__ may fail as well
        return f"(its message cannot be printed: {type(broken).__name__})"


def _storable(text: str) -> str:
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _chance() -> float:
    return random.random()  # noqa: S311 - jitter, not a secret


_loops = threading.local()


def _call(function: Handler, context: Context) -> Any:
    result = function(context)
    return _finish(result) if inspect.iscoroutine(result) else result


def _finish(coroutine: Any) -> Any:
    """Run a coroutine on this thread's own event loop, which is kept for the next one."""
    runner: asyncio.Runner | None = getattr(_loops, "runner", None)
    if runner is None:
        runner = _loops.runner = asyncio.Runner()
    return runner.run(coroutine, context=contextvars.copy_context())

"""Exceptions of user code -> events and records."""

from __future__ import annotations

import random
import traceback
from types import TracebackType

from celery_durable.core.claim import Claim
from celery_durable.core.event import Failed
from celery_durable.core.units import unit_of
from celery_durable.errors import ErrorRecord, GiveUp, PayloadError, RetryLater, StepTimeout
from celery_durable.workflow.builder import Workflow

MESSAGE_LIMIT = 5_000
TRACEBACK_LIMIT = 20_000
"""Most characters that are kept of a failure's message and, from its end, of its traceback."""


def failure_of(
    workflow: Workflow,
    claim: Claim,
    error: BaseException,
    timeouts: tuple[type[BaseException], ...] = (),
) -> Failed:
    """The event of a unit that failed with `error`, as its retry policy sees it."""
    if isinstance(error, timeouts) and claim.time_limit is not None:
        return timed_out(workflow, claim, record_of(error, claim.token.unit).traceback)
    record = record_of(error, claim.token.unit)
    match error:
        case RetryLater():
            return Failed(record, claim.seen_at, delay=error.delay, counts=error.counts)
        case GiveUp() | PayloadError():
            return Failed(record, claim.seen_at, may_retry=False)
        case _:
            pass
    may_retry = unit_of(workflow.plan, claim.token).retry.retries(error)
    return Failed(record, claim.seen_at, may_retry=may_retry, chance=_chance())


def timed_out(workflow: Workflow, claim: Claim, trace: str = "") -> Failed:
    """The event of a unit that has taken longer than its time limit."""
    whose = "timeout=" if _names_a_timeout(workflow, claim) else "durable_step_timeout"
    error = StepTimeout(f"{claim.token.unit} took longer than its {claim.time_limit:g} s ({whose})")
    record = ErrorRecord("StepTimeout", str(error), trace, claim.token.unit)
    may_retry = unit_of(workflow.plan, claim.token).retry.retries(error)
    return Failed(record, claim.seen_at, may_retry=may_retry, chance=_chance())


def _names_a_timeout(workflow: Workflow, claim: Claim) -> bool:
    """Whether the limit is the unit's own; only a step can have it from the settings."""
    token = claim.token
    if token.rollback is not None:
        return True
    return workflow.step_of(token.node, token.part).options.timeout is not None


def record_of(error: BaseException, unit: str) -> ErrorRecord:
    """An exception as it is stored: text without NUL or lone surrogates, of bounded length."""
    # Of this library's exceptions, users know those of `errors`.
    kind = next(one for one in type(error).__mro__ if not one.__module__.startswith(_INNER))
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "celery_durable.errors"):
        name = f"{kind.__module__}.{name}"
    lines = "".join(
        traceback.format_exception(type(error), error, _of_handler(error.__traceback__))
    )
    return ErrorRecord(
        type=name,
        message=_storable(_text_of(error))[:MESSAGE_LIMIT],
        traceback=_storable(lines)[-TRACEBACK_LIMIT:],
        unit=unit,
    )


_INNER = "celery_durable.store"
_OURS = ("celery_durable.workflow.", "celery_durable.process.interrupts", "asyncio.")


def of_handler_only(error: BaseException) -> BaseException:
    """The same exception, its traceback without the engine's frames: for the log."""
    return error.with_traceback(_of_handler(error.__traceback__))


def _of_handler(frames: TracebackType | None) -> TracebackType | None:
    """`frames` without ours before the handler's, which are what the reader wants."""
    first = frames
    while first is not None and first.tb_frame.f_globals["__name__"].startswith(_OURS):
        first = first.tb_next
    return first or frames


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:  # noqa: BLE001 - a user's __str__ may fail as well
        return f"(its message cannot be printed: {type(broken).__name__})"


def _storable(text: str) -> str:
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _chance() -> float:
    return random.random()  # noqa: S311 - jitter, not a secret

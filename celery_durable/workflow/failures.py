"""Makes events and error records of the exceptions that user code raises."""

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
"""Most characters stored of an error's message (its beginning) and of its traceback (its end)."""


def failure_of(
    workflow: Workflow,
    claim: Claim,
    error: BaseException,
    timeouts: tuple[type[BaseException], ...] = (),
) -> Failed:
    """Return the event of a unit that failed with `error`; its policy says if it may retry."""
    if isinstance(error, timeouts) and claim.time_limit is not None:
        return timed_out(workflow, claim, error_record_of(error, claim.token.unit).traceback)
    record = error_record_of(error, claim.token.unit)
    match error:
        case RetryLater():
            return Failed(
                record,
                claim.seen_at,
                delay=error.delay,
                counts=error.counts,
                is_bounded=error.is_bounded,
            )
        case GiveUp() | PayloadError():
            return Failed(record, claim.seen_at, may_retry=False)
        case _:
            pass
    may_retry = unit_of(workflow.plan, claim.token).retry.retries(error)
    return Failed(record, claim.seen_at, may_retry=may_retry, chance=_chance())


def timed_out(workflow: Workflow, claim: Claim, trace: str = "") -> Failed:
    """Return the event of a unit that took longer than its time limit."""
    source = "timeout=" if _has_own_timeout(workflow, claim) else "durable_step_timeout"
    error = StepTimeout(
        f"{claim.token.unit} took longer than its {claim.time_limit:g} s ({source})"
    )
    record = ErrorRecord("StepTimeout", str(error), trace, claim.token.unit)
    may_retry = unit_of(workflow.plan, claim.token).retry.retries(error)
    return Failed(record, claim.seen_at, may_retry=may_retry, chance=_chance())


def _has_own_timeout(workflow: Workflow, claim: Claim) -> bool:
    """Return False if the time limit comes from the settings; only a step's can."""
    token = claim.token
    if token.rollback is not None:
        return True
    return workflow.step_of(token.node, token.part).options.timeout is not None


def error_record_of(error: BaseException, unit: str) -> ErrorRecord:
    """Return what is stored of an exception: bounded text without NUL or lone surrogates."""
    # Users know the exceptions of `errors`, and not those that `store` derives from them.
    kind = next(
        one for one in type(error).__mro__ if not one.__module__.startswith(_PRIVATE_ERRORS)
    )
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "celery_durable.errors"):
        name = f"{kind.__module__}.{name}"
    lines = "".join(
        traceback.format_exception(type(error), error, _handlers_frames(error.__traceback__))
    )
    return ErrorRecord(
        type=name,
        message=_storable(_message_of(error))[:MESSAGE_LIMIT],
        traceback=_storable(lines)[-TRACEBACK_LIMIT:],
        unit=unit,
    )


_PRIVATE_ERRORS = "celery_durable.store"
_ENGINE = (
    "celery_durable.workflow.",
    "celery_durable.ordinary.",
    "celery_durable.process.interrupts",
    "celery.app.",
    "asyncio.",
    "contextlib",
)


def without_engine_frames(error: BaseException) -> BaseException:
    """Return `error` with a traceback that begins in the handler: for the log."""
    return error.with_traceback(_handlers_frames(error.__traceback__))


def _handlers_frames(frames: TracebackType | None) -> TracebackType | None:
    """Return `frames` without the engine's at their beginning; all if the handler has none."""
    first = frames
    while first is not None and first.tb_frame.f_globals["__name__"].startswith(_ENGINE):
        first = first.tb_next
    return first or frames


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:  # noqa: BLE001 - a user's __str__ may fail as well
        return f"(its message cannot be printed: {type(broken).__name__})"


def _storable(text: str) -> str:
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _chance() -> float:
    return random.random()  # noqa: S311 - jitter, not a secret

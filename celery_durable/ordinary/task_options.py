"""What a Celery task says of its execution, as the options of a step."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from celery_durable.core.retry import UNLIMITED, RetryPolicy
from celery_durable.errors import ConfigurationError, InvalidWorkflow, StepTimeout
from celery_durable.workflow.options import STEP_OPTIONS, Options, checked_options

logger = logging.getLogger(__name__)

TIMEOUTS = (SoftTimeLimitExceeded, TimeLimitExceeded)

NOT_HONOURED: Mapping[str, str] = {
    "rate_limit": "steps are not limited; let a worker of few processes consume a queue of its own",
    "expires": "a step is never too late; say expires= of the workflow, or of the start",
}
"""Options without a counterpart, and what does something like it."""

_warned: set[tuple[str, str]] = set()


def options_of(task: Any) -> Options:
    """Return the options of the step that calls `task`. Raises `InvalidWorkflow`.

    The limit that a task can react to, the soft one, is the step's `timeout` if there are both.
    """
    _warn_of_options_without_effect(task)
    chosen = {
        "retry": retry_of(task),
        "timeout": _limit_of(task, "soft_time_limit") or _limit_of(task, "time_limit") or None,
        "queue": queue_of(task),
        "priority": task.priority,
    }
    try:
        return Options(**checked_options(f"task {task.name}", chosen, STEP_OPTIONS))
    except ConfigurationError as error:
        raise InvalidWorkflow(
            f"{error} It is an option of the task: change it there, or say another for the step."
        ) from error


def _limit_of(task: Any, option: str) -> float | None:
    """Return a time limit of the task, else of the app, which Celery 5.5 leaves to the pool."""
    own: float | None = getattr(task, option)
    return task.app.conf[f"task_{option}"] if own is None else own


def _warn_of_options_without_effect(task: Any) -> None:
    for option, instead in NOT_HONOURED.items():
        value = getattr(task, option, None)
        if value and (task.name, option) not in _warned:
            _warned.add((task.name, option))
            logger.warning(
                "%s=%r of the task %s has no effect where it is a step: %s",
                option,
                value,
                task.name,
                instead,
            )


def retry_of(task: Any) -> RetryPolicy:
    """Return what `autoretry_for` and the options beside it say.

    `self.retry()` keeps to limits of its own; where a task has no `autoretry_for`, what it raises
    is not tried again.
    """
    retried = _exceptions(task, "autoretry_for")
    if not retried:
        return RetryPolicy(max_attempts=1)
    said: Mapping[str, Any] = getattr(task, "retry_kwargs", None) or {}
    most = said.get("max_retries", task.max_retries)
    attempts = UNLIMITED if most is None else max(most + 1, 1)
    excepted = _exceptions(task, "dont_autoretry_for")
    factor = float(getattr(task, "retry_backoff", False))
    if factor:
        return RetryPolicy(
            max_attempts=attempts,
            initial=int(max(1.0, factor)),
            maximum=int(getattr(task, "retry_backoff_max", 600)),
            jitter=bool(getattr(task, "retry_jitter", True)),
            retry_on=retried,
            give_up_on=excepted,
        )
    wait = said.get("countdown", task.default_retry_delay)
    return RetryPolicy(
        max_attempts=attempts,
        backoff="fixed",
        initial=wait,
        maximum=wait,
        jitter=False,
        retry_on=retried,
        give_up_on=excepted,
    )


def _exceptions(task: Any, option: str) -> tuple[type[BaseException], ...]:
    """Return the exceptions that an option names; a time limit of Celery's is ours here, too."""
    named = tuple(getattr(task, option, None) or ())
    return (*named, StepTimeout) if set(named) & set(TIMEOUTS) else named


def queue_of(task: Any) -> str | None:
    """Return the queue to which the task is sent; None where nothing but the default says so."""
    own = _name_of_queue(getattr(task, "queue", None))
    if own is not None:
        return own
    route = task.app.amqp.router.lookup_route(task.name, (), {}, {}, task)
    found: Mapping[str, Any] = {"queue": route} if isinstance(route, str) else route or {}
    queue = _name_of_queue(found.get("queue"))
    exchange = found.get("exchange") or getattr(task, "exchange", None)
    if queue is None and exchange:
        raise InvalidWorkflow(
            f"The task {task.name} is sent to the exchange {exchange!r}, and a step is sent to a"
            " queue: say queue= for the step."
        )
    return queue


def _name_of_queue(queue: Any) -> str | None:
    return str(getattr(queue, "name", queue)) if queue else None

"""How a step is executed: its options and its compensator's, and checks of what users say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from celery_durable.arguments import fits, flag_of, whole_of
from celery_durable.core.plan import HIGHEST_PRIORITY
from celery_durable.core.retry import RetryPolicy
from celery_durable.errors import ConfigurationError, nearest
from celery_durable.workflow.arguments import FLAG, TIMEOUT, timeout_of


@dataclass(frozen=True, slots=True)
class Options:
    """How a step's or a compensator's function is executed. `timeout` is in seconds.

    `retry=None` and `timeout=None` stand for the defaults, which differ for the two.
    """

    retry: RetryPolicy | None = None
    timeout: float | None = None
    queue: str | None = None
    priority: int | None = None
    transactional: bool = False
    suspends: bool = False

    def over(self, others: Options) -> Options:
        """Return these options, and those of `others` where these say nothing."""
        return Options(
            retry=self.retry or others.retry,
            timeout=others.timeout if self.timeout is None else self.timeout,
            queue=self.queue or others.queue,
            priority=others.priority if self.priority is None else self.priority,
            transactional=self.transactional or others.transactional,
            suspends=self.suspends or others.suspends,
        )


def _policy(value: object) -> RetryPolicy | None:
    return value if isinstance(value, RetryPolicy) else None


LONGEST_QUEUE = 255
"""The longest name that AMQP allows, in characters."""


def _queue(value: object) -> str | None:
    return value if isinstance(value, str) and fits(value, LONGEST_QUEUE) else None


def _priority(value: object) -> int | None:
    return whole_of(value, 0, HIGHEST_PRIORITY)


_OPTION_CHECKS: Mapping[str, tuple[Callable[[object], object], str]] = {
    "retry": (_policy, "a RetryPolicy"),
    "timeout": (timeout_of, TIMEOUT),
    "queue": (_queue, "the name of a Celery queue, of 1 to 255 characters"),
    "priority": (_priority, f"a whole number from 0 to {HIGHEST_PRIORITY}"),
    "transactional": (flag_of, FLAG),
    "suspends": (flag_of, FLAG),
}
"""For each option a function that returns the value to keep, or None for a wrong one, and the words
of the error.
"""


def checked_options(
    owner: str, options: Mapping[str, Any], known: tuple[str, ...]
) -> dict[str, Any]:
    """Return those `options` that are not None, as `Options` keeps them.

    Raises `ConfigurationError` for a wrong name or value. `owner` is what errors call the step.
    """
    chosen: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            raise ConfigurationError(
                f"{owner} has no option {name!r}; it takes {', '.join(known)}."
                f"{nearest(name, known)}"
            )
        if value is None:
            continue
        check, words = _OPTION_CHECKS[name]
        checked = check(value)
        if checked is None:
            raise ConfigurationError(f"{owner}: {name}= takes {words}, not {value!r}.")
        chosen[name] = checked
    return chosen


STEP_OPTIONS = ("retry", "timeout", "queue", "priority", "transactional", "suspends")
COMPENSATOR_OPTIONS = ("retry", "timeout", "queue", "transactional")

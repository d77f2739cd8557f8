"""Time limits of a whole app do not hold for our messages.

Celery takes the limit that a message names, else its task's, of which ours have none, else its
pool's, of the settings or the command line. A message of ours that names none may take any
time: it may execute many units, and what counts the tries of a unit knows of its own limit only.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import bootsteps

from celery_durable.store.outbox import ADVANCE, COMPENSATE
from celery_durable.worker.host import Host
from celery_durable.worker.queues import consumes_durable

logger = logging.getLogger(__name__)

LIMITED = (ADVANCE, COMPENSATE)
"""The tasks whose messages may name a limit."""

OURS = "durable."


def limits_step(durable: Host) -> type[bootsteps.StartStopStep]:
    """The boot step that lifts the limits of `durable`'s app from our messages."""

    class DurableLimits(bootsteps.StartStopStep):
        """Before the first message, and in every worker: a queue may be added to it later."""

        requires = ("celery.worker.components:Pool",)

        def start(self, parent: Any) -> None:
            lift_limits(parent.pool)
            if consumes_durable(durable, parent.app):
                tell_of_lifted_limits(durable, parent)

    return DurableLimits


def lift_limits(pool: Any) -> None:
    """Give our messages the limits that they name, and no others."""
    apply = pool.on_apply

    def on_apply(target: Any, args: Any = (), *more: Any, **options: Any) -> Any:
        if not (args and str(args[0]).startswith(OURS)):
            return apply(target, args, *more, **options)
        hard, soft = limits_of(args)
        if pool.is_green:
            hard = 0  # it would be raised in whatever the greenlet is at; the deadline is enough
        options |= {"timeout": hard, "soft_timeout": soft}
        result = apply(target, args, *more, **options)
        if hasattr(result, "_soft_timeout"):
            # For 0 the pool has taken its own. It looks at these once a process has the message.
            vars(result).update(_timeout=hard, _soft_timeout=soft)
        return result

    pool.on_apply = on_apply


def limits_of(args: Any) -> tuple[float, float]:
    """The hard and the soft limit that a message names; 0 is none.

    `args` are those of Celery's function that executes a message: its task, its id, its headers,
    ... (`Request.execute_using_pool`).
    """
    hard, soft = args[2].get("timelimit") or (0, 0)
    return (hard or 0, soft or 0) if args[0] in LIMITED else (0, 0)


def tell_of_lifted_limits(durable: Host, worker: Any) -> None:
    """Say once that limits which users may count on do not hold here."""
    limits = [worker.time_limit, worker.soft_time_limit]
    for annotation in worker.app.annotations:
        of_any_task = annotation.annotate_any() or {}
        limits += [of_any_task.get("time_limit"), of_any_task.get("soft_time_limit")]
    found = [limit for limit in limits if limit]
    if found and durable.settings.step_timeout is None:
        logger.warning(
            "Celery's time limit of %g s does not hold for durable steps. Set durable_step_timeout,"
            " or timeout= of a step.",
            min(found),
        )

"""Keeps the time limits of the app from our messages.

Celery applies the limit that a message names, else that of its task, of which ours have none, else
that of its pool, from the settings or the command line. A message of ours that names no limit may
take any time: it may execute many units, and attempts are counted by the unit's own limit only.
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
    """Return the boot step that keeps the limits of `durable`'s app from our messages."""

    class DurableLimits(bootsteps.StartStopStep):
        """Starts before the first message, in every worker: a queue may be added to it later."""

        requires = ("celery.worker.components:Pool",)

        def start(self, parent: Any) -> None:
            lift_limits(parent.pool)
            if consumes_durable(durable, parent.app):
                warn_of_lifted_limits(durable, parent)

    return DurableLimits


def lift_limits(pool: Any) -> None:
    """Give our messages the limits that they name, and no others."""
    apply = pool.on_apply

    def on_apply(target: Any, args: Any = (), *more: Any, **options: Any) -> Any:
        if not (args and str(args[0]).startswith(OURS)):
            return apply(target, args, *more, **options)
        hard, soft = limits_of(args)
        if pool.is_green:
            hard = 0  # would be raised anywhere in the greenlet; our own deadline is enough
        options |= {"timeout": hard, "soft_timeout": soft}
        result = apply(target, args, *more, **options)
        if hasattr(result, "_soft_timeout"):
            # The pool takes 0 for its own limit. It reads these once a process has the message.
            vars(result).update(_timeout=hard, _soft_timeout=soft)
        return result

    pool.on_apply = on_apply


def limits_of(args: Any) -> tuple[float, float]:
    """Return the hard and the soft limit that a message names; 0 is none.

    `args` are the arguments of Celery's function that executes a message: task, id, headers, ...
    (`Request.execute_using_pool`).
    """
    hard, soft = args[2].get("timelimit") or (0, 0)
    return (hard or 0, soft or 0) if args[0] in LIMITED else (0, 0)


def warn_of_lifted_limits(durable: Host, worker: Any) -> None:
    """Warn once that limits which users may count on have no effect here."""
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

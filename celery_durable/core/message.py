"""An ordinary Celery task, as the outbox keeps it."""

from __future__ import annotations

from celery_durable.core.values import value


@value(frozen=True, slots=True)
class TaskMessage:
    """A task that is sent if, and only if, the transaction commits which writes it.

    `args`, `kwargs` and `options` are JSON text; the task's id is among the options, so that a
    message which is published twice is told by it. `queue` is empty where the app's routes decide.
    `delay` is in seconds; None sends it at once.
    """

    task: str
    args: str
    kwargs: str
    options: str
    queue: str = ""
    priority: int = 0
    delay: float | None = None

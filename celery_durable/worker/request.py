"""How a worker's main process holds a message of ours."""

from __future__ import annotations

import inspect
import logging
from typing import Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.platforms import EX_FAILURE
from celery.worker import state
from celery.worker.request import Request

logger = logging.getLogger(__name__)

LOST = (WorkerLostError, SystemExit, KeyboardInterrupt)
"""What Celery says of a message whose process has ended, or is about to."""


SAYS_WHY = "emit_retry" in inspect.signature(Request.cancel).parameters
"""Whether Celery tells a cold shutdown from a lost connection; 5.5 does not."""


def follow_cold_shutdown(consumer: Any) -> None:
    """Let a cold shutdown of Celery 5.5 end what is in hand, as that of later versions does."""

    def cancel_all_unacked_requests() -> None:
        for request in tuple(state.active_requests):
            if request.task.acks_late and request.acknowledged:
                continue
            if isinstance(request, LastingRequest):
                request.cancel(consumer.pool, emit_retry=False)
            else:
                request.cancel(consumer.pool)

    if not SAYS_WHY:
        consumer.cancel_all_unacked_requests = cancel_all_unacked_requests


class Expected:
    """Writes in a line what kombu calls critical: a message that cannot be acknowledged.

    Its connection is gone, which Celery says once. Of ours, what comes again changes nothing.
    """

    @staticmethod
    def critical(text: str, *args: object, **_: object) -> None:
        """Called with the connection's error."""
        logger.info("%s; the message comes again, and changes nothing", text % args)


class LastingRequest(Request):
    """A message whose execution goes on when the connection to the broker is lost.

    `worker_cancel_long_running_tasks_on_connection_loss` ends what cannot be acknowledged any more,
    since it will be delivered again. Of ours, what is delivered again finds its token claimed.
    """

    acknowledged: bool

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Called when the connection is lost, and without `emit_retry` in a cold shutdown."""
        if emit_retry:
            return
        try:
            super().cancel(pool, signal, **({"emit_retry": False} if SAYS_WHY else {}))
        except NotImplementedError:
            # Nothing ends a thread from outside. Celery would call this an unrecoverable error, and
            # then stop as it does now: when the steps in hand have ended.
            raise SystemExit(EX_FAILURE) from None

    def acknowledge(self) -> None:
        """As Celery does, which names a logger of its own."""
        if not self.acknowledged:
            self._on_ack(Expected, self._connection_errors)
            self.acknowledged = True

    def reject(self, requeue: bool = False) -> None:
        """As Celery does, which names a logger of its own."""
        if not self.acknowledged:
            self._on_reject(Expected, self._connection_errors, requeue)
            self.acknowledged = True
            self.send_event("task-rejected", requeue=requeue)

    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> None:
        """Called when the task has raised, or its process has ended.

        The latter is no failure: the message goes back to its queue, and the unit is taken over.
        """
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        is_told = self._already_cancelled or self._already_revoked
        if isinstance(error, LOST) and not is_told:
            logger.warning(
                "A process ended while it executed %s[%s], which goes back to its queue: %r",
                self.name,
                self.id,
                error,
            )
            if not isinstance(error, WorkerLostError):
                exc_info = _as_lost(error)  # Celery 5.5 takes only that for the end of a process
            return_ok = True
        super().on_failure(exc_info, send_failed_event, return_ok)


def _as_lost(error: BaseException) -> ExceptionInfo:
    try:
        raise WorkerLostError(repr(error))  # noqa: TRY301 - it needs a traceback
    except WorkerLostError:
        return ExceptionInfo()

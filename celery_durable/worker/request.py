"""`LastingRequest` is a message of ours in a worker's main process."""

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

PROCESS_ENDS = (WorkerLostError, SystemExit, KeyboardInterrupt)
"""The errors of a message whose process has ended, or is about to."""

HAS_EMIT_RETRY = "emit_retry" in inspect.signature(Request.cancel).parameters
"""True if `cancel` tells a cold shutdown from a lost connection, by `emit_retry`; not in 5.5."""


def follow_cold_shutdown(consumer: Any) -> None:
    """Make a cold shutdown of Celery 5.5 cancel what is executing, as later versions do."""

    def cancel_all_unacked_requests() -> None:
        for request in tuple(state.active_requests):
            if request.task.acks_late and request.acknowledged:
                continue
            if isinstance(request, LastingRequest):
                request.cancel(consumer.pool, emit_retry=False)
            else:
                request.cancel(consumer.pool)

    if not HAS_EMIT_RETRY:
        consumer.cancel_all_unacked_requests = cancel_all_unacked_requests


class CalmLogger:
    """Logs at info what kombu logs as critical: a message that cannot be acknowledged.

    Its connection is gone, which Celery logs once. A message of ours that comes again changes
    nothing.
    """

    @staticmethod
    def critical(text: str, *args: object, **_: object) -> None:
        """Called with the connection's error."""
        logger.info("%s; the message comes again, and changes nothing", text % args)


class LastingRequest(Request):
    """A message whose execution goes on when the connection to the broker is lost.

    `worker_cancel_long_running_tasks_on_connection_loss` ends tasks whose messages can no longer be
    acknowledged, since those are delivered again. A message of ours then finds its token claimed.
    """

    acknowledged: bool

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Called when the connection is lost; in a cold shutdown with `emit_retry=False`."""
        if emit_retry:
            return
        try:
            super().cancel(pool, signal, **({"emit_retry": False} if HAS_EMIT_RETRY else {}))
        except NotImplementedError:
            # Nothing ends a thread from outside. Celery would log an unrecoverable error, and then
            # stop as it does now: when the executing steps have ended.
            raise SystemExit(EX_FAILURE) from None

    def acknowledge(self) -> None:
        """Do as Celery does, with another logger."""
        if not self.acknowledged:
            self._on_ack(CalmLogger, self._connection_errors)
            self.acknowledged = True

    def reject(self, requeue: bool = False) -> None:
        """Do as Celery does, with another logger."""
        if not self.acknowledged:
            self._on_reject(CalmLogger, self._connection_errors, requeue)
            self.acknowledged = True
            self.send_event("task-rejected", requeue=requeue)

    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> None:
        """Called when the task has raised, or its process has ended.

        The latter is no failure: the message goes back to its queue, and another worker takes the
        unit over.
        """
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        is_wanted = self._already_cancelled or self._already_revoked
        if isinstance(error, PROCESS_ENDS) and not is_wanted:
            logger.warning(
                "A process ended while it executed %s[%s], which goes back to its queue: %r",
                self.name,
                self.id,
                error,
            )
            if not isinstance(error, WorkerLostError):
                # Celery 5.5 takes no other error for the end of a process.
                exc_info = _as_lost(error)
            return_ok = True
        super().on_failure(exc_info, send_failed_event, return_ok)


def _as_lost(error: BaseException) -> ExceptionInfo:
    try:
        raise WorkerLostError(repr(error))  # noqa: TRY301 - it needs a traceback
    except WorkerLostError:
        return ExceptionInfo()

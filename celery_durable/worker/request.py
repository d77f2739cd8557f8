"""How a worker's main process holds a message of ours."""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request


class LastingRequest(Request):
    """A message whose execution goes on when the connection to the broker is lost.

    `worker_cancel_long_running_tasks_on_connection_loss` ends what cannot be acknowledged any more,
    since it will be delivered again. Of ours, what is delivered again finds its token claimed.
    """

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Called when the connection is lost, and without `emit_retry` in a cold shutdown."""
        if not emit_retry:
            super().cancel(pool, signal, emit_retry=False)

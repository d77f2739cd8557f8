"""Finding a broker again that was away.

Celery does it, but for two cases.

The worker ends with "Unrecoverable error: 'NoneType' object has no attribute 'hostname'": Redis
breaks the connection while messages wait to be acknowledged, and refuses the next one. kombu's
`Connection.collect` then fails half-way in closing its channel, and on the other half
`Connection.close` fails, which Celery 5.7 calls after it.

The worker of a thread pool on RabbitMQ hangs until the broker's next heartbeat, or loses the new
connection at once. After a reconnect, Celery raises the prefetch count again whenever a task has
ended. It does so in the thread of the task, which then reads the broker's answer from a socket that
the main thread reads too.
"""

from __future__ import annotations

from typing import Any

from celery import bootsteps


class ForgetLostChannel(bootsteps.StartStopStep):
    """A consumer step: it starts anew with every connection."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def start(self, parent: Any) -> None:
        """What has been collected is not closed once more."""
        connection = parent.connection
        collect = connection.collect

        def collect_and_forget(*args: Any, **options: Any) -> None:
            try:
                collect(*args, **options)
            finally:
                connection._default_channel = None  # noqa: SLF001 - as `collect` should

        connection.collect = collect_and_forget


def restore_prefetch_in_main_thread(consumer: Any) -> None:
    """Leave it to the thread that reads the connection to raise the prefetch count again."""
    restore = consumer._restore_prefetch_count_after_connection_restart  # noqa: SLF001

    def restore_soon(*args: Any) -> None:
        consumer.call_soon(restore, *args)

    consumer._restore_prefetch_count_after_connection_restart = restore_soon  # noqa: SLF001

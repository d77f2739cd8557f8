"""Two fixes for workers whose broker was away; else Celery reconnects by itself.

The worker ends with "Unrecoverable error: 'NoneType' object has no attribute 'hostname'": Redis
breaks the connection while messages wait to be acknowledged, and refuses the next one. kombu's
`Connection.collect` then fails half-way through closing its channel. Celery 5.7 calls
`Connection.close` after it, which fails on the other half.

A worker of a thread pool on RabbitMQ hangs until the broker's next heartbeat, or loses the new
connection at once. After a reconnect, Celery raises the prefetch count again each time a task ends.
It does so in the thread of the task, which then reads the broker's answer from a socket that the
main thread reads too.
"""

from __future__ import annotations

from typing import Any

from celery import bootsteps


class ForgetLostChannel(bootsteps.StartStopStep):
    """Drops the channel of a lost connection. A consumer step starts with every connection."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def start(self, parent: Any) -> None:
        """Make `collect` forget the channel, so that `close` does not close it once more."""
        connection = parent.connection
        collect = connection.collect

        def collect_and_forget(*args: Any, **options: Any) -> None:
            try:
                collect(*args, **options)
            finally:
                connection._default_channel = None  # noqa: SLF001 - as `collect` should

        connection.collect = collect_and_forget


def restore_prefetch_in_main_thread(consumer: Any) -> None:
    """Raise the prefetch count again in the thread that reads the connection."""
    restore = consumer._restore_prefetch_count_after_connection_restart  # noqa: SLF001

    def restore_soon(*args: Any) -> None:
        consumer.call_soon(restore, *args)

    consumer._restore_prefetch_count_after_connection_restart = restore_soon  # noqa: SLF001

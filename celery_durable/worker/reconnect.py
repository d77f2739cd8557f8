"""Finding a broker again that was away.

Celery does it, but for one case, in which the worker ends with "Unrecoverable error: 'NoneType'
object has no attribute 'hostname'": Redis breaks the connection while messages wait to be
acknowledged, and refuses the next one. kombu's `Connection.collect` then fails half-way in closing
its channel, and on the other half `Connection.close` fails, which Celery 5.7 calls after it.
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

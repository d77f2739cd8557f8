"""`OutboxTask`: a task whose `delay` joins the transaction that is open."""

from __future__ import annotations

from functools import partial
from typing import Any

from celery import Task

from celery_durable.errors import ConfigurationError
from celery_durable.ordinary.message import Capture

AGAIN = ("retries", "replaced_task_nesting")
"""Options of a message by which a task goes on with its own work (`Task.retry`, `Task.replace`).

The exception with which it ends would roll the message back.
"""


class OutboxTask(Task):
    """A task that is sent with the transaction in which it is called.

    `delay` and `apply_async` write the message through the session that `durable.joining(session)`
    has bound, or through the transaction that a framework has open: rolled back with it, sent once
    it commits, at least once and always with the same task id. Where nothing is open, they send at
    once, as any task does; so do `self.retry()` and `self.replace()`.

    Take it as `@app.task(base=OutboxTask)`, or for all tasks as `Celery(task_cls=OutboxTask)`. The
    app needs a `Durable`. Raises `ConfigurationError` or `PayloadError`, having written nothing.
    """

    abstract = True

    def apply_async(  # noqa: PLR0917 - as Celery has it
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> Any:
        """Send the task with the transaction that is open; take the options that any task takes.

        `countdown` and `eta` count from this call, and the message waits in the outbox until then.
        `retry`, `retry_policy` and `producer` have no meaning, as a relay publishes the message.
        """
        options |= {"task_id": task_id, "link": link, "link_error": link_error, "shadow": shadow}
        publish = super().apply_async
        is_composing = isinstance(producer, Capture)
        if is_composing or any(map(options.get, AGAIN)) or self.app.conf.task_always_eager:
            return publish(args, kwargs, producer=producer, **options)
        durable = getattr(self.app, "durable", None)
        if durable is None:
            raise ConfigurationError(
                f"{self.name} is an OutboxTask, and its app {self.app.main!r} has no Durable: write"
                " durable = Durable(app)."
            )
        session = durable.open.session()
        if session is None:
            return publish(args, kwargs, producer=producer, **options)
        if hasattr(session, "run_sync"):
            raise ConfigurationError(
                f"{self.name} cannot be sent through an {type(session).__name__} without an await:"
                f" call `await durable.asend_task({self.__name__}.s(...))`."
            )
        ignored = options.pop("ignore_result", self.ignore_result)
        call = partial(publish, args, kwargs)
        result, messages = durable.composer.captured(call, options, ignored=bool(ignored))
        durable.put_tasks(messages, session)
        return result

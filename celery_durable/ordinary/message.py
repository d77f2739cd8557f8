"""Messages of ordinary tasks: as Celery would publish them -> the outbox -> as Celery would have.

Celery makes the message where the task is called: its routes, its options and its signal
`before_task_publish`, with the headers that tracing adds, are those of the call. It gets a
`Capture` for a producer. A relay publishes what that has kept, and calls no signal again.

What waits for a time waits in the outbox, and its message has no `eta`: no worker holds it.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from celery.utils.time import maybe_make_aware
from kombu.exceptions import EncodeError
from kombu.serialization import dumps

from celery_durable.arguments import checked_priority, checked_seconds
from celery_durable.core.message import TaskMessage
from celery_durable.errors import ConfigurationError, PayloadError, PayloadTooLarge
from celery_durable.ordinary.message_options import refuse_odd
from celery_durable.store import codec
from celery_durable.store.due import DueMessage

MESSAGE = "message"
"""The option of a row under which the message is that a `Capture` has kept."""

MEANINGLESS = ("retry", "retry_policy", "timeout", "confirm_timeout")
"""Options of publishing that say how long a caller tries. A relay tries until it has published."""

SHOWN = ("argsrepr", "kwargsrepr")
"""The headers that show arguments."""

MOST_HEADERS = 64 * 1024
"""Most bytes of headers and other options of a message."""

JSON_TYPE = "application/json"


class Capture:
    """Stands in for kombu's producer: keeps the message of one task, and publishes nothing."""

    serializer: str | None = None

    def __init__(self) -> None:
        self.body: Any = None
        self.options: dict[str, Any] | None = None

    @property
    def connection(self) -> Capture:
        """What Celery takes for the producer's connection."""
        return self

    @contextmanager
    def _reraise_as_library_errors(self) -> Iterator[None]:
        yield

    def publish(self, body: Any, **options: Any) -> None:
        """Keep the message. A second one is the event `task-sent`, which nobody is to get yet."""
        if self.options is None:
            self.body, self.options = body, options


def captured(
    app: Celery, call: Callable[..., Any], options: Mapping[str, Any], *, ignored: bool, limit: int
) -> tuple[Any, tuple[TaskMessage, ...]]:
    """Call `apply_async` with `options`; return its result, and the message that it has made.

    There is none if the task's own `apply_async` has decided not to send any. Nobody subscribes to
    the result: that would need the result backend, which may be away. `limit` is in bytes. Raises
    `ConfigurationError` or `PayloadError`.
    """
    _refuse(app, options)
    refuse_odd(options)
    chosen = dict(options)
    delay = _seconds_until(chosen.pop("countdown", None), chosen.pop("eta", None))
    capture = Capture()
    chosen |= {"producer": capture, "ignore_result": True, "retry": False}
    result = call(**chosen)
    if capture.options is None:
        return result, ()
    _refuse_unpublishable(capture.options)
    result.ignored = ignored
    headers = capture.options["headers"]
    headers["ignore_result"] = ignored
    headers |= {name: _shown(headers[name]) for name in SHOWN}
    return result, (_row_of(app, capture.body, capture.options, delay=delay, limit=limit),)


def _shown(text: str) -> str:
    """Return what logs show of arguments, without what Postgres would refuse."""
    return text.replace("\0", "\\x00").encode(errors="backslashreplace").decode()


def _refuse(app: Celery, options: Mapping[str, Any]) -> None:
    if app.conf.task_protocol != 2:  # noqa: PLR2004 - https://docs.celeryq.dev/en/stable/internals/protocol.html
        raise ConfigurationError(
            "task_protocol is 1: the outbox holds messages of protocol 2. Leave the setting out."
        )
    if options.get("connection") is not None:
        raise ConfigurationError(
            "connection= has no meaning for a task that goes through the outbox: a relay sends it,"
            " with the connection of the app. Leave it out."
        )


def _refuse_unpublishable(published: Mapping[str, Any]) -> None:
    """Raise for what a broker ends the connection for: the messages beside it would go with it."""
    headers = published["headers"]
    what = f"the headers of {headers['task']}"
    if published.get("immediate"):
        raise ConfigurationError(f"immediate= of {headers['task']} is taken by no broker.")
    try:
        size = len(json.dumps(dict(headers), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(
            f"{what[0].upper()}{what[1:]} hold what is no JSON: {error}. Send texts and numbers."
        ) from error
    if size > MOST_HEADERS:
        raise PayloadTooLarge(what, size, MOST_HEADERS)


def _seconds_until(countdown: Any, eta: Any) -> float | None:
    """Return the seconds until the task is due, from now on; None if it is due at once."""
    if countdown:
        has_passed = isinstance(countdown, int | float) and countdown < 0
        return None if has_passed else checked_seconds("countdown", countdown)
    if eta is None:
        return None
    try:
        moment = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
        seconds = max((maybe_make_aware(moment) - datetime.now(UTC)).total_seconds(), 0.0)
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(f"eta= takes a datetime, not {eta!r:.80}.") from error
    return checked_seconds("eta", seconds) or None


def _row_of(
    app: Celery, body: Any, published: dict[str, Any], *, delay: float | None, limit: int
) -> TaskMessage:
    task, task_id = published["headers"]["task"], published["headers"]["id"]
    queue = _queue_of(app, task, published.pop("declare", None))
    exchange = published.pop("exchange", None)
    exchange = getattr(exchange, "name", exchange)
    message = {
        name: value
        for name, value in published.items()
        if name not in (*MEANINGLESS, "serializer") and value is not None
    }
    message |= {"exchange": exchange, "declares": queue}
    args, kwargs, stored = _stored_body(task, body, published.get("serializer"), limit)
    priority = checked_priority(published.get("priority"))
    options = {"task_id": task_id, MESSAGE: message | stored}
    if queue and exchange in ("", app.amqp.queues[queue].exchange.name):
        options["queue"] = queue  # what is refused there concerns the queue
    # They may hold the body, which has been measured: in base64 it is longer by a third.
    text = codec.dumps(options, what=f"the options of {task}", limit=2 * limit + MOST_HEADERS)
    return TaskMessage(task, args, kwargs, text, options.get("queue", ""), priority or 0, delay)


def _queue_of(app: Celery, task: str, declared: Any) -> str:
    """Return the name of the queue that is declared before publishing; "" for none.

    The relay finds the queue by its name in the app's settings.
    """
    known = app.amqp.queues
    entities = [*(declared or ())]
    names = [str(getattr(entity, "name", entity)) for entity in entities]
    are_known = all(known.get(name) == one for name, one in zip(names, entities, strict=True))
    if len(entities) > 1 or not are_known:
        raise ConfigurationError(
            f"The message of {task} declares {', '.join(names)}, and a relay knows the queues of"
            " task_queues only. Add the queue to them, and name it with queue=."
        )
    return names[0] if names else ""


def _stored_body(
    task: str, body: Any, serializer: str | None, limit: int
) -> tuple[str, str, dict[str, Any]]:
    """Return arguments and keyword arguments as JSON text, and what else the body is made of.

    A body that is not plain JSON is kept as it was serialized: arguments are not shown then.
    """
    try:
        content_type, encoding, payload = dumps(body, serializer)
    except EncodeError as error:
        raise PayloadError(
            f"The arguments of {task} cannot be written with the serializer {serializer!r}:"
            f" {error}. Send ids, or what JSON can hold."
        ) from error
    raw = payload.encode() if isinstance(payload, str) else bytes(payload)
    if len(raw) > limit:
        raise PayloadTooLarge(f"the message of {task}", len(raw), limit)
    stored: dict[str, Any] = {"content_type": content_type, "content_encoding": encoding}
    if content_type == JSON_TYPE and is_storable(plain := json.loads(raw)):
        args, kwargs, embedded = plain
        return json.dumps(args), json.dumps(kwargs), stored | {"embed": json.dumps(embedded)}
    return "[]", "{}", stored | {"body": b64encode(raw).decode()}


def is_storable(plain: Any) -> bool:
    """Return True if Postgres takes plain JSON: without NaN, Infinity, NUL and half characters."""
    try:
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError):
        return False
    return "\\u0000" not in text.replace("\\\\", "")


def is_captured(message: DueMessage) -> bool:
    """Return True if the row holds a message as Celery has made it."""
    return MESSAGE in message.options


def publish(app: Celery, producer: Any, message: DueMessage) -> None:
    """Publish the message that a `Capture` has kept."""
    options = dict(message.options[MESSAGE])
    kept, embedded = options.pop("body", None), options.pop("embed", None)
    if kept is None:
        body = json.dumps([message.args, message.kwargs, json.loads(embedded)]).encode()
    else:
        body = b64decode(kept)
    queue = options.pop("declares")
    declare = [app.amqp.queues[queue]] if queue else []
    producer.publish(body, declare=declare, retry=False, **options)

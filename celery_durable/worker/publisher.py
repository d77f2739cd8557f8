"""Outbox rows -> the broker, through kombu.

With RabbitMQ a row is sent when a queue has it and the broker has confirmed it. The confirms of a
batch are awaited together, after all of it is published. With Redis the reply to the push is the
confirm; kombu 5.7 pushes a batch in one round trip. Other transports get messages one by one.

A failure is attributed to a row, to its queue, or to the broker, and only that one is left alone
for a while. A lost connection is the broker's, unless RabbitMQ proves to be there: a row for which
it ends each connection, between two messages that it takes, is at fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any
from uuid import UUID, uuid4

from celery import Celery
from celery.app.task import extract_exec_options
from kombu.exceptions import OperationalError

from celery_durable.background.relay import Published
from celery_durable.database.connections import Database
from celery_durable.errors import BrokerUnavailable, DatabaseUnavailable
from celery_durable.ordinary.message import is_captured, publish
from celery_durable.store import origin
from celery_durable.store.due import DueMessage
from celery_durable.store.outbox import ADVANCE, COMPENSATE
from celery_durable.worker import brokers
from celery_durable.worker.brokers import Brokers, is_amqp
from celery_durable.worker.configuration import serializer_of
from celery_durable.worker.confirms import Answers, Blocked, Confirms, Unconfirmed

REDIS = "redis"
"""https://docs.celeryq.dev/en/stable/userguide/routing.html#redis-message-priorities"""

TRIES_ALONE = 3
"""Connections that a row must cost until it is at fault, and not the broker."""

NO_ROW = -1
"""The id of a message that stands for no row."""

ORIGIN_HEADER = "durable_origin"
"""The header of a hint that names the schema which has sent it."""


class KombuPublisher:
    """Publishes through the relay's own connection, made when needed and after a failure.

    Hints carry the answer of `origin`, once it is not None.
    """

    def __init__(self, app: Celery, origin: Callable[[], str | None] = lambda: None) -> None:
        self._app = app
        self._ask_origin = origin
        self._origin: str | None = None
        self._serializer = serializer_of(app.conf) or "json"
        self._brokers = Brokers(app)
        self._connection: Any = None
        self._producer: Any = None
        self._confirms: Confirms | None = None

    @property
    def lowest_first(self) -> bool:
        """True if the broker is Redis, where 0 is the highest priority."""
        return bool(self._app.connection_for_write().transport.driver_type == REDIS)

    def connect(self) -> None:
        """Connect, unless connected; raise `BrokerUnavailable` if the broker does not answer."""
        try:
            self._ready()
        except DatabaseUnavailable:
            raise
        except Exception as error:
            if self._is_outage(error):
                raise self._unavailable((), error) from error
            raise

    def publish(self, messages: Sequence[DueMessage]) -> Published:
        """Publish what the broker takes; raise `BrokerUnavailable` if it does not answer.

        A row that was refused before is published alone: it may cost the others their connection.
        """
        together = self._publish_together([one for one in messages if not one.tries])
        published = published_of(messages, together)
        sent, refused, full = [*published.sent], dict(published.refused), dict(published.full)
        for message in messages:
            is_alone = message.tries > 0 or message.id in together.again
            if is_alone and message.queue not in full:
                alone = self._publish_alone(message, sent)
                sent += alone.sent
                refused |= alone.refused
                full |= alone.full
        return Published(sent, refused, full)

    def _publish_together(self, messages: Sequence[DueMessage]) -> Answers:
        if not messages:
            return Answers()
        try:
            answers = self._publish_batch(messages)
        except (BrokerUnavailable, DatabaseUnavailable):
            raise
        except Exception as error:
            if self._is_outage(error):
                taken = self._confirms.take().sent if self._confirms else ()
                if not self._may_be_a_row(error):
                    raise self._unavailable(taken, error) from error
                self._connect_anew(taken)
                again = [one.id for one in messages if one.id not in taken]
                return Answers(taken, again=dict.fromkeys(again, ""))
            # The error names no row: publishing one by one finds the bad one.
            self._drop()
            return Answers(again=dict.fromkeys([message.id for message in messages], ""))
        if answers.again:
            self._drop()  # the next connection declares their queues anew
        return answers

    def _publish_alone(
        self, message: DueMessage, before: Sequence[int], tries: int = TRIES_ALONE
    ) -> Published:
        """Publish a message that failed in its batch; `before` are the rows taken so far.

        Where it costs its connection, it is tried again on another that has just taken a message.
        """
        try:
            answers = self._publish_batch([message])
        except BrokerUnavailable as error:
            raise BrokerUnavailable([*before, *error.sent], error.why) from error
        except DatabaseUnavailable:
            raise
        except Exception as error:
            if self._is_outage(error):
                if not self._may_be_a_row(error):
                    raise self._unavailable(before, error) from error
                self._prove_that_it_is_there(before)
                if tries > 1:
                    return self._publish_alone(message, before, tries - 1)
                text = f"the broker ends the connection for it: {type(error).__name__}: {error}"
                return Published((), {message.id: text})
            why = f"{type(error).__name__}: {error}"
            # Neither a bad row nor a bad queue may block the others.
            full = {message.queue: why} if message.queue and self._is_of_queue(error) else {}
            self._drop()  # a channel that raised is closed
            return Published((), {message.id: why}, full)
        published = published_of([message], answers)
        return Published(published.sent, {**published.refused, **answers.again}, published.full)

    def _may_be_a_row(self, error: Exception) -> bool:
        """Return True if the connection may have been lost for what was published."""
        return self._confirms is not None and not isinstance(error, Blocked)

    def _prove_that_it_is_there(self, before: Sequence[int]) -> None:
        """Connect anew, and publish a message that no queue takes.

        Raises `BrokerUnavailable` unless RabbitMQ answers both.
        """
        self._connect_anew(before)
        assert self._confirms is not None
        try:
            self._confirms.expect(NO_ROW)
            self._producer.publish("", routing_key=uuid4().hex, retry=False)
            self._confirms.wait(self._connection, brokers.CONFIRM_TIMEOUT)
        except Exception as error:
            if self._is_outage(error):
                raise self._unavailable(before, error) from error
            raise
        self._confirms.take()

    def _unavailable(self, taken: Sequence[int], error: Exception) -> BrokerUnavailable:
        """Leave a broker that fails, but not a blocked one: it confirms later what it has got."""
        if not isinstance(error, Blocked) and self._connection is not None:
            self._drop()
            self._brokers.pass_over()
        return BrokerUnavailable(taken, error)

    def _publish_batch(self, messages: Sequence[DueMessage]) -> Answers:
        producer = self._ready()
        earlier = self._sent_while_blocked()
        batch = getattr(producer, "batch", None)
        with batch(len(messages)) if batch else nullcontext():
            for message in messages:
                if message.id in earlier:
                    continue
                if self._confirms is not None:
                    self._confirms.expect(message.id)
                try:
                    self._send(producer, message)
                except Exception as error:
                    if self._confirms is None or not is_timeout(error):
                        raise
                    return self._declaration_timed_out(self._confirms, messages, message)
        if self._confirms is None:
            return Answers([message.id for message in messages])
        return self._wait_for_confirms(self._confirms, [m.id for m in messages if m.id in earlier])

    def _sent_while_blocked(self) -> frozenset[int]:
        """Return the rows that were published while the broker was blocked, and taken since."""
        if self._confirms is None or not (self._confirms.waiting or self._confirms.is_blocked):
            return frozenset()
        self._confirms.wait(self._connection, brokers.CONFIRM_TIMEOUT)
        return frozenset(self._confirms.take().sent)

    def _wait_for_confirms(self, confirms: Confirms, earlier: Sequence[int]) -> Answers:
        """Wait for the confirms; hold the rows that lack one, unless the broker itself is away."""
        try:
            confirms.wait(self._connection, brokers.CONFIRM_TIMEOUT)
            unanswered: Mapping[int, str] = {}
        except Unconfirmed as error:
            unanswered = dict.fromkeys(confirms.waiting, str(error))
        answers = confirms.take()
        sent = [*earlier, *answers.sent]
        if unanswered:
            self._connect_anew(sent)
        return Answers(sent, {**answers.held, **unanswered}, answers.again)

    def _declaration_timed_out(
        self, confirms: Confirms, messages: Sequence[DueMessage], mute: DueMessage
    ) -> Answers:
        """Hold the message whose queue could not be declared; each after it is published alone."""
        answers = confirms.take()
        self._connect_anew(answers.sent)
        held = {**answers.held, mute.id: f"it was not declared in {brokers.CONFIRM_TIMEOUT} s"}
        rest = [m.id for m in messages if m.id not in held and m.id not in answers.sent]
        return Answers(answers.sent, held, {**dict.fromkeys(rest, ""), **answers.again})

    def _connect_anew(self, sent: Sequence[int]) -> None:
        """Connect anew after a missing answer; raise `BrokerUnavailable` if the broker is away.

        Else the queue has caused it, such as a quorum queue without its majority; or the row.
        """
        self._drop()
        try:
            self._ready()
        except Exception as error:
            if self._is_outage(error):
                raise BrokerUnavailable(sent, error) from error
            raise

    def _send(self, producer: Any, message: DueMessage) -> None:
        if is_captured(message):
            publish(self._app, producer, message)
            return
        if message.task in (ADVANCE, COMPENSATE):
            options = self._options_of_hint(message)
        else:
            options = self._options_of_task(message)
        self._app.send_task(
            message.task,
            args=message.args,
            kwargs=message.kwargs,
            producer=producer,
            retry=False,
            ignore_result=True,
            **options,
        )

    def _options_of_hint(self, message: DueMessage) -> dict[str, Any]:
        options = {"serializer": self._serializer, **message.options}
        if message.runs:
            options["argsrepr"] = shown(message.runs)
        if self._origin is not None:
            options["headers"] = {**options.get("headers", {}), ORIGIN_HEADER: self._origin}
        return options

    def _options_of_task(self, message: DueMessage) -> dict[str, Any]:
        """The options of a task of the user's: its row's, and then those that it is defined with.

        Its result is kept where the task says so. Only its worker is told that: this process must
        not subscribe to results for which nobody waits here.
        """
        task = self._app.tasks.get(message.task)
        defined = {} if task is None else _defined_options(task)
        options = {"serializer": self._serializer, **defined, **message.options}
        ignored = bool(options.pop("ignore_result", False))
        options["headers"] = {**options.get("headers", {}), "ignore_result": ignored}
        return options

    def _ready(self) -> Any:
        if self._producer is None:
            self._origin = self._origin or self._ask_origin()
            self._connection = self._brokers.connect()
            self._producer = self._app.amqp.Producer(self._connection, auto_declare=False)
            if is_amqp(self._connection):
                self._confirms = Confirms(self._producer.channel)
        return self._producer

    def _is_outage(self, error: Exception) -> bool:
        """Return True if the broker is away; False if a row or a queue is the cause."""
        known = self._connection.connection_errors if self._connection else ()
        is_lost = isinstance(error.__cause__ or error, tuple(known))
        return (is_lost or isinstance(error, OperationalError)) and not is_of_redis_key(error)

    def _is_of_queue(self, error: Exception) -> bool:
        """Return True if the broker refuses the queue, whatever the message."""
        known = self._connection.channel_errors if self._connection else ()
        return isinstance(error, tuple(known)) or is_of_redis_key(error)

    def _drop(self) -> None:
        """Drop the connection without telling the broker, which might not answer."""
        connection, self._connection = self._connection, None
        self._producer = self._confirms = None
        if connection is not None:
            connection.collect()

    def close(self) -> None:
        """Close the connection; the next call makes a new one."""
        if self._confirms is not None and self._confirms.is_blocked:
            self._drop()
        connection, self._connection = self._connection, None
        self._producer = self._confirms = None
        if connection is not None:
            connection.release()


def _defined_options(task: Any) -> dict[str, Any]:
    """Return queue, priority, ... of a task. Before 5.7 Celery adds them in `apply_async` only."""
    return {name: found for name, found in extract_exec_options(task).items() if found is not None}


MOST_SHOWN = 16
"""Runs that are named as the arguments of a message."""


def shown(runs: Sequence[UUID]) -> str:
    """Return what logs and Flower show as the arguments of a hint: its runs, not its tokens."""
    named = ", ".join(map(str, runs[:MOST_SHOWN]))
    more = f" and {len(runs) - MOST_SHOWN} more" if len(runs) > MOST_SHOWN else ""
    return f"({'run' if len(runs) == 1 else 'runs'} {named}{more})"


def origin_of(database: Database) -> str | None:
    """Return the origin of the hints of this schema; None until it has one."""
    with database.autocommit() as connection:
        return origin.find(connection)


def published_of(messages: Sequence[DueMessage], answers: Answers) -> Published:
    """Attribute each held message to its queue, or to its row if it names no queue."""
    refused: dict[int, str] = {}
    full: dict[str, str] = {}
    for message in messages:
        why = answers.held.get(message.id)
        if why is not None and message.queue is not None:
            full[message.queue] = why
        elif why is not None:
            refused[message.id] = why
    return Published(answers.sent, refused, full)


def is_timeout(error: Exception) -> bool:
    """Return True if an answer did not come in time, though the connection held."""
    return isinstance(error.__cause__ or error, TimeoutError)


def is_of_redis_key(error: Exception) -> bool:
    """Return True if Redis refuses one key, which is a queue.

    Any other refusal concerns all keys: Redis is out of memory, a read-only replica, without its
    replicas, or unable to save.
    """
    cause = error.__cause__ or error
    return "WRONGTYPE" in str(cause) or type(cause).__name__ == "NoPermissionError"

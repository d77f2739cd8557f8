"""What a relay publishes of a task is the message that Celery would have published at the call."""

from __future__ import annotations

import decimal
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import chain, chord, group, signals
from kombu import Exchange, Queue

from celery_durable import OutboxTask
from celery_durable.errors import ConfigurationError, PayloadError, PayloadTooLarge
from tests.integration.sending import Sender
from tests.services import RedisServer

MOMENT = datetime(2000, 1, 1, 12, tzinfo=UTC)
"""A time that has passed: what is due then is due at once."""

VALUES = ("ä", 1.5, None, {"at": MOMENT, "price": decimal.Decimal("1.10"), "id": uuid.UUID(int=1)})

OPTIONS: dict[str, Any] = {
    "task_id": "t1",
    "priority": 4,
    "headers": {"tenant": "a"},
    "expires": 3600,
    "time_limit": 60,
    "soft_time_limit": 50,
    "shadow": "told",
    "compression": "gzip",
    "reply_to": "answers",
    "root_id": "root",
    "parent_id": "parent",
    "group_id": "group",
    "group_index": 3,
    "eta": MOMENT,
    "retry": True,
    "retry_policy": {"max_retries": 1},
    "stamped_headers": ["batch"],
    "batch": "b1",
}

OF_EACH = ("eta", "expires", "expiration", "message_id", "application_headers")
"""What differs from message to message, and the headers once more."""


def test_a_message_has_every_option_that_it_would_have_had(sender: Sender) -> None:
    tell = sender.tell
    options = {**OPTIONS, "link": tell.s("linked"), "link_error": tell.s("failed")}
    super(OutboxTask, tell).apply_async(VALUES, {"k": [1]}, **options)
    plain = sender.in_queue()
    with sender.joined():
        tell.apply_async(VALUES, {"k": [1]}, **options)
    joined = sender.published()
    sender.durable.send_task(tell.signature(VALUES, {"k": [1]}, **options))
    sent = sender.published()
    for (message,) in (plain, joined, sent):
        for name in OF_EACH:
            message.pop(name, None)
    assert (plain[0]["args"], plain[0]["stamps"]) == ([*VALUES], {"batch": "b1"})
    assert joined == plain
    assert sent == plain


def test_routes_are_those_of_the_call(sender: Sender) -> None:
    roles = ("routed", "named", "exchanged")
    routed, named, exchanged = (sender.broker.queue(role) for role in roles)
    sender.app.conf.task_routes = {"tell": {"queue": routed}}
    sender.app.amqp.flush_routes()
    sender.app.amqp.router = sender.app.amqp.Router()
    with sender.broker.connection() as connection:
        channel = connection.default_channel
        exchange = Exchange(exchanged, "direct")
        Queue(exchanged, exchange, exchanged)(channel).declare()
        with sender.joined():
            sender.tell.delay()
            sender.tell.apply_async(queue=named)
            sender.tell.apply_async(exchange=exchange, routing_key=exchanged)
        sender.published()
        channel.exchange_delete(exchanged)
    assert [len(sender.in_queue(role)) for role in roles] == [1, 1, 1]


def test_what_is_not_json_is_kept_as_it_was_written(sender: Sender) -> None:
    """Pickle where the task says so, and JSON that Postgres would not store."""
    strange = {"nul": "\0", "half": "\ud800", "endless": float("inf")}
    with sender.joined():
        sender.tell.apply_async(({1, 2},), serializer="pickle")
        for name, value in strange.items():
            sender.tell.apply_async((), {name: value})
    assert sender.written() == [[]] * 4
    pickled, *odd = sender.published()
    assert pickled["content_type"] == "application/x-python-serialize"
    assert [*pickled["args"]] == [{1, 2}]
    assert {message["content_type"] for message in odd} == {"application/json"}
    assert {name: v for message in odd for name, v in message["kwargs"].items()} == strange


def test_signals_of_publishing_fire_once_where_the_task_is_called(sender: Sender) -> None:
    """Instrumentations put the headers of tracing in there: they are those of the caller."""
    fired: list[str] = []

    def before(headers: dict[str, Any], **_: Any) -> None:
        headers["traceparent"] = f"span {len(fired)}"
        fired.append("before")

    def after(**_: Any) -> None:
        fired.append("after")

    signals.before_task_publish.connect(before, sender="tell")
    signals.after_task_publish.connect(after, sender="tell")
    try:
        with sender.joined():
            sender.tell.delay()
        assert fired == ["before", "after"]
        assert [message["traceparent"] for message in sender.published()] == ["span 0"]
        assert fired == ["before", "after"]
    finally:
        signals.before_task_publish.disconnect(before, sender="tell")
        signals.after_task_publish.disconnect(after, sender="tell")


@pytest.mark.parametrize("option", ["countdown", "eta"])
def test_a_task_for_later_waits_in_the_outbox(sender: Sender, option: str) -> None:
    """No worker holds it meanwhile, so no visibility timeout doubles it."""
    eta = datetime.now(UTC) + timedelta(seconds=60)
    with sender.joined():
        sender.tell.apply_async(**{option: 60 if option == "countdown" else eta})
    assert sender.published() == []
    left = "SELECT extract(epoch FROM available_at - clock_timestamp())::float FROM durable_outbox"
    assert 0 < sender.world.one(left) <= 60
    sender.world.let_time_pass(60)
    assert [message["eta"] for message in sender.published()] == [None]


def test_a_chain_is_a_message_that_has_the_rest_of_it(sender: Sender) -> None:
    steps = chain(sender.tell.s("a"), sender.plain(), sender.tell.s("c"))
    steps.link_error(sender.tell.s("failed"))
    last = sender.durable.send_task(steps)
    with sender.joined():
        joined = steps.delay()
    for message, last_id in zip(sender.published(), (last, joined.id), strict=True):
        assert message["args"] == ["a"]
        assert [step["task"] for step in message["chain"]] == ["tell", "plain"]
        assert message["chain"][0]["options"]["task_id"] == last_id
        assert [one["args"] for one in message["errbacks"]] == [["failed"]]


def test_a_chain_begins_with_whatever_task(sender: Sender) -> None:
    sender.durable.send_task(chain(sender.plain("a"), sender.plain()).set(priority=3))
    sender.durable.send_task(chain(sender.plain("b")))
    first, alone = sorted(sender.published(), key=lambda message: message["args"])
    assert (first["priority"], len(first["chain"])) == (3, 1)
    assert not alone["chain"]


def test_a_group_is_a_message_for_each_task(sender: Sender) -> None:
    tell = sender.tell
    inner = group(tell.s("c"), chain(tell.s("d"), tell.s("e")))
    sent = sender.durable.send_task(group(tell.s("a"), sender.plain("b"), inner))
    messages = sender.published()
    assert [message["args"] for message in messages] == [["a"], ["b"], ["c"], ["d"]]
    assert [message["group"] for message in messages[:3]] == [sent] * 3
    assert messages[3]["chain"][0]["options"]["group_id"] == sent
    with sender.joined():
        joined = group(tell.s("a"), tell.s("b")).delay()
    assert [message["id"] for message in sender.published()] == [one.id for one in joined]


def test_chunks_and_maps_of_a_task_are_sent_as_celery_does(sender: Sender) -> None:
    sender.durable.send_task(sender.tell.chunks([(1,), (2,), (3,)], 2))
    sender.durable.send_task(sender.tell.map([1, 2]))
    names = [message["task"] for message in sender.published()]
    assert names == ["celery.starmap", "celery.starmap", "celery.map"]


def test_a_chord_of_outbox_tasks_joins_with_its_tasks(
    sender: Sender, redis_server: RedisServer
) -> None:
    """What it counts in the result backend is Celery's, and is not rolled back."""
    sender.app.conf.result_backend = redis_server.url
    with sender.joined():
        chord([sender.tell.s("a"), sender.tell.s("b")], sender.tell.s("all")).delay()
        assert sender.written() == []
    messages = sender.published()
    assert [message["args"] for message in messages] == [["a"], ["b"]]
    assert [message["chord"]["args"] for message in messages] == [["all"], ["all"]]


Make = Callable[[Sender], Any]

REFUSED: dict[str, tuple[Make, type[Exception], str]] = {
    "no signature": (lambda _: "tell", ConfigurationError, "takes a signature"),
    "a task": (lambda s: s.tell, ConfigurationError, "takes a signature"),
    "a chord": (lambda s: chord([s.plain()], s.plain()), ConfigurationError, r"\.map\(\)"),
    "a group before a task": (
        lambda s: chain(group(s.plain(), s.plain()), s.plain()),
        ConfigurationError,
        "A chord counts",
    ),
    "a chain of nothing": (lambda s: chain(app=s.app), ConfigurationError, "no tasks"),
    "a connection": (lambda s: s.plain().set(connection=1), ConfigurationError, "connection="),
    "a countdown": (lambda s: s.plain().set(countdown="1"), ConfigurationError, "countdown="),
    "an endless one": (
        lambda s: s.plain().set(countdown=float("inf")),
        ConfigurationError,
        "countdown=",
    ),
    "an eta": (lambda s: s.plain().set(eta="soon"), ConfigurationError, "eta="),
    "a priority": (lambda s: s.plain().set(priority=70_000), ConfigurationError, "priority"),
    "an unknown queue": (
        lambda s: s.plain().set(queue=Queue("q", Exchange("e"), "k")),
        ConfigurationError,
        "task_queues",
    ),
    "an argument": (lambda s: s.plain(object()), PayloadError, "arguments of plain"),
    "a header": (
        lambda s: s.plain().set(headers={"a": object()}),
        PayloadError,
        "headers of plain hold what is no JSON",
    ),
    "a header that a broker cannot take": (
        lambda s: s.plain().set(headers={"tenant": uuid.UUID(int=1)}),
        PayloadError,
        "headers of plain hold what is no JSON",
    ),
    "a long header": (
        lambda s: s.plain().set(headers={"a": "x" * 70_000}),
        PayloadTooLarge,
        "headers of plain",
    ),
    "immediate": (lambda s: s.plain().set(immediate=True), ConfigurationError, "immediate="),
    "an eta without end": (
        lambda s: s.plain().set(eta=datetime.max.replace(tzinfo=UTC)),
        ConfigurationError,
        "eta=",
    ),
    "too much": (lambda s: s.plain("x" * 2_000_000), PayloadTooLarge, "message of plain"),
}


ODD: dict[str, list[Any]] = {
    "headers": [["x"], "x", {1: "x"}],
    "expires": ["x", [], True],
    "time_limit": ["x", -1, float("inf")],
    "soft_time_limit": ["1"],
    "task_id": [7],
    "shadow": [7],
    "routing_key": [7],
    "reply_to": [7],
    "queue": [7, ["q"]],
    "exchange": [7],
    "serializer": ["xml", 7],
    "compression": ["rar", 7],
    "priority": ["high", 1.5],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in ODD.items() for value in values]
)
def test_an_odd_option_is_refused_by_its_name(sender: Sender, name: str, value: Any) -> None:
    """P12: also by `apply_async` of an `OutboxTask`; and the caller's transaction goes on."""
    with sender.joined():
        with pytest.raises(ConfigurationError, match=name):
            sender.durable.send_task(sender.plain().set(**{name: value}))
        with pytest.raises(ConfigurationError, match=name):
            sender.tell.apply_async(**{name: value})
        sender.durable.send_task(sender.plain("after"))
    assert sender.written() == [["after"]]


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_outbox_cannot_hold_is_refused_at_the_call(sender: Sender, what: str) -> None:
    """P12: and the caller's transaction goes on."""
    make, error, words = REFUSED[what]
    with sender.joined():
        sender.durable.send_task(sender.plain("before"))
        with pytest.raises(error, match=words):
            sender.durable.send_task(make(sender))
        sender.durable.send_task(sender.plain("after"))
    assert sender.written() == [["before"], ["after"]]


def test_an_old_protocol_is_refused(sender: Sender) -> None:
    """P12"""
    sender.app.conf.task_protocol = 1
    with pytest.raises(ConfigurationError, match="task_protocol"):
        sender.durable.send_task(sender.plain())

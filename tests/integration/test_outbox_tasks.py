"""P7: `send_task`, and `delay` of an `OutboxTask`, write a task with the caller's transaction."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from celery import Celery, chain, group
from sqlalchemy.orm import Session

from celery_durable import Durable, OutboxTask
from celery_durable.errors import ConfigurationError, DatabaseUnavailable
from celery_durable.store import due
from tests.integration.driving import World
from tests.integration.relaying import Relays, drain
from tests.integration.sending import Sender
from tests.integration.test_joined_transactions import each_way
from tests.transports import Broker

AT_ONCE, MANY = 10, 25
"""How many tasks the relay takes at once, and more than that."""


@each_way
def test_a_task_that_is_rolled_back_is_not_sent_and_one_that_is_committed_is(
    world: World, sender: Sender, way: Any
) -> None:
    """P7"""
    durable, tell = sender.durable, sender.app.signature("tell")
    with way(world.url) as (session, commit, rollback):
        durable.send_task(tell.clone(("lost",)), session=session)
        rollback()
        sent = durable.send_task(tell.clone(("kept",)), session=session)
        assert world.sent() == []
        commit()
    (row,) = world.sent()
    assert (row["task"], row["args"], row["options"]["task_id"]) == ("tell", ["kept"], sent)


@each_way
def test_delay_joins_the_session_that_is_bound(world: World, sender: Sender, way: Any) -> None:
    """P7"""
    with way(world.url) as (session, commit, rollback), sender.durable.joining(session):
        sender.tell.delay("lost")
        rollback()
        kept = sender.tell.delay("kept", n=1)
        assert world.sent() == []
        commit()
    (row,) = world.sent()
    assert (row["args"], row["kwargs"]) == (["kept"], {"n": 1})
    assert row["options"]["task_id"] == kept.id


def test_delay_joins_the_transaction_that_a_framework_has_open(sender: Sender) -> None:
    """P7"""
    open_now: list[Session] = [sender.session]
    sender.durable.open.providers.append(lambda: open_now[0] if open_now else None)
    sender.tell.delay("joined")
    sender.session.rollback()
    open_now.clear()
    assert sender.written() == []
    assert sender.in_queue() == []


def test_where_nothing_is_open_delay_sends_at_once_and_send_task_writes(sender: Sender) -> None:
    sender.tell.delay("at once")
    assert sender.written() == []
    assert [message["args"] for message in sender.in_queue()] == [["at once"]]
    sender.durable.send_task(sender.tell.s("written"))
    assert sender.written() == [["written"]]
    assert [message["args"] for message in sender.published()] == [["written"]]


def test_the_result_of_delay_is_that_of_the_task(sender: Sender) -> None:
    with sender.joined():
        one = sender.tell.delay()
        other = sender.tell.apply_async(task_id="mine", ignore_result=True)
    messages = sender.published()
    assert [message["id"] for message in messages] == [one.id, "mine"]
    assert [message["ignore_result"] for message in messages] == [False, True]
    assert (one.ignored, other.ignored) == (False, True)
    assert type(one) is type(sender.tell.AsyncResult("mine"))


def test_nothing_but_the_database_is_needed_to_send(sender: Sender) -> None:
    """Neither broker nor result backend."""
    away = {
        "broker_url": "amqp://guest:guest@127.0.0.1:1//",
        "result_backend": "redis://127.0.0.1:1/0",
    }
    sender.app.conf.update(away)
    tell = sender.tell
    with sender.joined():
        tell.delay("a")
        chain(tell.s("b"), tell.s()).delay()
    sender.durable.send_task(group(tell.s("c"), tell.s("d")))
    assert sender.written() == [["a"], ["b"], ["c"], ["d"]]


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"], indirect=True)
def test_tasks_come_in_the_order_in_which_they_were_sent(
    world: World, relays: Relays, broker: Broker
) -> None:
    """P7: of one transaction, and of transactions one after the other."""
    with closing(Sender(world, relays, broker, relay_batch=AT_ONCE)) as sender:
        with sender.joined():
            for n in range(MANY):
                sender.tell.delay(n)
        later = group(sender.tell.s(n) for n in range(MANY, 2 * MANY))
        sender.durable.send_task(later)
        assert [message["args"] for message in sender.published()] == [[n] for n in range(2 * MANY)]


def test_what_a_task_does_to_go_on_is_sent_at_once(sender: Sender) -> None:
    """`self.retry()` and `self.replace()` raise, and so roll back the transaction around them."""
    with sender.durable.joining(sender.session):
        sender.tell.apply_async(retries=1)
        sender.tell.apply_async(replaced_task_nesting=1)
        sender.session.rollback()
    assert len(sender.in_queue()) == 2


def test_a_failed_call_leaves_nothing_and_the_transaction_goes_on(sender: Sender) -> None:
    """P12"""
    with sender.joined():
        sender.tell.delay("before")
        with pytest.raises(ConfigurationError, match="countdown="):
            sender.tell.apply_async(countdown="1")
        sender.tell.delay("after")
    assert sender.written() == [["before"], ["after"]]


def test_a_task_that_no_queue_takes_is_kept_and_others_go(
    sender: Sender, relays: Relays, caplog: pytest.LogCaptureFixture
) -> None:
    """P2: neither silent nor in the way."""
    with sender.joined():
        sender.tell.apply_async(exchange="there-is-none", routing_key="nobody")
        sender.tell.apply_async(exchange="amq.direct", routing_key="nobody")
        sender.tell.delay("goes")
    assert [message["args"] for message in sender.published()] == [["goes"]]
    kept = sender.world.sent()
    assert [row["tries"] for row in kept] == [1, 1]
    errors = sorted(row["last_error"] for row in kept)
    assert "NOT_FOUND" in errors[0]
    assert "no queue takes it" in errors[1]
    assert caplog.text.count("tell could not be published (try 1)") == 2


def test_a_relay_that_dies_after_publishing_publishes_again_with_the_same_id(
    sender: Sender, relays: Relays, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: at least once."""

    def die(*_: Any) -> None:
        raise psycopg.OperationalError("gone")

    sent = sender.durable.send_task(sender.plain())
    dying = relays.of(sender.durable)
    with monkeypatch.context() as patched:
        patched.setattr(due, "delete", die)
        with pytest.raises(DatabaseUnavailable):
            drain(dying)
    assert [message["id"] for message in sender.published()] == [sent, sent]
    assert sender.written() == []


def test_an_outbox_task_of_an_app_without_durable_says_so() -> None:
    """P12"""
    app = Celery("bare", broker="memory://", set_as_current=False)

    @app.task(name="tell", base=OutboxTask, shared=False)
    def tell() -> None:
        """What cannot be sent."""

    with pytest.raises(ConfigurationError, match=r"Durable\(app\)"):
        tell.delay()


def test_eager_tasks_run_at_once(sender: Sender) -> None:
    """As Celery has it in tests: there is no message to keep."""
    ran: list[int] = []

    @sender.app.task(name="eager", base=OutboxTask, shared=False)
    def eager(number: int) -> None:
        ran.append(number)

    sender.app.conf.task_always_eager = True
    with sender.joined():
        eager.delay(1)
    sender.app.conf.task_always_eager = False  # the settings are read when the world ends
    assert ran == [1]


def test_a_task_class_for_a_whole_app_makes_all_of_its_tasks_outbox_tasks(world: World) -> None:
    app = Celery("t", broker="memory://", task_cls=OutboxTask, set_as_current=False)
    app.conf.durable_database_url = world.url
    durable = Durable(app)

    @app.task(name="any", shared=False)
    def any_task() -> None:
        """A task without a base of its own."""

    engine = sa.create_engine(world.url)
    with Session(engine) as session, durable.joining(session):
        any_task.delay()
        session.commit()
    engine.dispose()
    durable.database.close()
    assert [row["task"] for row in world.sent()] == ["any"]


def test_a_task_that_decides_not_to_be_sent_is_not(sender: Sender) -> None:
    """As extensions do that send a task once at a time."""

    class Once(OutboxTask):
        abstract = True

        def apply_async(self, *_: Any, **__: Any) -> Any:
            return self.AsyncResult("the one under way")

    @sender.app.task(name="once", base=Once, shared=False)
    def once() -> None:
        """What is under way."""

    assert sender.durable.send_task(once.s()) == "the one under way"
    assert sender.written() == []

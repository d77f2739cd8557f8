"""The relay: outbox rows go into the broker, each once in the good case, and none is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pytest
from kombu.transport.memory import Channel

from celery_durable import Durable
from celery_durable.background.relay import Published
from celery_durable.errors import BrokerUnavailable
from celery_durable.store.due import DueMessage
from celery_durable.worker.publisher import KombuPublisher
from tests.integration.driving import Gate, World, all_at_once, defining
from tests.integration.relaying import Recorder, Relays, all_of, drain, hanging


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(defining([], "a"), poll_interval=0.2)


def test_what_is_due_is_published_and_gone(world: World, durable: Durable, relays: Relays) -> None:
    """P2"""
    runs = durable.start_many("w", [{}] * 5)
    recorder = Recorder()

    assert drain(relays.make(durable, recorder)) == 5

    assert world.hints() == 0
    assert set(recorder.tokens()) == {world.token_id(run) for run in runs}
    assert {message.task for message in recorder.taken} == {"durable.advance"}
    assert recorder.taken[0].options == {"queue": "durable", "shadow": "w.a"}


def test_the_oldest_go_first_in_batches(world: World, relays: Relays) -> None:
    durable = world.worker(defining([], "a"), relay_batch=4)
    durable.start_many("w", [{}] * 10)
    recorder = Recorder()

    drain(relays.make(durable, recorder))

    assert recorder.batches == [4, 4, 2]
    ids = [message.id for message in recorder.taken]
    assert ids == sorted(ids)


def test_nothing_is_published_before_its_time(
    world: World, durable: Durable, relays: Relays
) -> None:
    """P2: timers wait in the outbox."""
    durable.start("w", {}, delay=60)
    recorder = Recorder()
    one = relays.make(durable, recorder)

    assert drain(one) == 0
    assert recorder.taken == []
    world.let_time_pass(61)
    assert drain(one) == 1


def test_a_row_that_is_refused_is_postponed_and_the_others_go(
    world: World, durable: Durable, relays: Relays, caplog: pytest.LogCaptureFixture
) -> None:
    """P2"""
    durable.start_many("w", [{}] * 5)
    (bad, *_) = world.rows("SELECT token_id FROM durable_outbox ORDER BY id")

    def refuse(messages: Sequence[DueMessage]) -> Published:
        refused = {m.id: "no such queue" for m in messages if m.token_id == bad["token_id"]}
        return Published([m.id for m in messages if m.id not in refused], refused)

    recorder = Recorder(refuse)
    one = relays.make(durable, recorder)
    delays = []
    for tries in range(1, 4):
        drain(one)
        (row,) = world.rows(
            "SELECT token_id, tries, last_error, available_at - clock_timestamp() AS delay"
            " FROM durable_outbox"
        )
        assert row["token_id"] == bad["token_id"]
        assert (row["tries"], row["last_error"]) == (tries, "no such queue")
        delays.append(row["delay"].total_seconds())
        world.let_time_pass(1000)

    assert len(recorder.taken) == 4
    assert 0.5 < delays[0] < delays[1] < delays[2], "each time later"
    assert "no such queue" in caplog.text
    recorder.answer = None
    drain(one)
    assert world.hints() == 0


def test_with_the_broker_away_the_rows_stay(world: World, durable: Durable, relays: Relays) -> None:
    """P2: but for those that it had taken."""
    durable.start_many("w", [{}] * 5)

    def away(messages: Sequence[DueMessage]) -> Published:
        raise BrokerUnavailable([messages[0].id], "connection refused")

    recorder = Recorder(away)
    one = relays.make(durable, recorder)
    with pytest.raises(BrokerUnavailable):
        drain(one)
    assert world.hints() == 4
    assert world.one("SELECT count(*) FROM durable_outbox WHERE tries > 0") == 0

    recorder.answer = None
    assert drain(one) == 4
    assert world.hints() == 0


def test_a_publisher_that_breaks_loses_nothing(
    world: World, durable: Durable, relays: Relays
) -> None:
    """P2"""
    durable.start("w", {})

    def breaks(messages: Sequence[DueMessage]) -> Published:
        raise ZeroDivisionError

    recorder = Recorder(breaks)
    one = relays.make(durable, recorder)
    with pytest.raises(ZeroDivisionError):
        drain(one)
    assert world.hints() == 1


def test_two_relays_at_once_publish_no_row_twice(world: World, relays: Relays) -> None:
    """P2: in the good case."""
    durables = [world.worker(defining([], "a"), relay_batch=7) for _ in range(4)]
    durables[0].start_many("w", [{}] * 300)
    recorders = [Recorder() for _ in durables]
    made = [relays.make(*pair) for pair in zip(durables, recorders, strict=True)]

    all_at_once([partial(drain, one) for one in made])
    drain(made[0])

    taken = [message.id for recorder in recorders for message in recorder.taken]
    assert len(taken) == len(set(taken)) == 300


def test_rows_in_the_hands_of_one_relay_do_not_hold_up_another(
    world: World, relays: Relays
) -> None:
    """P2"""
    slow, quick = (world.worker(defining([], "a"), relay_batch=1) for _ in range(2))
    slow.start_many("w", [{}] * 3)
    gate = Gate()

    stuck, recorder = hanging(gate), Recorder()
    at_work = gate.hold(relays.make(slow, stuck)._publish_batch, relays.made[-1]._connection())

    drain(relays.make(quick, recorder))
    assert len(recorder.taken) == 2
    gate.finish(at_work)
    assert len(stuck.taken) == 1


def test_a_relay_that_dies_while_it_publishes_gives_its_rows_back(
    world: World, relays: Relays
) -> None:
    """P2: what it had published comes twice; hints do not mind."""
    durable = world.worker(defining([], "a"))
    durable.start("w", {})

    def die(messages: Sequence[DueMessage]) -> Published:
        pid = relays.made[0]._connection().raw.info.backend_pid
        world.rows("SELECT pg_terminate_backend(%s)", pid)
        return all_of(messages)

    with pytest.raises(Exception, match="connection"):
        drain(relays.make(durable, Recorder(die)))
    assert world.hints() == 1
    assert drain(relays.make(durable, Recorder())) == 1


@pytest.fixture
def memory_broker(durable: Durable) -> Iterator[Durable]:
    """The app's own broker: kombu's memory transport."""
    yield durable
    Channel.queues.clear()


def test_messages_arrive_in_the_broker_as_celery_tasks(
    world: World, memory_broker: Durable, relays: Relays
) -> None:
    """P2: JSON, ids only; in Flower and logs they are called by workflow and step."""
    durable = memory_broker
    run = durable.start("w", {}, priority=3)
    drain(relays.make(durable, KombuPublisher(durable.app)))

    assert world.hints() == 0
    with durable.app.connection_for_read() as connection:
        queue = connection.SimpleQueue("durable")
        message = queue.get(block=False)
        assert message.headers["task"] == "durable.advance"
        assert message.headers["shadow"] == "w.a"
        assert message.headers["ignore_result"] is True
        assert message.properties["priority"] == 3
        assert message.content_type == "application/json"
        assert message.payload[:2] == [[str(world.token_id(run))], {}]
        message.ack()
        queue.close()


def test_a_row_that_celery_cannot_send_does_not_block_the_others(
    world: World, memory_broker: Durable, relays: Relays
) -> None:
    """P2"""
    durable = memory_broker
    durable.start_many("w", [{}] * 3)
    world.rows(
        'UPDATE durable_outbox SET options = \'{"ignore_result": false, "queue": "durable"}\''
        " WHERE id = (SELECT min(id) FROM durable_outbox)"
    )

    drain(relays.make(durable, KombuPublisher(durable.app)))

    (row,) = world.rows("SELECT tries, last_error FROM durable_outbox")
    assert row["tries"] == 1
    assert "ignore_result" in row["last_error"]
    with durable.app.connection_for_read() as connection:
        queue = connection.SimpleQueue("durable")
        assert queue.qsize() == 2
        queue.close()

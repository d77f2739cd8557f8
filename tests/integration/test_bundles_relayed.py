"""The relay puts the hints of several tokens into one message, where many are due."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from celery_durable import Durable
from celery_durable.background.relay import Published
from celery_durable.errors import BrokerUnavailable
from celery_durable.store.due import DueMessage
from tests.integration.driving import World, defining, worker_id
from tests.integration.relaying import Recorder, Relays, drain


def tokens_in(recorder: Recorder) -> list[int]:
    """How many tokens each message names."""
    return [len(message.args) for message in recorder.taken]


def with_slots(world: World, slots: int) -> Durable:
    """A worker of the queue that executes so many messages at once."""
    worker = world.worker(defining([], "a"))
    world.rows(
        "UPDATE durable_worker SET slots = %s, queues = '[\"durable\"]' WHERE id = %s",
        slots,
        worker_id(worker),
    )
    return worker


def test_few_runs_have_a_message_each(world: World, relays: Relays) -> None:
    worker, recorder = with_slots(world, 2), Recorder()
    worker.start_many("w", [{}] * 7)
    drain(relays.make(worker, recorder, bundles=True))
    assert tokens_in(recorder) == [1] * 7


def test_many_runs_share_messages_and_every_slot_gets_two(world: World, relays: Relays) -> None:
    worker, recorder = with_slots(world, 2), Recorder()
    worker.start_many("w", [{}] * 24)
    drain(relays.make(worker, recorder, bundles=True))
    assert tokens_in(recorder) == [6] * 4
    assert world.hints() == 0


def test_the_slots_of_workers_that_stop_do_not_count(world: World, relays: Relays) -> None:
    worker, other, recorder = with_slots(world, 1), with_slots(world, 9), Recorder()
    world.rows("UPDATE durable_worker SET draining = true WHERE id = %s", worker_id(other))
    worker.start_many("w", [{}] * 8)
    drain(relays.make(worker, recorder, bundles=True))
    assert tokens_in(recorder) == [4, 4]


def test_no_message_names_more_tokens_than_the_setting_says(world: World, relays: Relays) -> None:
    worker, recorder = world.worker(defining([], "a"), bundle=3), Recorder()
    worker.start_many("w", [{}] * 12)
    drain(relays.make(worker, recorder, bundles=True))
    assert tokens_in(recorder) == [3] * 4


def test_a_bundle_of_one_turns_them_off(world: World, relays: Relays) -> None:
    worker, recorder = world.worker(defining([], "a"), bundle=1), Recorder()
    worker.start_many("w", [{}] * 12)
    drain(relays.make(worker, recorder, bundles=True))
    assert tokens_in(recorder) == [1] * 12


def test_rows_beyond_a_batch_count_as_due(world: World, relays: Relays) -> None:
    worker, recorder = world.worker(defining([], "a"), relay_batch=4), Recorder()
    worker.start_many("w", [{}] * 32)
    relay = relays.make(worker, recorder, bundles=True)
    relay._publish_batch(relay._connection())
    assert tokens_in(recorder) == [4]


def test_a_bundle_that_is_refused_is_tried_again_one_by_one(world: World, relays: Relays) -> None:
    refusing = Recorder(lambda messages: Published((), {m.id: "no" for m in messages}))
    worker = world.worker(defining([], "a"))
    worker.start_many("w", [{}] * 4)
    drain(relays.make(worker, refusing, bundles=True))
    rows = world.rows("SELECT tries, last_error FROM durable_outbox")
    assert [(row["tries"], row["last_error"]) for row in rows] == [(1, "no")] * 4

    world.let_time_pass(3600)
    recorder = Recorder()
    drain(relays.make(worker, recorder, bundles=True))
    assert tokens_in(recorder) == [1] * 4


def test_a_bundle_that_the_broker_took_before_it_went_is_not_sent_again(
    world: World, relays: Relays
) -> None:
    def goes(messages: Sequence[DueMessage]) -> Published:
        raise BrokerUnavailable([messages[0].id], ConnectionError("gone"))

    worker = world.worker(defining([], "a"))
    worker.start_many("w", [{}] * 8)
    relay = relays.make(worker, Recorder(goes), bundles=True)
    with suppress(BrokerUnavailable):
        relay._publish_batch(relay._connection())
    assert world.hints() == 4

"""The relay as it runs: it wakes, it outlives outages, and it looks after the dead."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from celery_durable import Durable, RetryPolicy
from celery_durable.background import backlog, relay
from celery_durable.background.relay import Published
from celery_durable.errors import BrokerUnavailable, DatabaseUnavailable
from celery_durable.store.due import DueMessage
from tests.integration.driving import Gate, World, defining, spawn
from tests.integration.relaying import (
    Recorder,
    Relays,
    a_worker_at_work,
    all_of,
    hanging,
    is_listening,
)
from tests.waiting import wait_until


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(defining([], "a"), poll_interval=0.2)


def test_a_running_relay_outlives_a_broker_that_is_away_for_a_while(
    world: World, durable: Durable, relays: Relays, caplog: pytest.LogCaptureFixture
) -> None:
    """P2: with one line in the log when it begins and one when it is over."""
    tries = []

    def away_at_first(messages: Sequence[DueMessage]) -> Published:
        tries.append(len(messages))
        if len(tries) <= 3:
            raise BrokerUnavailable((), "connection refused")
        return all_of(messages)

    recorder = Recorder(away_at_first)
    with caplog.at_level(logging.WARNING, logger="celery_durable.background.relay"):
        relays.run(durable, recorder)
        durable.start("w", {})
        wait_until(lambda: recorder.taken, message="the message to be published")
        wait_until(lambda: "goes on" in caplog.text, message="the end of the outage to be logged")
    assert caplog.text.count("connection refused") == 1


@pytest.mark.parametrize("error", [SystemExit(1), ValueError("odd")], ids=["exit", "bug"])
def test_a_relay_goes_on_whatever_a_transport_raises(
    world: World,
    durable: Durable,
    relays: Relays,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
) -> None:
    """P2: its thread would end without a word of a SystemExit."""
    tries = []

    def odd_at_first(messages: Sequence[DueMessage]) -> Published:
        tries.append(len(messages))
        if len(tries) <= 2:
            raise error
        return all_of(messages)

    recorder = Recorder(odd_at_first)
    relays.run(durable, recorder)
    durable.start("w", {})
    wait_until(lambda: recorder.taken, message="the message to be published")
    wait_until(lambda: "goes on" in caplog.text, message="the end of it to be logged")
    assert caplog.text.count(f"The relay tries again: {type(error).__name__}") == 1
    assert caplog.text.count("Traceback") == 1


def test_what_is_due_soon_is_not_late_for_a_relay_that_looks_seldom(
    world: World, relays: Relays
) -> None:
    """P2: a short backoff, a short sleep, a delayed start; each is put while the relay waits."""

    def fail_once(ctx: Any) -> None:
        if ctx.attempt == 1:
            raise ValueError

    def define(durable: Durable) -> None:
        retry = RetryPolicy(2, initial=0.05, jitter=False)
        durable.workflow("w").step(fail_once, retry=retry).sleep("nap", 0.05)

    durable = world.worker(define, poll_interval=600, inline_steps=1)

    def work(messages: Sequence[DueMessage]) -> Published:
        for message in messages:
            spawn(durable.engine.advance, UUID(message.args[0]))
        return all_of(messages)

    one = relays.run(durable, Recorder(work))
    wait_until(lambda: is_listening(world), message="the relay to listen")
    run = durable.start("w", {}, delay=0.05)
    wait_until(lambda: run.status().finished_at, message="the run to end")
    assert run.history()[0].attempt == 2
    one.stop()
    notify(durable)


def test_what_a_relay_that_died_had_in_hand_is_soon_sent_by_another(
    world: World, relays: Relays, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: also by one that looks seldom, and has seen the rows long ago."""
    monkeypatch.setattr(backlog, "LAG", 0.0)
    slow, quick = (world.worker(defining([], "a"), poll_interval=600) for _ in range(2))
    slow.start("w", {})
    gate = Gate()

    stuck = relays.make(slow, hanging(gate))
    connection = stuck._connection()
    at_work = gate.hold(stuck._publish_batch, connection)
    recorder = Recorder()
    other = relays.run(quick, recorder)
    wait_until(lambda: other._backlog._saw_some and not other._backlog.sight.lanes, message="it")
    world.rows("SELECT pg_terminate_backend(%s)", connection.raw.info.backend_pid)
    wait_until(lambda: recorder.taken, message="the other relay to send it")
    gate.open()
    with pytest.raises(DatabaseUnavailable):
        at_work.result(20)
    other.stop()
    notify(quick)


def notify(durable: Durable) -> None:
    """Wake a relay that would look seldom."""
    durable.notify._last_sent = 0.0
    durable.notify()


def test_a_notification_wakes_a_relay(world: World, relays: Relays) -> None:
    """Long before it would look by itself."""
    durable = world.worker(defining([], "a"), poll_interval=600)
    relay_of_long_naps = pytest.MonkeyPatch()
    for pause in ("REAP_EVERY", "REAP_EVERY_IF_IDLE"):
        relay_of_long_naps.setattr(relay, pause, 600.0)
    try:
        recorder = Recorder()
        relays.run(durable, recorder)
        wait_until(lambda: is_listening(world), message="the relay to listen")
        for n in range(1, 4):
            durable.start("w", {})
            wait_until(lambda n=n: len(recorder.taken) == n, message="the relay to wake")  # type: ignore[misc]
        durable.notify._last_sent = 0.0
        relays.made[0].stop()
        durable.notify()
    finally:
        relay_of_long_naps.undo()


def test_a_row_that_nobody_spoke_of_is_found_by_polling(
    world: World, durable: Durable, relays: Relays
) -> None:
    """P7: a caller who joined a transaction of his own sends no notification."""
    recorder = Recorder()
    relays.run(durable, recorder)
    with world.connect() as connection, connection.transaction():
        durable.start("w", {}, session=connection)
    wait_until(lambda: recorder.taken, message="the relay to look")


def test_a_relay_comes_back_when_its_connections_were_cut(
    world: World, durable: Durable, relays: Relays
) -> None:
    """P2"""
    url = sa.make_url(world.url).update_query_dict({"application_name": "relay"})
    of_the_relay = world.worker(database_url=url.render_as_string(hide_password=False))
    recorder = Recorder()
    relays.run(of_the_relay, recorder)

    def cut() -> list[Any]:
        return world.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'relay' AND datname = current_database()"
        )

    for n in range(1, 5):
        durable.start("w", {})
        wait_until(lambda n=n: len(recorder.taken) >= n, message="the message")  # type: ignore[misc]
        wait_until(cut, message="a connection of the relay's")


def test_a_relay_that_is_told_to_stop_publishes_what_is_due(
    world: World, durable: Durable, relays: Relays
) -> None:
    """P2"""
    recorder = Recorder()
    one = relays.make(durable, recorder)
    durable.start_many("w", [{}] * 3)
    one.stop()
    one.run()
    assert len(recorder.taken) == 3
    assert recorder.closed == 1


def test_a_relay_frees_what_the_dead_had_claimed(
    world: World, durable: Durable, relays: Relays
) -> None:
    """P5"""
    recorder = Recorder()
    with a_worker_at_work(world) as (victim, token_id):
        relays.run(durable, recorder)
        world.kill(victim)
        wait_until(lambda: token_id in recorder.tokens(), message="the hint to another worker")


def test_a_relay_sends_lost_hints_again(world: World, durable: Durable, relays: Relays) -> None:
    """P2"""
    run = durable.start("w", {})
    world.lose_hints()
    world.let_time_pass(60)
    recorder = Recorder()
    relays.run(durable, recorder)
    wait_until(lambda: recorder.taken, message="the hint")
    assert recorder.tokens() == [world.token_id(run)]

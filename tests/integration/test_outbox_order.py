"""What the outbox holds, and in what order a relay sends it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.background import backlog
from celery_durable.background.relay import Published, Relay
from celery_durable.errors import GiveUp
from celery_durable.store.due import DueMessage
from tests.integration.driving import Define, World, defining, noting
from tests.integration.relaying import Recorder, Relays, drain
from tests.integration.workflows import waiting
from tests.waiting import wait_until

HOUR = 3600.0


def mapping(items: int, **options: Any) -> Define:
    def define(durable: Durable) -> None:
        workflow = durable.workflow("m")
        workflow.map("m", over=lambda _: list(range(items)), handler=noting([], "h"), **options)
        defining([], "a")(durable)

    return define


def batch(one: Relay) -> int:
    return one._publish_batch(one._connection())


def looping(durable: Durable) -> None:
    step = durable.step(name="a")(lambda _: None)
    durable.workflow("w").loop("l", step, until=lambda _, n: n == 2, max_iterations=2)


@pytest.mark.parametrize("define", [defining([], "a", "b"), looping], ids=["steps", "iterations"])
def test_a_clock_that_is_set_back_delays_nothing_that_is_due(world: World, define: Define) -> None:
    """P2: a failover to a slow standby, a correction after a start."""
    worker = world.worker(define, inline_steps=1)
    runs = worker.start_many("w", [{}] * 3)
    for _ in range(2):
        world.set_clock_back(HOUR)
        for token_id in world.publish():
            worker.engine.advance(token_id)
    assert [run.status().status for run in runs] == ["completed"] * 3


def test_a_clock_that_is_set_back_does_not_hide_what_was_lost(world: World) -> None:
    """P2"""
    worker = world.worker(defining([], "a"))
    run = worker.start("w", {})
    world.lose_hints()
    world.set_clock_back(HOUR)
    assert worker.recover() == 1
    world.drain(worker)
    assert run.status().status == "completed"


def test_the_hints_of_branches_that_a_cancel_ends_go_with_them(world: World) -> None:
    """P11: nobody else waits behind what is refused anyway."""
    worker = world.worker(mapping(50))
    run = worker.start("m", {})
    for token_id in world.publish():
        worker.engine.advance(token_id)
    assert world.hints(run) == 50
    run.cancel()
    assert world.hints(run) == 0


def test_the_hints_of_branches_that_fail_fast_stops_go_with_them(world: World) -> None:
    """P11"""

    def fail(_: Any) -> None:
        raise GiveUp("no")

    def define(durable: Durable) -> None:
        durable.workflow("w").parallel(
            "p", {"a": fail, "b": noting([], "b"), "c": noting([], "c")}, fail_fast=True
        )

    worker = world.worker(define)
    run = worker.start("w", {})
    (root,) = world.publish()
    worker.engine.advance(root)
    first, *_ = world.rows("SELECT id, args FROM durable_outbox ORDER BY id")
    world.rows("DELETE FROM durable_outbox WHERE id = %s", first["id"])
    worker.engine.advance(first["args"][0])
    assert world.hints(run) == 1, "the parent's"


@pytest.mark.parametrize("lowest_first", [False, True])
def test_a_higher_priority_goes_before_all_that_wait(
    world: World, relays: Relays, lowest_first: bool
) -> None:
    """In the broker's own sense: 0 is the lowest, but for Redis."""
    durable = world.worker(defining([], "a"), relay_batch=4)
    numbers = (9, 5, 1) if not lowest_first else (1, 5, 9)
    low = durable.start_many("w", [{}] * 10, priority=numbers[2])
    plain = durable.start("w", {})
    middle = durable.start("w", {}, priority=numbers[1])
    delayed = durable.start("w", {}, priority=numbers[0], delay=1)
    world.let_time_pass(2)
    recorder = Recorder()
    recorder.lowest_first = lowest_first

    drain(relays.make(durable, recorder))

    order = [delayed, middle, *low, plain] if not lowest_first else [plain, delayed, middle, *low]
    assert recorder.tokens() == [world.token_id(run) for run in order]


def test_a_run_that_has_put_thousands_holds_up_no_other(world: World, relays: Relays) -> None:
    """Fair between runs: also to the run of a smaller map."""
    worker = world.worker(mapping(500), relay_batch=20)
    large = worker.start("m", {})
    for token_id in world.publish():
        worker.engine.advance(token_id)
    small = worker.start_many("w", [{}] * 10)
    recorder = Recorder()
    one = relays.make(worker, recorder)

    for _ in range(5):
        batch(one)

    assert {world.token_id(run) for run in small} <= set(recorder.tokens())
    drain(one)
    assert len(recorder.taken) == 510
    assert world.hints(large) == 0


def test_items_of_one_map_go_in_about_their_order(world: World, relays: Relays) -> None:
    worker = world.worker(mapping(64), relay_batch=64)
    worker.start("m", {})
    for token_id in world.publish():
        worker.engine.advance(token_id)
    recorder = Recorder()
    batch(relays.make(worker, recorder))
    names = [message.options["shadow"] for message in recorder.taken]
    assert names[0] == "m.m#0"
    assert len(names) == 64


def test_what_is_long_sent_costs_no_later_look(
    world: World, relays: Relays, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P11: a session elsewhere that may still see the sent rows keeps them in the indexes."""
    durable = world.worker(defining([], "a"))
    one = relays.make(durable, Recorder())
    with world.connect() as dump:
        dump.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        dump.execute("SELECT FROM durable_run")
        durable.start_many("w", [{}] * 600)
        durable.start_many("w", [{}] * 400, delay=0.01)
        wait_until(lambda: batch(one) == 0 and not world.hints(), message="all to be sent")
        monkeypatch.setattr(backlog, "LAG", 0.0)
        for _ in range(2):
            batch(one)
        one._backlog._sweep_at = math.inf
        read_by(one, world)
        world.rows("SELECT pg_stat_reset()")
        for _ in range(20):
            durable.start("w", {})
            assert batch(one) == 1
        assert read_by(one, world) < 1000, "not the 20,000 that are gone"


def test_what_has_a_time_costs_no_look(
    world: World, relays: Relays, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P11: nor one of a relay that starts beside a million of them."""
    durable = world.worker(defining([], "a"))
    durable.start_many("w", [{}] * 1000, delay=3600)
    world.rows("VACUUM ANALYZE durable_outbox")
    one = relays.make(durable, Recorder())
    monkeypatch.setattr(backlog, "LAG", 0.0)
    for _ in range(3):
        batch(one)
    one._backlog._sweep_at = math.inf
    read_by(one, world)
    world.rows("SELECT pg_stat_reset()")
    for _ in range(20):
        batch(one)
    durable.start("w", {})
    assert batch(one) == 1
    assert read_by(one, world) < 1000, "not the 20,000 that have a time"


def read_by(one: Relay, world: World) -> int:
    """Entries of the outbox's indexes that were read; its session says so when it ends."""
    one.close()
    read = (
        "SELECT (sum(idx_tup_read) + (SELECT seq_tup_read FROM pg_stat_user_tables t"
        " WHERE t.relname = 'durable_outbox'))::bigint FROM pg_stat_user_indexes"
        " WHERE relname = 'durable_outbox'"
    )
    wait_until(lambda: world.one(read), message="the statistics")
    return int(world.one(read))


def test_what_was_committed_late_is_found(world: World, relays: Relays) -> None:
    """P2: with older ids and times than what has been sent since."""
    durable = world.worker(defining([], "a"))
    recorder = Recorder()
    one = relays.make(durable, recorder)
    with world.connect() as session, session.transaction():
        late = [durable.start("w", {}, session=session) for _ in range(2)]
        late.append(durable.start("w", {}, session=session, priority=7))
        late.append(durable.start("w", {}, session=session, delay=0.01))
        durable.start_many("w", [{}] * 5)
        assert drain(one) == 5
        for _ in range(3):
            one._backlog._moved_at = -math.inf
            batch(one)
    expected = {world.token_id(run) for run in late}
    wait_until(lambda: batch(one) >= 0 and expected <= set(recorder.tokens()), message="the late")


def test_a_callers_transaction_holds_back_no_hint_of_the_run_it_cancels(
    world: World, relays: Relays
) -> None:
    """P7: as long as it lasts, the run goes on."""
    worker = world.worker(defining([], "a"))
    run = worker.start("w", {})
    recorder = Recorder()
    with world.connect() as session, session.transaction():
        run.cancel(session=session)
        assert drain(relays.make(worker, recorder)) == 1
    assert recorder.tokens() == [world.token_id(run)]


def test_of_hints_that_say_the_same_one_is_sent(world: World, relays: Relays) -> None:
    worker = world.worker(waiting)
    run = worker.start("w", {})
    world.drain(worker)
    for n in range(5):
        run.resume("go", n)
    assert world.hints() == 5
    recorder = Recorder()
    drain(relays.make(worker, recorder))
    assert recorder.tokens() == [world.token_id(run)]
    assert world.hints() == 0


def test_a_hint_that_the_broker_refuses_stays_the_only_one_of_its_token(
    world: World, relays: Relays
) -> None:
    """Whatever else is put for it: by the look for lost hints, a signal or a cancel."""
    worker = world.worker(waiting)
    waits, queued = worker.start("w", {}), worker.start("w", {})
    worker.engine.advance(world.token_id(waits))

    def refuse(messages: Sequence[DueMessage]) -> Published:
        return Published((), {message.id: "no" for message in messages})

    one = relays.make(worker, Recorder(refuse))
    for n in range(3):
        for run in (waits, queued):
            run.resume("go", n, key=f"k{n}")
        drain(one)
        world.rows("UPDATE durable_token SET hinted_at = hinted_at - interval '1 hour'")
        worker.recover()
        drain(one)
        assert (world.hints(waits), world.hints(queued)) == (1, 1)
    for run in (waits, queued):
        run.cancel()
    assert (world.hints(waits), world.hints(queued)) == (0, 0)

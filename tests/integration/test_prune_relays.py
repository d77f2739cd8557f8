"""Relays prune in the background: one at a time, giving way, at next to no cost while idle."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from uuid import uuid4

import pytest

from celery_durable import Durable
from celery_durable.background import retention
from celery_durable.background.recovery import recover_with_lease
from celery_durable.background.retention import (
    LEASE,
    PAUSE_SHARE,
    PRUNE_EVERY,
    SHORTEST_PAUSE,
    RetentionDuty,
)
from celery_durable.store.connection import Statement
from celery_durable.store.pruning import erasing, lease
from tests.integration.driving import World, all_at_once, defining
from tests.integration.pruned import NOTHING, Past
from tests.integration.relaying import Recorder, Relays
from tests.timekeeping import Clock
from tests.waiting import wait_until


@pytest.fixture
def past(world: World) -> Past:
    return Past(world)


@pytest.fixture
def worker(world: World) -> Durable:
    """A client of a schema in which a relay has scanned."""
    worker = world.worker(retention={"completed": timedelta(days=30)})
    recover_with_lease(worker.database)
    return worker


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the duty, which the test moves."""
    clock = Clock(1000.0)
    monkeypatch.setattr(retention, "time", clock)
    return clock


def duty_of(durable: Durable) -> RetentionDuty:
    return RetentionDuty(durable.database, durable.settings.retention)


def one_pass(duty: RetentionDuty) -> int:
    """Go on until all relays pause; how many times it was called."""
    calls = 1
    while duty.go_on()[1] != PRUNE_EVERY:
        calls += 1
    return calls


def let_the_lease_end(world: World) -> None:
    world.rows("UPDATE durable_recovery SET prune_at = clock_timestamp()")


def test_a_real_relay_prunes_by_itself(
    world: World, past: Past, relays: Relays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PRUNE_EVERY", 0.05)
    young = past.run(days=29)
    past.runs(100, parent=past.run(days=31))
    relays.run(world.worker(), Recorder())
    wait_until(lambda: past.left() == {young}, message="the relay to prune")
    past.run(days=31)
    wait_until(lambda: past.left() == {young}, message="the relay to prune again")


def test_with_retention_none_a_relay_deletes_no_run(world: World, past: Past) -> None:
    run = past.run(days=5000)
    worker = world.worker(retention=None)
    recover_with_lease(worker.database)
    one_pass(duty_of(worker))
    assert past.left() == {run}


def test_one_relay_prunes_at_a_time(world: World, past: Past, worker: Durable) -> None:
    past.runs(1000)
    first, second = duty_of(worker), duty_of(world.worker())
    first.go_on()
    before = past.rows()
    assert second.go_on() == (0, PRUNE_EVERY)
    assert past.rows() == before
    one_pass(first)
    assert past.rows() == NOTHING
    past.run()
    assert second.go_on() == (0, PRUNE_EVERY), "all of them pause"
    let_the_lease_end(world)
    one_pass(second)
    assert past.rows() == NOTHING


def test_the_pass_of_a_relay_that_died_is_taken_over(
    world: World, past: Past, worker: Durable
) -> None:
    past.runs(1000)
    duty_of(worker).go_on()
    let_the_lease_end(world)
    one_pass(duty_of(world.worker()))
    assert past.rows() == NOTHING


def test_a_relay_keeps_its_lease_for_as_long_as_it_prunes(
    world: World, past: Past, worker: Durable, stopped: Clock
) -> None:
    past.runs(2000)
    duty, other = duty_of(worker), duty_of(world.worker())
    duty.go_on()
    world.rows("UPDATE durable_recovery SET prune_at = clock_timestamp() + interval '1 s'")
    stopped.now += LEASE / 2
    duty.go_on()
    left = "SELECT extract(epoch FROM prune_at - clock_timestamp()) FROM durable_recovery"
    assert world.one(left) > LEASE / 2
    assert other.go_on() == (0, PRUNE_EVERY)


def test_a_relay_that_was_frozen_while_another_took_over_gives_up(
    world: World, past: Past, worker: Durable, stopped: Clock
) -> None:
    past.runs(2000)
    frozen, other = duty_of(worker), duty_of(world.worker())
    frozen.go_on()
    let_the_lease_end(world)
    other.go_on()
    stopped.now += 2 * LEASE
    assert frozen.go_on() == (0, PRUNE_EVERY)


def test_a_clock_that_was_set_back_stops_no_pruning(
    world: World, past: Past, worker: Durable
) -> None:
    past.run()
    world.rows("UPDATE durable_recovery SET prune_at = clock_timestamp() + interval '1 day'")
    one_pass(duty_of(worker))
    assert past.rows() == NOTHING


def test_a_relay_pauses_between_transactions(
    past: Past, worker: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For several times as long as one takes."""
    past.runs(100)
    clock = Clock()
    monkeypatch.setattr(retention, "time", clock)
    erase = erasing.erase

    def slow(*arguments: object) -> object:
        clock.now += 2.0
        return erase(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(erasing, "erase", slow)
    duty = duty_of(worker)
    assert duty.go_on() == (0, 2.0 * PAUSE_SHARE)
    monkeypatch.undo()
    assert duty.go_on()[1] >= SHORTEST_PAUSE


@pytest.fixture
def asked(statements: list[Statement]) -> Callable[[Callable[[], object]], int]:
    """Counts the statements of some work."""

    def count(work: Callable[[], object]) -> int:
        before = len(statements)
        work()
        return len(statements) - before

    return count


def test_while_there_is_nothing_to_prune_it_costs_a_few_statements_a_minute(
    world: World, worker: Durable, asked: Callable[[Callable[[], object]], int]
) -> None:
    """P11: and one of each relay whose turn it is not."""
    duty, other = duty_of(worker), duty_of(world.worker())
    assert asked(duty.go_on) <= 8
    other.go_on()
    assert asked(other.go_on) == 1


def test_a_pass_does_not_look_again_at_what_has_to_stay(
    world: World, past: Past, worker: Durable, stopped: Clock
) -> None:
    """P11: only the first of each hour does."""
    top = past.run(days=300)
    child = past.run(parent=top, days=None)
    duty = duty_of(worker)
    one_pass(duty)
    world.rows(
        "UPDATE durable_run SET status = 'completed', finished_at = now() WHERE id = %s", child
    )
    past.run(days=200)
    let_the_lease_end(world)
    one_pass(duty)
    assert past.left() == {top, child}
    let_the_lease_end(world)
    stopped.now += retention.ANEW_EVERY
    one_pass(duty)
    assert past.rows() == NOTHING


def test_a_pass_goes_on_after_an_error(
    world: World, past: Past, worker: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    past.runs(500)
    duty = duty_of(worker)
    duty.go_on()
    with monkeypatch.context() as broken:
        broken.setattr(erasing, "erase", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            duty.go_on()
    let_the_lease_end(world)
    one_pass(duty)
    assert past.rows() == NOTHING


def test_a_pass_forgets_relays_that_are_long_gone(world: World, worker: Durable) -> None:
    here, gone = uuid4(), uuid4()
    for relay, ago in ((here, "1 minute"), (gone, "2 hours")):
        world.rows(
            "INSERT INTO durable_relay (id, hostname, pid, seen_at)"
            f" VALUES (%s, 'h', 1, clock_timestamp() - interval '{ago}')",
            relay,
        )
    one_pass(duty_of(worker))
    assert world.rows("SELECT id FROM durable_relay") == [{"id": here}]


def test_a_pass_deletes_hints_for_tokens_that_are_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of the outbox each time; what else is in it stays."""
    monkeypatch.setattr(retention, "PAGE", 10)
    worker = world.worker(defining([], "a"))
    recover_with_lease(worker.database)
    runs = worker.start_many("w", [{}] * 15, delay=3600)
    world.rows(
        "INSERT INTO durable_outbox (task, args, options, run_id, available_at)"
        " VALUES ('remind', '[]', '{}', %s, now() + interval '1 year')",
        uuid4(),
    )
    stray = (
        "INSERT INTO durable_outbox (task, args, options, token_id, fence, available_at)"
        " SELECT 'durable.advance', '[]', '{}', gen_random_uuid(), gen_random_uuid(),"
        " now() + interval '1 year' FROM generate_series(1, 15)"
    )
    world.rows(stray)
    duty = duty_of(worker)
    for _ in range(4):
        one_pass(duty)
        let_the_lease_end(world)
    assert world.hints() == len(runs) + 1
    world.rows(stray)
    for _ in range(4):
        one_pass(duty)
        let_the_lease_end(world)
    assert world.hints() == len(runs) + 1


def test_the_first_relay_of_a_schema_makes_the_lease_and_has_it(world: World, past: Past) -> None:
    past.run()
    durable = world.worker()
    world.rows("DELETE FROM durable_recovery")
    one_pass(duty_of(durable))
    assert past.rows() == NOTHING
    assert recover_with_lease(durable.database).pause > timedelta(0), "it may scan as ever"


def test_of_relays_that_come_at_once_one_gets_the_lease(world: World) -> None:
    world.rows("DELETE FROM durable_recovery")
    second = timedelta(seconds=10)

    def take(durable: Durable) -> bool:
        with durable.database.autocommit() as connection:
            return lease.take(connection, second, second)

    for _ in range(5):
        got = all_at_once([partial(take, world.worker()) for _ in range(4)])
        assert sum(got) == 1
        let_the_lease_end(world)

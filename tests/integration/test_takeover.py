"""P5: the units of a dead worker run elsewhere, and its crash is counted."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.background import recovery
from celery_durable.background.recovery import Reaper
from celery_durable.store import dead_workers, watching, workers
from celery_durable.store.connection import Connection
from celery_durable.store.dead_workers import Death
from tests.integration.driving import (
    Define,
    Gate,
    World,
    defining,
    noting,
    spawn,
    worker_id,
)
from tests.timekeeping import Clock


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that is found free is a death at once; one test here is about the grace."""
    for grace in ("GRACE", "GRACE_OF_MANY"):
        monkeypatch.setattr(recovery, grace, 0.0)


class Scene:
    """A worker that hangs in the step `a` of its run, and another that could take over."""

    def __init__(self, world: World, **settings: Any) -> None:
        self.world = world
        self.log: list[str] = []
        self.gate = Gate()
        define = self.define()
        self.hung = world.worker(define, **settings)
        self.other = world.worker(define, **settings)
        self.run = self.hung.start("w", {})
        (token_id,) = world.publish()
        self.at_work = self.gate.hold(self.hung.engine.advance, token_id)

    def define(self) -> Define:
        def a(ctx: Any) -> None:
            self.log.append("a")
            if self.log == ["a"]:
                self.gate()

        def define(durable: Durable) -> None:
            durable.workflow("w").step(a).step(noting(self.log, "b"))

        return define

    def reap(self) -> int:
        return self.world.reap(self.other)

    def let_go(self) -> None:
        self.gate.finish(self.at_work)

    def crashes(self) -> int:
        token = self.world.token(self.run)
        return int(token["crashes"])


def test_a_worker_whose_lock_is_free_is_reaped_at_once(world: World) -> None:
    """P5: long before its TTL; and its crash is counted."""
    scene = Scene(world)
    world.kill(scene.hung)

    assert scene.reap() == 1
    assert scene.crashes() == 1
    assert world.one("SELECT count(*) FROM durable_worker WHERE ended_at IS NOT NULL") == 1
    world.drain(scene.other)
    assert scene.log == ["a", "a", "b"]
    assert scene.run.status().status == "completed"
    scene.let_go()


def test_a_living_worker_is_left_alone(world: World) -> None:
    """P5"""
    scene = Scene(world)

    assert [scene.reap() for _ in range(3)] == [0, 0, 0]

    scene.let_go()
    assert scene.log == ["a", "b"]
    assert world.one("SELECT count(*) FROM durable_worker WHERE ended_at IS NOT NULL") == 0


def test_reaping_twice_counts_one_crash_and_puts_one_hint(world: World) -> None:
    """P5"""
    scene = Scene(world)
    world.kill(scene.hung)

    assert [scene.reap() for _ in range(3)] == [1, 0, 0]
    assert scene.crashes() == 1
    assert world.hints() == 1
    scene.let_go()


def test_reaping_looks_at_levels_not_at_edges(world: World) -> None:
    """P5: the worker was declared dead, and the one who did it died before it freed the token."""
    scene = Scene(world)
    world.kill(scene.hung)
    with scene.other.database.autocommit() as connection:
        assert len(dead_workers.declare_dead(connection, unlocked(connection))) == 1

    assert scene.reap() == 1
    world.drain(scene.other)
    assert scene.run.status().status == "completed"
    scene.let_go()


def test_a_claim_of_a_worker_that_is_in_no_table_is_freed(world: World) -> None:
    """P5"""
    scene = Scene(world)
    world.rows("DELETE FROM durable_worker")

    assert scene.reap() == 1
    assert scene.crashes() == 1
    scene.let_go()


def test_a_worker_that_was_stopping_counts_no_crash(world: World) -> None:
    """P5"""
    scene = Scene(world)
    world.rows("UPDATE durable_worker SET draining = true")
    world.kill(scene.hung)

    assert scene.reap() == 1
    assert scene.crashes() == 0
    scene.let_go()


def test_a_worker_that_left_in_good_order_counts_no_crash(world: World) -> None:
    """P5"""
    scene = Scene(world)
    scene.hung.liveness.leave()

    assert scene.reap() == 1
    assert scene.crashes() == 0
    scene.let_go()


def test_a_worker_that_stopped_renewing_is_dead_though_it_holds_its_lock(world: World) -> None:
    """P5: it hangs."""
    scene = Scene(world)
    world.expire(scene.hung)

    assert scene.reap() == 1
    world.drain(scene.other)
    assert scene.log == ["a", "a", "b"]
    scene.let_go()
    assert world.units(scene.run) == ["a completed", "b completed"]


def test_a_worker_without_a_lock_is_dead_only_when_it_expired(world: World) -> None:
    """P5: behind a transaction pooler."""
    scene = Scene(world)
    world.rows("UPDATE durable_worker SET lock_number = NULL")
    assert scene.reap() == 0

    world.expire(scene.hung)
    assert scene.reap() == 1
    scene.let_go()


def test_a_restart_of_the_server_is_not_taken_for_death(world: World) -> None:
    """P5: after it every lock is free though the workers live."""
    scene = Scene(world)
    world.rows("UPDATE durable_worker SET server_started_at = server_started_at - interval '1 day'")
    world.kill(scene.hung)

    assert scene.reap() == 0, "its lock is free, but the server has restarted since"
    world.expire(scene.hung)
    assert scene.reap() == 1
    scene.let_go()


@pytest.mark.parametrize("limit", [1, 3])
def test_a_unit_that_kills_its_workers_fails_in_the_end(world: World, limit: int) -> None:
    """P5: and what completed before it is undone."""
    log: list[str] = []
    gates: list[Gate] = []

    def deadly(ctx: Any) -> None:
        log.append("deadly")
        gates[-1]()

    def define(durable: Durable) -> None:
        a = durable.step(noting(log, "a"))
        a.compensate(noting(log, "undo a"))
        durable.workflow("w").step(a).step(deadly)

    living = world.worker(define, max_crashes=limit)
    run = living.start("w", {})
    for _ in range(limit):
        victim = world.worker(define, max_crashes=limit)
        gates.append(Gate())
        (token_id,) = world.publish()
        at_work = gates[-1].hold(victim.engine.advance, token_id)
        world.kill(victim)
        living.recover()
        gates[-1].finish(at_work)

    world.drain(living)

    assert log == ["a", *["deadly"] * limit, "undo a"]
    snapshot = run.status()
    assert snapshot.status == "failed"
    assert snapshot.error is not None
    assert (snapshot.error.type, snapshot.error.unit) == ("WorkerLost", "deadly")
    assert f"{limit} workers died" in snapshot.error.message
    assert world.units(run) == ["a completed", "deadly failed", "a#compensate completed"]


def test_a_step_that_completes_forgets_the_crashes_before_it(world: World) -> None:
    """P5: crashes are counted per unit."""
    scene = Scene(world, inline_steps=1)
    world.kill(scene.hung)
    scene.reap()
    (token_id,) = world.publish()
    scene.other.engine.advance(token_id)

    token = world.token(scene.run)
    assert (token["unit"], token["crashes"]) == ("b", 0)
    scene.let_go()


def test_a_worker_that_was_told_to_stop_begins_nothing(world: World) -> None:
    """P5"""
    log: list[str] = []
    define = defining(log, "a", "b")
    stopping, other = world.worker(define), world.worker(define)
    run = stopping.start("w", {})
    world.rows("UPDATE durable_worker SET draining = true WHERE id = %s", worker_id(stopping))
    (token_id,) = world.publish()

    stopping.engine.advance(token_id)
    assert log == []
    assert world.hints(run) == 1

    world.let_time_pass(1)
    world.drain(other)
    assert log == ["a", "b"]


def test_a_worker_that_is_told_to_stop_ends_its_unit_and_hands_the_run_on(world: World) -> None:
    """P5"""
    scene = Scene(world)
    world.rows("UPDATE durable_worker SET draining = true")
    scene.let_go()

    assert scene.log == ["a"]
    world.let_time_pass(1)
    world.drain(scene.other)
    assert scene.log == ["a", "b"]
    assert world.has_ended(scene.run)


def test_a_lock_that_is_free_for_a_moment_is_no_death(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P5: its worker may just be taking it again."""
    monkeypatch.setattr(recovery, "GRACE", 1000.0)
    scene = Scene(world)
    reaper = Reaper()
    with scene.other.database.autocommit() as connection:
        assert reaper.reap(connection) == 0
        world.kill(scene.hung)
        assert [reaper.reap(connection) for _ in range(3)] == [0, 0, 0]
        monkeypatch.setattr(recovery, "GRACE", 0.0)
        assert reaper.reap(connection) == 1
    scene.let_go()


def test_a_lock_that_is_lost_twice_is_no_death(
    world: World, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """P4: the worker has taken it again, and so renewed, between two looks that find it free."""
    monkeypatch.setattr(recovery, "GRACE", 1.0)
    scene = Scene(world)
    hung = worker_id(scene.hung)
    world.kill(scene.hung)
    reaper = Reaper()
    with scene.other.database.autocommit() as connection:
        assert reaper.reap(connection) == 0
        assert workers.renew(connection, hung, 30.0)
        clock.now = 1.0
        assert reaper.reap(connection) == 0
        clock.now = 2.0
        assert reaper.reap(connection) == 1
    scene.let_go()


def test_several_nodes_that_lose_their_locks_at_once_have_longer(
    world: World, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """P4: what is broken is the way to Postgres, and many workers are coming back."""
    monkeypatch.setattr(recovery, "GRACE_OF_MANY", 3.0)
    scene = Scene(world)
    third = world.worker(scene.define())
    hung, idle = worker_id(scene.hung), worker_id(third)
    world.kill(scene.hung)
    world.kill(third)
    reaper = Reaper()
    with scene.other.database.autocommit() as connection:
        for seconds in (0.0, 1.0, 2.0):
            clock.now = seconds
            assert reaper.reap(connection) == 0
        with third.database.autocommit() as back:
            number = world.one("SELECT lock_number FROM durable_worker WHERE id = %s", idle)
            assert workers.take_lock(back, number)
            # The other has been away for long enough for one that is alone.
            assert reaper.reap(connection) == 1
        ended = "SELECT id FROM durable_worker WHERE ended_at IS NOT NULL"
        assert world.one(ended) == hung
    scene.let_go()


def test_a_worker_that_renews_as_it_is_declared_dead_is_not(world: World) -> None:
    """P4"""
    scene = Scene(world)
    hung = worker_id(scene.hung)
    world.kill(scene.hung)
    with scene.other.database.autocommit() as connection:
        seen = unlocked(connection)
        assert len(seen) == 1
        assert workers.renew(connection, hung, 30.0)
        assert not dead_workers.declare_dead(connection, seen)
        assert dead_workers.declare_dead(connection, unlocked(connection))
    scene.let_go()


def test_a_worker_dies_by_its_ttl_when_it_was_watched_for_so_long(
    world: World, clock: Clock
) -> None:
    """P5: it hangs, and holds its lock; the database's clock was set back by an hour meanwhile."""
    scene = Scene(world)
    world.rows("UPDATE durable_worker SET expires_at = expires_at + interval '1 hour'")
    reaper = Reaper()
    with scene.other.database.autocommit() as connection:
        for _ in range(30):
            assert reaper.reap(connection) == 0
            assert workers.renew(connection, worker_id(scene.other), 30.0)
            clock.now += 1.0
        assert reaper.reap(connection) == 1
    assert world.one("SELECT count(*) FROM durable_worker WHERE ended_at IS NOT NULL") == 1
    scene.let_go()


def test_a_clock_of_the_database_that_is_set_forward_kills_nobody(
    world: World, clock: Clock
) -> None:
    """P4: all have expired by it, and each renews at its own time."""
    scene = Scene(world)
    world.rows("UPDATE durable_worker SET expires_at = expires_at - interval '1 hour'")
    reaper = Reaper()
    with scene.other.database.autocommit() as connection:
        for _ in range(29):
            assert reaper.reap(connection) == 0
            clock.now += 1.0
    assert recovery.recover(scene.other.database) == 0
    assert world.one("SELECT count(*) FROM durable_worker WHERE ended_at IS NOT NULL") == 0
    scene.let_go()
    assert scene.log == ["a", "b"]


def test_time_in_which_nobody_could_look_kills_nobody(world: World, clock: Clock) -> None:
    """P4: after an outage that all were in, a reaper may find Postgres before the others do."""
    scene = Scene(world)
    reaper = Reaper()
    with scene.other.database.autocommit() as connection:
        for _ in range(10):
            assert reaper.reap(connection) == 0
            clock.now += 3600.0
    scene.let_go()


def test_a_reaper_waits_for_no_row_of_a_worker(world: World) -> None:
    """P5: whoever has it locked; of two dead, the other is found."""
    locked, scene = Scene(world), Scene(world)
    world.kill(locked.hung)
    world.kill(scene.hung)
    with world.connect() as holder, holder.transaction():
        row = [worker_id(locked.hung)]
        holder.execute("SELECT FROM durable_worker WHERE id = %s FOR UPDATE", row)
        assert spawn(scene.reap).result(5) == 1
    assert locked.reap() == 1
    locked.let_go()
    scene.let_go()


def unlocked(connection: Connection) -> list[Death]:
    """The workers whose lock is free, to be declared dead."""
    return [
        Death(one, 0.0, is_silent=False)
        for one in watching.look(connection, 1).signs
        if one.is_unlocked
    ]

"""P5: how a worker stays alive, and what it does when it is not taken for alive any more."""

from __future__ import annotations

from collections import Counter
from typing import Any, NoReturn

import pytest

from celery_durable import Durable
from celery_durable.errors import DatabaseUnavailable
from celery_durable.store import workers
from tests.integration.driving import LOCKED_HERE, Gate, World, claimed, defining, worker_id
from tests.integration.relaying import Recorder, Relays
from tests.waiting import wait_until


def cut_lock_connection(world: World, worker: Durable) -> None:
    world.rows("SELECT pg_terminate_backend(%s)", world.lock_holder(worker))


def test_a_worker_says_who_it_is_and_holds_its_lock(world: World) -> None:
    """P5"""
    worker = world.worker()
    me = worker_id(worker)

    (row,) = world.rows("SELECT * FROM durable_worker")
    assert row["id"] == me
    assert world.lock_holder(worker)
    assert row["ended_at"] is None
    assert not row["draining"]
    assert row["expires_at"] > row["started_at"]
    assert row["server_started_at"] == world.one("SELECT pg_postmaster_start_time()")


def test_every_worker_has_a_lock_of_its_own(world: World) -> None:
    """P5"""
    workers = [world.worker() for _ in range(3)]
    for worker in workers:
        worker.liveness.worker_id()
    assert len({world.lock_holder(worker) for worker in workers} - {None}) == 3


def test_a_worker_renews(world: World) -> None:
    """P5"""
    worker = world.worker(worker_ttl=0.6)
    me = worker_id(worker)

    def expires_at() -> Any:
        return world.one("SELECT expires_at FROM durable_worker WHERE id = %s", me)

    first = expires_at()
    wait_until(lambda: expires_at() > first, message="a renewal")


def test_a_lock_lost_while_the_worker_lives_is_taken_again(world: World) -> None:
    """P5: and the unit it executes meanwhile runs once."""
    log: list[str] = []
    gate = Gate()

    define = defining(log, "slow", "b", gate=gate)
    worker, other = world.worker(define), world.worker(define)
    run = worker.start("w", {})
    (token_id,) = world.publish()
    at_work = gate.hold(worker.engine.advance, token_id)
    before = world.lock_holder(worker)

    cut_lock_connection(world, worker)
    wait_until(
        lambda: world.lock_holder(worker) not in (None, before),
        timeout=5,
        message="the lock to be retaken",
    )

    assert world.reap(other) == 0
    gate.finish(at_work)
    assert log == ["slow", "b"]
    assert run.status().status == "completed"


def test_a_worker_that_cannot_take_its_lock_again_lives_while_it_renews(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4: Postgres is there, but for a while not to be reached past a pooler."""
    worker, other = world.worker(), world.worker()
    me = worker_id(worker)

    def refused() -> NoReturn:
        raise DatabaseUnavailable("no connection of its own")

    with monkeypatch.context() as patch:
        patch.setattr(worker.database, "dedicated", refused)
        cut_lock_connection(world, worker)
        wait_until(lambda: world.lock_holder(worker) is None, message="the lock to be lost")
        assert world.reap(other) == 0  # after the longest grace
    wait_until(lambda: world.lock_holder(worker), message="the lock to be taken again")
    assert worker_id(worker) == me
    assert world.one("SELECT count(*) FROM durable_worker WHERE ended_at IS NOT NULL") == 0


@pytest.mark.parametrize("table", ["token", "run", "outbox"])
def test_a_worker_renews_and_keeps_its_lock_whatever_table_is_locked(
    world: World, table: str
) -> None:
    """P4: by VACUUM FULL, for instance; what else it does waits for that, and it does not."""
    worker = world.worker(worker_ttl=0.6)
    me = worker_id(worker)
    seen: set[Any] = set()

    def renewals() -> int:
        seen.add(world.one("SELECT expires_at FROM durable_worker WHERE id = %s", me))
        return len(seen)

    with world.connect() as holder, holder.transaction():
        holder.execute(f"LOCK TABLE durable_{table} IN ACCESS EXCLUSIVE MODE".encode())
        wait_until(lambda: renewals() > 4, timeout=5, message="renewals")
        before = world.lock_holder(worker)
        cut_lock_connection(world, worker)
        wait_until(
            lambda: world.lock_holder(worker) not in (None, before),
            timeout=5,
            message="a lock to be taken",
        )
    assert worker_id(worker) == me


def test_nobody_is_dead_after_the_table_of_workers_was_locked_for_longer_than_their_ttl(
    world: World, relays: Relays
) -> None:
    """P4: nobody could renew, and nobody could see it."""
    worker = world.worker(worker_ttl=3)  # far longer than a busy machine holds its thread up
    me = worker_id(worker)
    relays.run(world.worker(), Recorder())
    expired = "SELECT expires_at + interval '3 s' < clock_timestamp() FROM durable_worker"
    with world.connect() as holder, holder.transaction():
        holder.execute(b"LOCK TABLE durable_worker IN ACCESS EXCLUSIVE MODE")

        def has_expired() -> bool:
            (row,) = holder.execute(expired.encode()).fetchall()
            return any(row.values())

        wait_until(has_expired, message="more than the TTL to pass")
    renewed = "SELECT expires_at > clock_timestamp() FROM durable_worker WHERE id = %s"
    wait_until(lambda: world.one(renewed, me), message="the worker to renew")
    assert world.one("SELECT count(*) FROM durable_worker WHERE ended_at IS NOT NULL") == 0


def test_a_worker_that_was_declared_dead_takes_a_new_id(world: World) -> None:
    """P5: renewing cannot revive it."""
    log: list[str] = []
    worker = world.worker(defining(log, "a"), worker_ttl=0.6)
    first = worker_id(worker)
    world.rows("UPDATE durable_worker SET ended_at = now()")

    wait_until(lambda: worker.liveness.worker_id() != first, message="a new id")
    run = worker.start("w", {})
    world.drain(worker)

    assert run.status().status == "completed"
    assert run.history()[0].worker == worker_id(worker)
    ended = "SELECT ended_at IS NOT NULL FROM durable_worker WHERE id = %s"
    assert world.one(ended, first), "the old id stays ended"


def test_a_worker_that_has_ended_can_claim_nothing(world: World) -> None:
    """P5: not even before it knows."""
    worker = world.worker(defining([], "a"))
    run = worker.start("w", {})
    worker_id(worker)  # which registers it
    world.rows("UPDATE durable_worker SET ended_at = now()")

    assert claimed(worker, world.token_id(run)) is None


def test_neither_a_renewal_nor_a_lock_revives_a_worker_that_has_ended(world: World) -> None:
    """P5: its units may run elsewhere already."""
    worker = world.worker(worker_ttl=3600)
    me = worker_id(worker)
    world.rows("UPDATE durable_worker SET ended_at = now()")

    with worker.database.autocommit() as connection:
        assert not workers.renew(connection, me, 3600)
        assert not workers.lock_is_here(connection, me, 1)


def test_a_worker_that_finds_itself_ended_follows_the_hint_under_a_new_id(world: World) -> None:
    """P5: at once, not when it would have renewed."""
    log: list[str] = []
    worker = world.worker(defining(log, "a"))
    run = worker.start("w", {})
    first = worker_id(worker)
    world.rows("UPDATE durable_worker SET ended_at = now()")

    world.drain(worker)

    assert log == ["a"]
    assert run.history()[0].worker == worker_id(worker) != first


def test_a_claim_that_nobody_executes_is_given_back_by_its_worker(world: World) -> None:
    """P5: its answer was lost on the way. No crash is counted."""
    log: list[str] = []
    worker = world.worker(defining(log, "a"), worker_ttl=0.6)
    run = worker.start("w", {})
    world.lose_hints()
    assert claimed(worker, world.token_id(run))

    wait_until(world.hints, timeout=5, message="the claim to be given back")
    token = world.token(run)
    assert (token["claimed_by"], token["crashes"]) == (None, 0)
    world.drain(worker)
    assert log == ["a"]


def test_a_unit_that_takes_many_renewals_is_not_given_back(world: World) -> None:
    """P4, P5"""
    log: list[str] = []
    gate = Gate()
    worker = world.worker(defining(log, "slow", gate=gate), worker_ttl=0.3)
    run = worker.start("w", {})
    (token_id,) = world.publish()
    at_work = gate.hold(worker.engine.advance, token_id)
    me = worker_id(worker)
    query = "SELECT expires_at - started_at > interval '1 second' FROM durable_worker WHERE id = %s"
    wait_until(lambda: world.one(query, me), message="several renewals")

    assert world.hints() == 0
    gate.finish(at_work)
    assert log == ["slow"]
    assert run.status().status == "completed"


def test_a_renewal_that_fails_for_any_reason_does_not_end_the_renewing(world: World) -> None:
    """P5: a full disk, a server that is read-only for a while after a failover."""
    worker = world.worker(worker_ttl=0.6)
    me = worker_id(worker)
    refusal = "RAISE 'read-only for a while' USING ERRCODE = '25006';"
    world.trigger("BEFORE UPDATE ON durable_worker", refusal)
    expired = "SELECT expires_at < clock_timestamp() FROM durable_worker WHERE id = %s"
    wait_until(lambda: world.one(expired, me), message="the worker to expire")
    world.drop_trigger("durable_worker")

    wait_until(lambda: not world.one(expired, me), timeout=5, message="the worker to renew again")


def test_an_exit_that_is_raised_in_a_renewal_does_not_end_the_renewing(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P5: a thread would end without a word."""
    renew, tries = workers.renew, Counter[str]()

    def exit_at_first(*args: Any) -> bool:
        tries["renewed"] += 1
        if tries["renewed"] == 1:
            raise SystemExit(1)
        return renew(*args)

    monkeypatch.setattr(workers, "renew", exit_at_first)
    worker_id(world.worker(worker_ttl=0.6))
    wait_until(lambda: "goes on" in caplog.text, message="the renewing to go on")
    assert caplog.text.count("tries again: SystemExit: 1") == 1


def test_a_worker_that_leaves_says_so_and_frees_its_lock(world: World) -> None:
    """P5"""
    worker = world.worker()
    me = worker_id(worker)
    number = world.one("SELECT lock_number FROM durable_worker")
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s"
    locks = f"{locks} AND {LOCKED_HERE}"
    assert world.one(locks, number) == 1

    worker.liveness.leave()

    (row,) = world.rows("SELECT draining, ended_at FROM durable_worker WHERE id = %s", me)
    assert row["draining"]
    assert row["ended_at"] is not None
    wait_until(lambda: not world.one(locks, number), message="the lock to be free")


def test_workers_that_ended_long_ago_are_forgotten(world: World) -> None:
    """P5"""
    worker = world.worker()
    old = worker_id(worker)
    worker.liveness.leave()
    world.rows("UPDATE durable_worker SET ended_at = now() - interval '25 hours'")
    recent = worker_id(worker)

    worker.recover()

    assert world.rows("SELECT id FROM durable_worker") == [{"id": recent}]
    assert old != recent


def test_workers_of_two_schemas_share_no_lock(world: World) -> None:
    """P5: their lock numbers are counted apart."""
    here, there = world.worker(), world.worker(schema="elsewhere")
    there.migrate()
    worker_id(here)
    worker_id(there)
    world.rows("UPDATE durable_worker SET lock_number = 1")
    world.rows("UPDATE elsewhere.durable_worker SET lock_number = 1")
    keys = "SELECT count(DISTINCT classid) FROM pg_locks WHERE locktype = 'advisory'"
    assert world.one(f"{keys} AND {LOCKED_HERE}") == 2
    there.liveness.leave()
    world.rows("DROP SCHEMA elsewhere CASCADE")

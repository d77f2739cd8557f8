"""P11: what a worker asks of Postgres while it has nothing to do, counted by statements."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from celery_durable import Durable
from celery_durable.background import recovery, relay
from celery_durable.background.liveness import (
    AUDIT_EVERY_WHEN_CALM,
    RENEWALS_PER_TTL,
    WorkerLease,
)
from celery_durable.background.relay import Relay
from celery_durable.database.connections import BOUNDED, BRIEFLY
from celery_durable.settings import Settings
from tests.integration.driving import World, claimed, defining, worker_id
from tests.integration.relaying import Recorder, Relays
from tests.integration.watching import Executed, watch

DEFAULTS = Settings("")

CHILDREN = 2
"""Processes of a prefork worker that follow messages; its main process has the relay."""

Count = Callable[[Callable[[], object]], int]


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Count:
    """Counts the statements of some work; the first of a transaction stands for three."""
    total, thread = [0], threading.get_ident()

    def see(executed: Executed) -> None:
        if threading.get_ident() == thread:
            total[0] += 3 if executed.statement in (BOUNDED, BRIEFLY) else 1

    def statements(work: Callable[[], object]) -> int:
        before = total[0]
        work()
        return total[0] - before

    watch(monkeypatch, see)
    return statements


@pytest.fixture
def worker(world: World) -> Durable:
    """A worker that has done something, and has nothing to do any more; it audits by hand."""
    worker = world.worker(defining([], "a"), worker_ttl=3600)
    worker.start("w")
    world.drain(worker)
    return worker


@pytest.fixture
def idle(worker: Durable, relays: Relays) -> Relay:
    """Its relay, which has looked at everything."""
    idle = relays.make(worker, Recorder())
    assert idle._publish_batch(idle._connection()) == 0
    return idle


def becalmed(worker: Durable) -> WorkerLease:
    """The worker's lease, when all that it has done was audited."""
    worker_id(worker)
    lease = worker.liveness._lease
    assert lease is not None
    for _ in range(AUDIT_EVERY_WHEN_CALM):
        lease._audit_unless_calm()
    return lease


def test_an_idle_worker_executes_at_most_five_statements_a_second(
    world: World, worker: Durable, idle: Relay, count: Count
) -> None:
    lease, chores = becalmed(worker), idle._chores
    world.let_recovery_look()
    pauses: list[float] = []
    reap = count(lambda: pauses.append(chores._reap()[1]))
    recover = count(lambda: pauses.append(chores._recover()[1]))
    look = count(lambda: idle._publish_batch(idle._connection()))
    pauses.append(idle._seconds_to_wait())
    renew = count(lease._renew)
    audits = sum(count(lease._audit_unless_calm) for _ in range(AUDIT_EVERY_WHEN_CALM))

    assert (reap, recover, look, renew, audits) == (1, 3, 1, 1, 4)
    of_the_relay = sum(n / pause for n, pause in zip((reap, recover, look), pauses, strict=True))
    of_a_child = (renew + audits / AUDIT_EVERY_WHEN_CALM) * RENEWALS_PER_TTL / DEFAULTS.worker_ttl
    assert of_the_relay + CHILDREN * of_a_child <= 5


def test_a_relay_that_got_no_lease_has_asked_once(
    worker: Durable, idle: Relay, count: Count
) -> None:
    idle._chores._recover()
    assert count(idle._chores._recover) == 1
    assert worker.recover() == 0


def test_while_a_token_is_claimed_dead_workers_are_looked_for_more_often(
    world: World, worker: Durable, idle: Relay
) -> None:
    """P5: else only who claims and dies after the look has anything to take over."""
    assert idle._chores._reap() == (0, relay.REAP_EVERY_IF_IDLE)
    assert claimed(worker, world.token_id(worker.start("w")))
    assert idle._chores._reap() == (0, relay.REAP_EVERY)
    assert relay.REAP_EVERY < relay.REAP_EVERY_IF_IDLE < recovery.SEEN_AFTER_A_LOOK


def test_a_worker_audits_twice_after_it_has_followed_a_message(
    world: World, worker: Durable, count: Count
) -> None:
    """P2: a claim whose answer was lost is given back as soon as ever."""
    lease = becalmed(worker)
    assert count(lease._audit_unless_calm) == 0
    with worker.liveness.working_on([world.token_id(worker.start("w"))]):
        audits = [count(lease._audit_unless_calm) for _ in range(3)]
    assert audits == [4, 4, 0]
    assert [count(lease._audit_unless_calm) for _ in range(3)] == [4, 4, 0], "it has ended"


def test_an_audit_that_could_not_look_is_made_up_for(
    world: World, worker: Durable, count: Count
) -> None:
    """P2: somebody has locked the table."""
    lease = becalmed(worker)
    run = worker.start("w")
    with worker.liveness.working_on([world.token_id(run)]):
        pass
    assert claimed(worker, world.token_id(run))
    with world.connect() as holder, holder.transaction():
        holder.execute("LOCK TABLE durable_token")
        for _ in range(3):
            assert count(lease._audit_unless_calm) > 0
    for _ in range(2):
        lease._audit_unless_calm()
    assert world.token(run)["claimed_by"] is None


def test_claims_that_nobody_works_on_are_found_at_any_time(world: World, worker: Durable) -> None:
    """P2: however long they were on their way."""
    lease = becalmed(worker)
    run = worker.start("w")
    assert claimed(worker, world.token_id(run))
    for _ in range(AUDIT_EVERY_WHEN_CALM + 1):
        lease._audit_unless_calm()
    assert world.token(run)["claimed_by"] is None

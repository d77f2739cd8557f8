"""Recovery is harmless when run by many at once, and looks a page at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from celery_durable import Durable
from celery_durable.background import recovery
from celery_durable.background.recovery import recover_with_lease
from celery_durable.store import (
    dead_workers,
    inbox,
    lost_hints,
    reaping,
    scan_lease,
    tokens,
    watching,
    workers,
)
from celery_durable.store.dead_workers import Death
from tests.forms import short_or_long
from tests.integration.driving import (
    LONG,
    PATIENCE,
    World,
    all_at_once,
    claimed,
    defining,
    spawn,
    worker_id,
)

PROCESSES = short_or_long(4, 10)
LOST = 1000
CLAIMED = 40
CANCELLED = 50

RECOVERY = """
import sys
from tests.forms import short_or_long
from tests.integration.driving import make_durable
durable = make_durable(sys.argv[1])
durable.database.engine.connect().close()
print("ready", flush=True)
sys.stdin.readline()
print(durable.recover(), flush=True)
"""


def test_processes_that_recover_at_once_do_each_thing_once(
    world: World,
) -> None:
    """P2: lost hints, units of dead workers, commands that nobody has applied."""
    worker = world.worker(defining([], "a"))
    worker.start_many("w", [{}] * LOST)
    cancelled = worker.start_many("w", [{}] * CANCELLED)
    held = [worker.start("w", {}) for _ in range(CLAIMED)]
    for run in held:
        assert claimed(worker, world.token_id(run))
    with world.connect() as session, session.transaction():
        for run in cancelled:
            run.cancel(session=session)
    world.kill(worker)
    world.lose_hints()
    world.let_time_pass(LONG)

    processes = [recovering(world.url) for _ in range(PROCESSES)]
    moved = sum(told_to_go(processes))

    assert world.one("SELECT count(*) FROM durable_inbox") == 0
    crashed = world.one("SELECT count(*) FROM durable_token WHERE crashes = 1")
    assert crashed == CLAIMED, "each crash is counted once"
    assert world.one("SELECT max(crashes) FROM durable_token") == 1
    assert world.one("SELECT max(hints) FROM durable_token") == 1, "each was hinted once"
    assert world.one("SELECT count(*) FROM durable_token WHERE hints = 1") >= LOST
    untold = "SELECT count(*) FROM durable_token t WHERE NOT EXISTS (SELECT FROM durable_outbox o"
    assert world.one(f"{untold} WHERE o.token_id = t.id AND o.fence = t.fence)") == 0
    ordinary = "SELECT max(n) FROM (SELECT count(*) n FROM durable_outbox GROUP BY token_id) g"
    assert world.one(ordinary) <= 2, "a hint, and another where a command was applied"
    assert moved >= LOST + CLAIMED + CANCELLED


def test_a_recovery_skips_what_another_has_in_hand(world: World) -> None:
    """P2: it neither waits for it nor repeats what it does."""
    worker = lost_runs(world, 5)
    other = world.worker()
    with worker.database.transaction() as connection:
        page = lost_hints.hint_again(connection, None, 10, recovery._hint_timeouts({}, {}))
        assert page.hinted == 5
        assert spawn(other.recover).result(PATIENCE) == 0
    assert world.hints() == 5


def recovering(url: str) -> subprocess.Popen[str]:
    """A process that recovers when it is told to."""
    return subprocess.Popen(
        [sys.executable, "-c", RECOVERY, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )


def told_to_go(processes: list[subprocess.Popen[str]]) -> list[int]:
    """All at once; what each says that it has moved."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return [int(answer) for answer in answers]


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """And long pauses: it is not time for the next until a test says so."""
    monkeypatch.setattr(recovery, "PAGE", 10)
    monkeypatch.setattr(recovery, "PAGE_EVERY", timedelta(hours=1))
    monkeypatch.setattr(recovery, "ROUND_EVERY", timedelta(hours=5))
    monkeypatch.setattr(recovery, "LEASE", timedelta(hours=10))


def lost_runs(world: World, count: int, **settings: Any) -> Durable:
    """Runs of which every hint was lost long ago."""
    worker = world.worker(defining([], "a"), **settings)
    worker.start_many("w", [{}] * count)
    world.lose_hints()
    world.let_time_pass(LONG)
    return worker


def hinted(world: World) -> int:
    return int(world.one("SELECT count(*) FROM durable_token WHERE hints > 0"))


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("count", [9, 10, 11, 20, 35])
def test_recovery_looks_at_every_page(world: World, count: int) -> None:
    """P2"""
    worker = lost_runs(world, count)
    assert worker.recover() == count
    assert world.hints() == count


@pytest.mark.usefixtures("small_pages")
def test_relays_share_one_round_of_all_pages(world: World) -> None:
    """P2: one looks at a page, the next where it left off; those that come at once get no turn."""
    worker = lost_runs(world, 25)
    relays = [worker, *(world.worker() for _ in range(3))]
    for expected in (10, 20, 25):
        shares = all_at_once([partial(recover_with_lease, one.database) for one in relays])
        assert hinted(world) >= expected
        assert sum(share.moved for share in shares) <= 25
    assert hinted(world) == 25 == world.hints()


@pytest.mark.usefixtures("small_pages")
def test_a_page_is_not_looked_at_before_its_time(world: World) -> None:
    """P11: what relays cost together does not grow with their number."""
    worker = world.worker(defining([], "a"))
    worker.start_many("w", [{}] * 15)
    first = recover_with_lease(worker.database)
    assert first.moved == 0
    assert first.pause == recovery.PAGE_EVERY
    assert a_lease(worker) is None, "the next page has its time"

    world.let_recovery_look()
    assert recover_with_lease(worker.database).pause == recovery.ROUND_EVERY
    left = world.one("SELECT extract(epoch FROM next_at - clock_timestamp()) FROM durable_recovery")
    assert left > recovery.PAGE_EVERY.total_seconds(), "the round is over, the next is far"
    assert world.one("SELECT reached FROM durable_recovery") is None
    assert a_lease(worker) is None


@pytest.mark.usefixtures("small_pages")
def test_the_page_after_one_with_lost_hints_is_looked_at_at_once(world: World) -> None:
    """P2: where one is lost, many may be."""
    worker = lost_runs(world, 25)
    shares = [recover_with_lease(worker.database) for _ in range(3)]
    assert [share.moved for share in shares] == [10, 10, 5]
    assert [share.pause for share in shares] == [timedelta(0)] * 2 + [recovery.ROUND_EVERY]


def test_the_turn_of_a_relay_that_died_is_over_after_a_while(world: World) -> None:
    """P2"""
    worker = lost_runs(world, 1)
    assert a_lease(worker) is not None
    assert recover_with_lease(worker.database).moved == 0

    world.let_recovery_look()
    assert recover_with_lease(worker.database).moved == 1


def test_a_clock_that_was_set_back_stops_nobody(world: World) -> None:
    """P2"""
    worker = lost_runs(world, 1)
    recover_with_lease(worker.database)
    world.rows("UPDATE durable_recovery SET next_at = clock_timestamp() + interval '1 day'")
    assert a_lease(worker) is not None


def a_lease(worker: Durable) -> scan_lease.ScanLease | None:
    with worker.database.autocommit() as connection:
        return scan_lease.take(connection, recovery.LEASE, recovery.FORGET_WORKERS_AFTER)


def test_relays_apply_commands_and_forget_what_is_old(world: World) -> None:
    """P2"""
    worker = lost_runs(world, 1)
    run = worker.start("w", {})
    with world.connect() as session, session.transaction():
        run.cancel(session=session)
    old = "clock_timestamp() - interval '2 days'"
    world.rows(
        "INSERT INTO durable_worker (id, node_id, hostname, pid, pool, queues, server_started_at,"
        f" expires_at, ended_at) VALUES (%s, %s, '', 1, '', '[]', {old}, {old}, {old})",
        uuid4(),
        uuid4(),
    )
    assert recover_with_lease(worker.database).moved == 2
    assert world.one("SELECT count(*) FROM durable_inbox") == 0
    assert world.one("SELECT count(*) FROM durable_worker WHERE ended_at IS NOT NULL") == 0


def test_a_long_queue_is_not_flooded(world: World) -> None:
    """P2: of hints that nobody follows for an hour no more than a dozen are sent."""
    worker = world.worker(defining([], "a"))
    run = worker.start("w", {})
    sent = 0
    for _ in range(720):
        sent += len(world.publish())
        world.let_time_pass(5)
        worker.recover()
    sent += len(world.publish())

    assert 8 <= sent <= 12
    worker.engine.advance(world.token_id(run))
    assert run.status().status == "completed"


def test_a_token_that_somebody_works_on_is_never_hinted(world: World) -> None:
    """P4: however long it takes."""
    worker = world.worker(defining([], "a"))
    run = worker.start("w", {})
    assert claimed(worker, world.token_id(run))
    world.lose_hints()
    world.let_time_pass(LONG)
    world.let_looks_come(86_400)
    assert worker.recover() == 0
    assert world.hints() == 0


def test_a_reaper_waits_for_nobody(world: World) -> None:
    """P5: a token whose row is locked is left for the next look."""
    token_id = claimed_by_the_dead(world)
    other = world.worker()
    with world.connect() as busy, busy.transaction():
        busy.execute("SELECT FROM durable_token WHERE id = %s FOR UPDATE", (token_id,))
        assert spawn(world.reap, other).result(PATIENCE) == 0
    assert world.reap(other) == 1
    assert world.one("SELECT crashes FROM durable_token") == 1


def test_what_a_reaper_has_freed_is_free_whatever_becomes_of_the_next(world: World) -> None:
    """P5: each is a transaction of its own."""
    worker, other = world.worker(defining([], "a")), world.worker()
    for run in worker.start_many("w", [{}] * 2):
        assert claimed(worker, world.token_id(run))
    world.kill(worker)
    world.rows("CREATE SEQUENCE freed")
    world.trigger(
        "BEFORE UPDATE ON durable_token",
        "IF nextval('freed') = 2 THEN RAISE 'not now'; END IF;",
        "OLD.claimed_by IS NOT NULL AND NEW.claimed_by IS NULL",
    )

    with pytest.raises(psycopg.Error, match="not now"):
        other.recover()
    assert world.one("SELECT count(*) FROM durable_token WHERE claimed_by IS NULL") == 1
    assert other.recover() == 1


def test_one_look_takes_no_more_than_a_batch(world: World) -> None:
    """P11: whatever there is of the dead, of the lost, and of commands."""
    worker = world.worker(defining([], "a"))
    runs = worker.start_many("w", [{}] * 3)
    world.rows("UPDATE durable_token SET look_at = look_at - interval '1 hour'")
    with worker.database.autocommit() as connection:
        assert lost_hints.look(connection, 2, recovery._hint_timeouts({}, {})).seen == 2
        for run in runs:
            inbox.send(connection, run.id, inbox.Cancel(compensate=False, reason=None))
            assert tokens.claim(connection, world.token_id(run), worker_id(worker), uuid4())
        workers.end(connection, worker_id(worker))

        assert len(inbox.runs_with_commands(connection, 2)) == 2
        assert len(reaping.find(connection, 2)) == 2


def test_a_reaper_that_comes_late_frees_no_newer_claim(world: World) -> None:
    """P4: somebody else has freed the token meanwhile, and another worker has claimed it."""
    token_id = claimed_by_the_dead(world)
    other = world.worker(defining([], "a"))
    with other.database.autocommit() as connection:
        dead = next(one for one in watching.look(connection, 1).signs if one.is_unlocked)
        assert dead_workers.declare_dead(connection, [Death(dead, 0.0, is_silent=False)])
        (orphan,) = reaping.find(connection, 10)
        assert reaping.reap(connection, orphan, uuid4())
        newer = uuid4()
        assert tokens.claim(connection, token_id, worker_id(other), newer)
        assert not reaping.reap(connection, orphan, uuid4())
        # Nor where the same worker has claimed it again, as when it gives back its own.
        (mine,) = reaping.claimed_by(connection, worker_id(other))
        assert not reaping.reap(connection, replace(mine, fence=orphan.fence), uuid4())
    assert world.one("SELECT fence FROM durable_token") == newer
    assert world.one("SELECT crashes FROM durable_token") == 1


def claimed_by_the_dead(world: World) -> UUID:
    worker = world.worker(defining([], "a"))
    token_id = world.token_id(worker.start("w", {}))
    assert claimed(worker, token_id)
    world.kill(worker)
    return token_id


def test_signals_that_came_while_their_run_ended_are_forgotten(world: World) -> None:
    """P9: and no others."""
    worker = world.worker(defining([], "a"))
    ended, open_ = worker.start("w", {}), worker.start("w", {})
    worker.engine.advance(world.token_id(ended))
    open_.resume("go", 1)
    world.rows(
        "INSERT INTO durable_inbox (run_id, kind, name) VALUES (%s, 'signal', 'go')", ended.id
    )
    worker.recover()
    assert world.rows("SELECT run_id FROM durable_inbox") == [{"run_id": open_.id}]

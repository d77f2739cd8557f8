"""Sentences of the protocol that no other test tells from their opposite, each alone."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.background.backlog import Backlog
from celery_durable.store import dead_workers, due, inbox, reaping, tokens, watching
from celery_durable.store.cancelling import announcing
from tests.integration.driving import Gate, World, claimed, defining, noting, worker_id
from tests.integration.workflows import asking, waiting, with_a_child
from tests.waiting import wait_until

SEE_THE_WRITE = """
INSERT INTO seen VALUES (
    CASE WHEN TG_TABLE_NAME = 'durable_token' AND OLD.claimed_by IS NULL THEN 'claim'
        ELSE 'commit' END,
    current_setting('synchronous_commit')
);
"""


def test_only_the_claim_is_not_waited_for_on_disk(world: World) -> None:
    """P1: what a worker was told is committed outlives a crash of Postgres."""
    worker = world.worker(defining([], "a", "b", "c"), inline_steps=2)
    worker.start("w", {})
    world.rows("CREATE TABLE seen (what text, synchronous_commit text)")
    world.trigger("BEFORE UPDATE ON durable_token", SEE_THE_WRITE)
    world.drain(worker)

    seen = {tuple(row.values()) for row in world.rows("SELECT DISTINCT * FROM seen")}
    assert seen == {("claim", "off"), ("commit", "on")}


def test_a_cancel_that_is_announced_opens_no_item(world: World) -> None:
    """P3: once it has committed nothing begins, though it is not applied yet."""
    log: list[Any] = []
    gate = Gate()

    def item(ctx: Any) -> None:
        log.append(ctx.item)
        gate()

    def define(durable: Durable) -> None:
        durable.workflow("w").map(
            "m", over=lambda _: [0, 1, 2], handler=durable.step(name="i")(item), max_concurrency=1
        )

    worker = world.worker(define)
    run = worker.start("w")
    worker.engine.advance(world.publish()[0])
    at_work = gate.hold(worker.engine.advance, world.publish()[0])
    cancel = inbox.Cancel(compensate=False, reason=None)
    with worker.database.transaction() as connection:
        inbox.send(connection, run.id, cancel)
        announcing.announce(connection, [run.id], cancel.flags, None)
    gate.finish(at_work)

    assert world.one("SELECT count(*) FROM durable_token WHERE parent_id IS NOT NULL") == 0
    worker.recover()
    world.drain(worker)
    assert (log, world.status(run)) == ([0], "cancelled")


def test_a_signal_that_commits_late_wakes_the_branch_that_was_executing(world: World) -> None:
    """P9: neither the branch's commit nor its look after that could see it."""
    gate = Gate()

    def define(durable: Durable) -> None:
        durable.workflow("w").parallel("p", {"asks": asking(gate), "is done": noting([], "x")})

    worker = world.worker(define)
    run = worker.start("w")
    worker.engine.advance(world.publish()[0])
    branch, other = world.publish()
    at_work = gate.hold(worker.engine.advance, branch)
    worker.engine.advance(other)
    with world.connect() as caller, caller.transaction():
        run.resume("go", "yes", session=caller)
        gate.finish(at_work)
    world.drain(worker)

    assert run.status().results == {"p": {"asks": "yes", "is done": None}}


def test_neither_a_signal_nor_a_cancel_that_is_joined_waits_for_a_token(world: World) -> None:
    """A caller's transaction blocks no worker, and no worker a caller."""
    worker = world.worker(waiting)
    run = worker.start("w")
    world.drain(worker)
    with world.connect() as holder, holder.transaction(), world.connect() as caller:
        holder.execute("SELECT 1 FROM durable_token FOR UPDATE")
        caller.execute("SET lock_timeout = '10ms'")
        with caller.transaction():
            run.resume("go", 1, session=caller)
            run.cancel(session=caller)


LOOK_FOR_THE_LOCK = """
IF NOT EXISTS (
    SELECT 1 FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND objid = NEW.lock_number
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
) THEN RAISE 'the row is there before its lock'; END IF;
"""


def test_a_worker_has_its_lock_before_it_has_a_row(world: World) -> None:
    """P4: a row without a lock is a dead worker's."""
    world.trigger("BEFORE INSERT ON durable_worker", LOOK_FOR_THE_LOCK)
    assert world.lock_holder(world.worker()) is not None


def test_a_lock_that_was_taken_again_is_one_of_the_server_that_runs(world: World) -> None:
    """P5: its worker's death is noticed by it, also after a restart of Postgres."""
    worker = world.worker()
    worker_id(worker)
    before = world.lock_holder(worker)
    world.rows("UPDATE durable_worker SET server_started_at = server_started_at - interval '1 h'")
    world.rows("SELECT pg_terminate_backend(%s)", before)
    wait_until(lambda: world.lock_holder(worker) not in (None, before), message="another lock")
    assert world.one("SELECT server_started_at = pg_postmaster_start_time() FROM durable_worker")


def test_a_lock_that_was_taken_again_is_seen_as_its_worker_is_declared_dead(world: World) -> None:
    """P4: between the look and the declaration."""
    worker, other = world.worker(), world.worker()
    me = worker_id(worker)
    with other.database.autocommit() as connection:
        (sign,) = (one for one in watching.look(connection, 1).signs if one.id == me)
        assert not dead_workers.declare_dead(
            connection, [dead_workers.Death(sign, 1.0, is_silent=False)]
        )


def test_a_lock_that_was_found_free_is_free_for_the_next_who_looks(world: World) -> None:
    """P5: whoever has tried it keeps nothing of it."""
    worker, *others = (world.worker() for _ in range(3))
    me = worker_id(worker)
    world.kill(worker)
    with ExitStack() as stack:
        for other in others:
            connection = stack.enter_context(other.database.autocommit())
            (sign,) = (one for one in watching.look(connection, 1).signs if one.id == me)
            assert sign.is_unlocked


def test_a_claim_is_given_back_only_when_two_audits_have_seen_it_idle(world: World) -> None:
    """P4: its answer may be on its way."""
    worker = world.worker(defining([], "a"), worker_ttl=3600)
    run = worker.start("w")
    me = worker_id(worker)
    registration = worker.liveness._lease
    assert registration is not None
    with worker.database.autocommit() as connection:
        assert tokens.claim(connection, world.token_id(run), me, uuid4())
        registration._audit()
        token = world.token(run)
        assert token["claimed_by"] == me
        registration._audit()
        token = world.token(run)
        assert token["claimed_by"] is None


def test_a_claim_whose_answer_is_on_its_way_is_not_given_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4: however often its worker audits itself meanwhile."""
    log: list[str] = []
    worker = world.worker(defining(log, "a"), worker_ttl=3600)
    run = worker.start("w")
    worker_id(worker)
    registration = worker.liveness._lease
    assert registration is not None
    claim = tokens.claim

    def claiming(*arguments: Any) -> Any:
        claimed = claim(*arguments)
        for _ in range(3):
            registration._audit()
        return claimed

    monkeypatch.setattr(tokens, "claim", claiming)
    worker.engine.advance(world.token_id(run))

    assert (log, world.units(run)) == (["a"], ["a completed"])


def test_a_claim_that_is_given_back_or_taken_away_leaves_a_hint(world: World) -> None:
    """P2"""
    worker = world.worker(defining([], "a"))
    run = worker.start("w")
    me, token_id = worker_id(worker), world.token_id(run)
    with worker.database.autocommit() as connection:
        world.lose_hints()
        claim = tokens.claim(connection, token_id, me, uuid4())
        assert claim is not None
        tokens.release(connection, claim, 0.0)
        assert world.publish() == [token_id]

        assert tokens.claim(connection, token_id, me, uuid4())
        (held,) = reaping.claimed_by(connection, me)
        assert reaping.reap(connection, held, uuid4())
        assert world.publish() == [token_id]


def test_a_cancelled_unit_is_not_executed_again_when_its_worker_died(world: World) -> None:
    """P3, P5"""
    log: list[str] = []
    worker, other = (world.worker(defining(log, "a")) for _ in range(2))
    run = worker.start("w")
    assert claimed(worker, world.token_id(run))
    run.cancel()
    world.kill(worker)
    world.reap(other)
    world.drain(other)

    assert (log, world.status(run)) == ([], "cancelled")


@pytest.mark.parametrize("is_taken_over", [False, True])
def test_a_result_that_comes_too_late_is_dropped_in_one_line(
    world: World, caplog: pytest.LogCaptureFixture, is_taken_over: bool
) -> None:
    """P4: its failure is nobody's any more."""
    gate = Gate()
    log: list[str] = []

    def a(_: Any) -> None:
        log.append("a")
        if len(log) == 1:
            gate()
            raise ValueError

    def define(durable: Durable) -> None:
        once = durable.step(name="a", retry=RetryPolicy(1))(a)
        durable.workflow("w").step(once).step(noting(log, "b"))

    zombie, living = (world.worker(define, inline_steps=1) for _ in range(2))
    run = zombie.start("w")
    (token_id,) = world.publish()
    at_work = gate.hold(zombie.engine.advance, token_id)
    world.kill(zombie)
    world.reap(living)
    if is_taken_over:
        living.engine.advance(token_id)
    caplog.set_level("INFO", "celery_durable")
    caplog.clear()
    gate.finish(at_work)

    told = [message for message in caplog.messages if "run" in message]
    assert told == [
        f"Result of a of run {run.id} dropped: the claim was lost (fenced or cancelled)"
    ]
    world.drain(living)
    assert world.status(run) == "completed"


def test_a_relay_that_hangs_does_not_hide_its_rows_for_long(world: World) -> None:
    """P2: Postgres ends its transaction."""
    worker = world.worker(defining([], "a"))
    worker.start("w")
    backlog = Backlog()
    with worker.database.autocommit() as connection:
        assert backlog.look(connection, 10)
        with connection.raw.transaction():
            assert backlog.take(connection, 10)
            shown = connection.raw.execute("SHOW idle_in_transaction_session_timeout").fetchone()
            assert shown == (due.HANG_TIMEOUT,)


def test_a_parent_does_not_wait_for_a_child_that_could_not_be_started(world: World) -> None:
    """P1: its wait and the child are one transaction."""
    worker = world.worker(with_a_child)
    run = worker.start("w")
    world.trigger("BEFORE INSERT ON durable_run", "RAISE 'no more runs';")
    with suppress(psycopg.Error):
        world.drain(worker)
    assert world.one("SELECT count(*) FROM durable_token WHERE child_run_id IS NOT NULL") == 0
    assert world.units(run) in ([], ["kid failed"])

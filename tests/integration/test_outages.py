"""Postgres is away, or cannot: who works waits for it, says so once, and loses no attempt."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.background import liveness
from celery_durable.engine import loop
from celery_durable.run import Run
from celery_durable.worker import process
from tests.faults.proxy import Moment, Proxy
from tests.integration.driving import Gate, World, defining, noting, spawn, warnings, worker_id
from tests.waiting import wait_until

CODES = {
    "statement_timeout": "57014",
    "lock_timeout": "55P03",
    "deadlock": "40P01",
    "disk full": "53100",
    "out of memory": "53200",
    "too many connections": "53300",
    "I/O error": "58030",
    "read only": "25006",
    "shutdown": "57P01",
    "starting up": "57P03",
}

AWAY, BACK = "does not answer", "answers again"
CANNOT, CAN_AGAIN = "answers, but cannot do it now", "can do it again"

IS_AWAY = ("read only", "shutdown", "starting up")
"""The others are of a server that is there."""


def let_fail(world: World, *, code: str, table: str, event: str, times: int) -> None:
    """Postgres fails so many times with this code; the sequence `failures` counts."""
    world.rows("CREATE SEQUENCE failures")
    world.trigger(
        f"AFTER {event} ON durable_{table}",
        f"IF nextval('failures') <= {times} THEN"
        f" RAISE EXCEPTION 'cannot now' USING ERRCODE = '{code}'; END IF;",
    )


def said(caplog: pytest.LogCaptureFixture, words: str) -> int:
    """How many lines of warning, or worse, have these words."""
    return sum(words in message for message in warnings(caplog))


@pytest.mark.parametrize(
    ("table", "event"), [("token", "UPDATE"), ("journal", "INSERT"), ("outbox", "INSERT")]
)
@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
def test_what_postgres_cannot_do_now_is_done_a_little_later(
    world: World, caplog: pytest.LogCaptureFixture, code: str, table: str, event: str
) -> None:
    """P2, P3: at the claim, at the commit, at the hint; no attempt is lost, and no handler is
    called again.
    """
    log: list[str] = []
    worker = world.worker(defining(log, "a", "b", retry=RetryPolicy(1)), inline_steps=1)
    run = worker.start("w", {})
    worker_id(worker)
    let_fail(world, code=code, table=table, event=event, times=2)

    world.drain(worker)

    assert log == ["a", "b"]
    assert world.units(run) == ["a completed", "b completed"]
    assert world.one("SELECT last_value FROM failures") > 2
    is_away = code in {CODES[what] for what in IS_AWAY}
    assert (said(caplog, AWAY), said(caplog, CANNOT)) == (is_away, not is_away)
    assert said(caplog, "") <= 2, caplog.text
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("code", ["57014", "53100"])
def test_a_renewal_that_postgres_cannot_do_now_is_done_later(
    world: World, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    """Without a traceback each time: nothing is wrong with the worker."""
    worker = world.worker(defining([], "a"), worker_ttl=0.6)
    worker_id(worker)
    let_fail(world, code=code, table="worker", event="UPDATE", times=3)

    wait_until(lambda: said(caplog, CAN_AGAIN), message="the worker to be renewed")

    assert world.one("SELECT last_value FROM failures") > 3
    assert said(caplog, CANNOT) == 1
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("code", ["57014", "53100"])
def test_a_transactional_step_that_cannot_be_recorded_now_is_executed_again(
    world: World, code: str
) -> None:
    """P6: it is no failed attempt, and it is not repeated at once."""
    world.rows("CREATE TABLE ledger (amount integer)")

    def book(ctx: Any) -> None:
        ctx.session.connection().exec_driver_sql("INSERT INTO ledger VALUES (1)")

    def define(durable: Durable) -> None:
        durable.workflow("w").step(book, transactional=True, retry=RetryPolicy(1))

    worker = world.worker(define)
    run = worker.start("w", {})
    let_fail(world, code=code, table="journal", event="INSERT", times=1)

    world.drain(worker)
    assert run.status().status == "running"
    world.let_time_pass(31)
    world.drain(worker)

    assert run.status().status == "completed"
    assert world.one("SELECT count(*) FROM ledger") == 1
    assert run.history()[0].attempt == 1


@pytest.mark.parametrize("asks_again", [False, True])
def test_a_transaction_that_was_idle_for_too_long_is_a_failed_attempt(
    world: World, asks_again: bool
) -> None:
    """Postgres is not away: it would be the same the next time, and for ever."""

    def dawdle(ctx: Any) -> None:
        connection = ctx.session.connection()
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 50")
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        is_there = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        wait_until(lambda: not world.one(is_there, pid), message="Postgres to end it")
        if asks_again:
            connection.exec_driver_sql("SELECT 1")

    def define(durable: Durable) -> None:
        durable.workflow("w").step(dawdle, transactional=True, retry=RetryPolicy(2, initial=5))

    worker = world.worker(define)
    run = worker.start("w", {})
    for _ in range(4):
        world.drain(worker)
        world.let_time_pass(31)

    assert run.status().status == "failed"
    (entry,) = run.history()
    assert (entry.attempt, "idle" in str(entry.error)) == (2, True)


def test_a_bug_in_a_statement_is_raised(world: World) -> None:
    """What does not go well later is not tried until then."""
    worker = world.worker(defining([], "a"))
    worker.start("w", {})
    let_fail(world, code="22012", table="journal", event="INSERT", times=1)
    with pytest.raises(Exception, match="cannot now"):
        world.drain(worker)


def reading(gate: Gate, read: list[Any]) -> Any:
    """A workflow whose second step reads the past once the gate is open."""

    def look(ctx: Any) -> None:
        gate()
        read.append(ctx.results["a"])

    def define(durable: Durable) -> None:
        durable.workflow("w").step(noting([], "a", 42)).step(look, retry=RetryPolicy(1))

    return define


def test_a_handler_that_reads_the_past_in_an_outage_waits_for_the_end_of_it(
    world: World, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attempt is lost."""
    gate, read, noticed = Gate(), list[Any](), set[int]()
    worker = world.worker(reading(gate, read), database_url=proxy.url)
    notice = worker.database.outage.notice

    def noting_who(error: object) -> None:
        noticed.add(threading.get_ident())
        notice(error)

    monkeypatch.setattr(worker.database.outage, "notice", noting_who)
    run = world.worker(reading(gate, read)).start("w", {})
    (token_id,) = world.publish()
    executing = list[int]()

    def follow() -> None:
        executing.append(threading.get_ident())
        worker.engine.advance(token_id)

    followed = gate.hold(follow)
    proxy.refuse()
    gate.open()
    wait_until(lambda: noticed.issuperset(executing), message="the handler to notice the outage")
    assert read == []
    proxy.accept()

    followed.result(20)

    assert read == [42]
    assert run.status().status == "completed"
    assert [entry.attempt for entry in run.history()] == [1, 1]


def test_a_heartbeat_in_an_outage_lets_the_handler_go_on(world: World, proxy: Proxy) -> None:
    gate, seen = Gate(), list[bool]()

    def work(ctx: Any) -> None:
        ctx.heartbeat({"at": 1})
        gate()
        ctx.heartbeat({"at": 2})
        ctx.progress(0.5)
        ctx._last_beat = float("-inf")
        seen.append(ctx.cancelled)
        proxy.accept()

    def define(durable: Durable) -> None:
        durable.workflow("w").step(work, retry=RetryPolicy(1))

    worker = world.worker(define, database_url=proxy.url)
    run = world.worker(define).start("w", {})
    (token_id,) = world.publish()
    followed = gate.hold(worker.engine.advance, token_id)
    proxy.refuse()
    gate.open()

    followed.result(20)

    assert seen == [False]
    assert run.status().status == "completed"


def test_a_cancel_that_was_heard_before_the_outage_is_not_forgotten(
    world: World, proxy: Proxy
) -> None:
    gate, seen = Gate(), list[bool]()

    def work(ctx: Any) -> None:
        gate()
        for _ in range(2):
            ctx._last_beat = float("-inf")
            try:
                ctx.heartbeat()
            except Exception as error:  # noqa: BLE001 - which it is is what the test asks
                seen.append(type(error).__name__ == "RunCancelled")
            proxy.refuse()
        proxy.accept()

    def define(durable: Durable) -> None:
        durable.workflow("w").step(work)

    worker = world.worker(define, database_url=proxy.url)
    run = world.worker(define).start("w", {})
    (token_id,) = world.publish()
    followed = gate.hold(worker.engine.advance, token_id)
    run.cancel()
    gate.open()

    followed.result(20)

    assert seen == [True, True]
    assert run.status().status == "cancelled"


def test_a_message_waits_for_a_database_that_is_away_when_the_worker_starts(
    world: World, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """P2: it is not burnt, though nothing can be registered or claimed."""
    log: list[str] = []
    worker = world.worker(defining(log, "a"), database_url=proxy.url)
    run = world.worker(defining(log, "a")).start("w", {})
    (token_id,) = world.publish()
    proxy.refuse()
    followed = spawn(worker.engine.advance, token_id)
    wait_until(lambda: said(caplog, AWAY), message="the outage to be noticed")
    assert log == []
    proxy.accept()

    followed.result(20)

    assert log == ["a"]
    assert run.status().status == "completed"


def test_a_process_says_once_that_postgres_is_away_and_once_that_it_is_back(
    world: World, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """However many of its threads notice."""
    many = 8
    log: list[str] = []
    barrier = threading.Barrier(many + 1)

    def meet(ctx: Any) -> None:
        log.append("meet")
        barrier.wait(20)
        barrier.wait(20)

    def define(durable: Durable) -> None:
        durable.workflow("w").step(meet).step(noting(log, "b"))

    worker = world.worker(define, database_url=proxy.url)
    runs = world.worker(define).start_many("w", [{}] * many)
    followed = [spawn(worker.engine.advance, token_id) for token_id in world.publish()]
    barrier.wait(20)
    proxy.refuse()
    barrier.wait(20)
    wait_until(lambda: said(caplog, AWAY), message="the outage to be noticed")
    proxy.accept()
    for one in followed:
        one.result(20)
    wait_until(lambda: holds_lock(world, worker), message="the lock to be taken again")

    assert sorted(log) == ["b"] * many + ["meet"] * many
    assert {run.status().status for run in runs} == {"completed"}
    assert said(caplog, AWAY) == 1, caplog.text
    assert said(caplog, BACK) == 1, caplog.text
    assert said(caplog, "") == 2, caplog.text


def holds_lock(world: World, worker: Durable) -> bool:
    return world.lock_holder(worker) is not None


def test_what_is_cut_again_and_again_comes_to_its_end(world: World, proxy: Proxy) -> None:
    """Two of five statements find their connection cut."""
    log: list[str] = []
    worker = world.worker(defining(log, "a", "b", "c"), database_url=proxy.url)
    run = world.worker(defining(log, "a", "b", "c")).start("w", {})
    chance = random.Random(1)

    def judge(text: str) -> Moment | None:
        return chance.choice([Moment.BEFORE, Moment.AFTER, None, None, None])

    worker_id(worker)
    proxy.judge(judge)
    world.drain(worker)
    proxy.judge(None)

    assert log == ["a", "b", "c"]
    assert run.status().status == "completed"


def test_a_worker_whose_patience_is_over_gives_the_claim_back_once_postgres_answers(
    world: World,
    proxy: Proxy,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P2: the audit as it renews does not wait for a second look, which is far away here."""
    monkeypatch.setattr(loop, "COMMITS_WITHIN", 0.0)
    monkeypatch.setattr(liveness, "RENEWALS_PER_TTL", 0.01)
    gate, read = Gate(), list[Any]()
    worker = world.worker(reading(gate, read), database_url=proxy.url, worker_ttl=1)
    client = world.worker(reading(gate, read))
    run = client.start("w", {})
    (token_id,) = world.publish()
    followed = gate.hold(worker.engine.advance, token_id)
    proxy.refuse()
    gate.finish(followed)
    assert claimed_by(world, run) is not None
    keep_alive(world, worker)
    proxy.accept()

    wait_until(lambda: claimed_by(world, run) is None, message="the claim to be given back")
    world.drain(worker)

    assert "Released the claim of" in caplog.text
    assert read == [42]
    assert run.status().status == "completed"
    assert [entry.attempt for entry in run.history()] == [1, 1]


def test_a_unit_is_committed_after_an_outage_of_all_that_is_longer_than_the_ttl(
    world: World, proxy: Proxy
) -> None:
    """P3, P4: nobody could declare its worker dead."""
    gate, read = Gate(), list[Any]()
    worker = world.worker(reading(gate, read), database_url=proxy.url, worker_ttl=0.5)
    run = world.worker(reading(gate, read)).start("w", {})
    (token_id,) = world.publish()
    followed = gate.hold(worker.engine.advance, token_id)
    proxy.refuse()
    gate.open()
    expired = "SELECT expires_at < clock_timestamp() - interval '1 second' FROM durable_worker"
    wait_until(lambda: world.one(expired), message="more than the TTL to pass")
    proxy.accept()

    followed.result(20)

    assert read == [42]
    assert [entry.attempt for entry in run.history()] == [1, 1]
    assert run.status().status == "completed"


def test_a_process_that_is_told_to_exit_in_an_outage_exits(
    world: World, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not it could give its claim back."""
    monkeypatch.setattr(process, "_is_ending", [True])

    def work(ctx: Any) -> None:
        proxy.refuse()
        raise SystemExit("told to")

    def define(durable: Durable) -> None:
        durable.workflow("w").step(work)

    worker = world.worker(define, database_url=proxy.url, worker_ttl=0.5)
    world.worker(define).start("w", {})
    (token_id,) = world.publish()

    with pytest.raises(SystemExit, match="told to"):
        worker.engine.advance(token_id)


def claimed_by(world: World, run: Run) -> Any:
    token = world.token(run)
    return token["claimed_by"]


def keep_alive(world: World, worker: Durable) -> None:
    """Nobody declares the worker dead for its silence."""
    world.rows(
        "UPDATE durable_worker SET expires_at = clock_timestamp() + interval '1 hour'"
        " WHERE id = %s",
        worker_id(worker),
    )


def test_a_unit_that_stands_in_the_journal_already_is_not_kept(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """P3: it cannot be recorded again; its claim is given back, to be looked at later."""
    log: list[str] = []
    worker = world.worker(defining(log, "a", "b"))
    run = worker.start("w", {})
    world.rows(
        "INSERT INTO durable_journal (run_id, unit, node, outcome, attempt, undoable, worker,"
        " started_at) VALUES (%s, 'a', 'a', 'completed', 1, false, %s, clock_timestamp())",
        run.id,
        worker_id(worker),
    )

    world.drain(worker)

    assert log == ["a"]
    assert claimed_by(world, run) is None
    assert world.hints(run) == 1, "it is looked at again, but not at once"


def test_a_connection_that_falls_silent_holds_up_no_other_worker(
    world: World, proxy: Proxy
) -> None:
    """P4, P5: its worker is declared dead, its commit refused when the silence ends."""
    gate, log = Gate(), list[str]()

    def work(ctx: Any) -> None:
        log.append("a")
        if len(log) == 1:
            gate()

    def define(durable: Durable) -> None:
        durable.workflow("w").step(work)

    silent = world.worker(define, database_url=proxy.url, worker_ttl=1)
    other = world.worker(define)
    run = other.start("w", {})
    (token_id,) = world.publish()
    followed = gate.hold(silent.engine.advance, token_id)
    proxy.hold()
    gate.open()
    world.expire(silent)
    wait_until(lambda: world.reap(other), message="the silent worker to be found dead")
    world.drain(other)
    assert log == ["a", "a"]
    assert run.status().status == "completed"
    proxy.release()

    followed.result(20)

    assert world.units(run) == ["work completed"]
    again = other.start("w", {})
    world.drain(silent)
    assert again.status().status == "completed"

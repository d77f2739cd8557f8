"""What a worker's processes are told, what ends a step from outside, and what is left of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery.exceptions import WorkerShutdown, WorkerTerminate
from greenlet import GreenletExit

from celery_durable import Durable, RetryPolicy
from celery_durable.background import recovery
from celery_durable.engine import loop
from celery_durable.engine.commit import Committer
from celery_durable.run import Run
from celery_durable.store import workers
from celery_durable.store.connection import Connection
from celery_durable.store.workers import WorkerFacts
from celery_durable.worker import process
from celery_durable.worker.lifecycle import Lifecycle
from tests.integration.driving import (
    PATIENCE,
    Gate,
    World,
    defining,
    error_of,
    noting,
    spawn,
    worker_id,
)
from tests.waiting import wait_until

AN_HOUR = timedelta(hours=1)


class Ready:
    """What Celery sends its signals with."""

    def __init__(self, app: Any, pool: str = "celery.concurrency.prefork") -> None:
        self.app = app
        self.steps: list[object] = []
        self.pool_cls = type("TaskPool", (), {"__module__": pool})
        self.hostname = "h"
        self.wait_for_soft_shutdown: Callable[[], None] = lambda: None


@pytest.fixture
def durable(world: World) -> Durable:
    return world.worker(defining([], "a"))


def test_a_child_that_registers_after_its_worker_was_told_to_stop_is_told_too(
    world: World, durable: Durable
) -> None:
    """P5: no sibling's row can say so any more."""
    lifecycle, worker = Lifecycle(durable, durable.app), Ready(durable.app)
    process.remember_worker(worker)
    lifecycle._on_setup(worker)
    lifecycle._on_ready(worker)
    durable.liveness.worker_id()
    lifecycle._on_stopping()
    wait_until(lambda: world.one("SELECT draining FROM durable_worker"))
    durable.liveness.leave()
    world.rows("DELETE FROM durable_worker")

    durable.liveness.worker_id()

    wait_until(lambda: world.one("SELECT draining FROM durable_worker"))
    lifecycle._on_shutdown(worker)
    assert world.one("SELECT ended_at IS NOT NULL FROM durable_worker")


def test_a_child_that_registers_beside_one_that_stops_begins_nothing(
    world: World, durable: Durable
) -> None:
    """P5: from its first claim on. One of another Celery worker does."""
    first = WorkerFacts(uuid4(), uuid4(), "h", 1, "prefork", (), None)
    late, another = replace(first, id=uuid4()), replace(first, id=uuid4(), node_id=uuid4())
    with durable.database.autocommit() as connection:
        workers.register(connection, first, 30.0)
        workers.drain(connection, first.node_id)
        for one in (late, another):
            workers.register(connection, one, 30.0)
        draining = [workers.is_draining(connection, one.id) for one in (late, another)]
    assert draining == [True, False]


def test_a_soft_shutdown_is_told_before_it_waits(world: World, durable: Durable) -> None:
    """P5: what is begun may end within it, and nothing else begins."""
    lifecycle, worker = Lifecycle(durable, durable.app), Ready(durable.app)
    waited: list[str] = []

    def wait() -> None:
        wait_until(lambda: world.one("SELECT draining FROM durable_worker"))
        waited.append("told")

    worker.wait_for_soft_shutdown = wait
    process.remember_worker(worker)
    lifecycle._on_setup(worker)
    durable.liveness.worker_id()
    lifecycle._on_ready(worker)
    worker.wait_for_soft_shutdown()
    assert waited == ["told"]
    lifecycle._on_shutdown(worker)


def test_a_cold_shutdown_ends_a_step_on_the_solo_pool(durable: Durable) -> None:
    """Its pool would raise an error in the step, which could only be the step's failure."""
    worker = Ready(durable.app, "celery.concurrency.solo")
    process.remember_worker(worker)
    Lifecycle(durable, durable.app)._on_setup(worker)
    with pytest.raises(WorkerTerminate):
        worker.wait_for_soft_shutdown()


ENDS: list[BaseException] = [WorkerTerminate(1), GreenletExit(), WorkerShutdown(0)]


def ended_in_a_step(world: World, raised: BaseException) -> tuple[Durable, Run]:
    """A worker and its run; the first time its step raised what ends a process."""
    log: list[str] = []

    def a(_: Any) -> None:
        log.append("a")
        if len(log) == 1:
            raise raised

    worker = world.worker(lambda durable: durable.workflow("w").step(a))
    run = worker.start("w", {})
    (token_id,) = world.publish()
    with pytest.raises(type(raised)):
        worker.engine.advance(token_id)
    return worker, run


@pytest.mark.parametrize("raised", ENDS)
def test_a_step_that_is_ended_with_its_worker_has_not_crashed(
    world: World, monkeypatch: pytest.MonkeyPatch, raised: BaseException
) -> None:
    """P5: nor has it failed. That the worker stops may be said a little later."""
    ask = workers.is_draining

    def asked(connection: Connection, worker: UUID) -> bool:
        answer = ask(connection, worker)
        world.rows("UPDATE durable_worker SET draining = true")
        return answer

    monkeypatch.setattr(workers, "is_draining", asked)
    _, run = ended_in_a_step(world, raised)

    token = world.token(run)
    assert (token["claimed_by"], token["crashes"], token["attempt"]) == (None, 0, 1)
    world.drain(world.worker(lambda durable: durable.workflow("w").step(lambda _: 1, name="a")))
    assert run.status().status == "completed"


@pytest.mark.parametrize("raised", ENDS)
def test_a_step_that_is_ended_while_its_worker_goes_on_has_crashed(
    world: World, monkeypatch: pytest.MonkeyPatch, raised: BaseException
) -> None:
    """P5: it may do that to itself, each time."""
    monkeypatch.setattr(loop, "SAYS_IT_STOPS_WITHIN", 0.01)
    worker, run = ended_in_a_step(world, raised)

    token = world.token(run)
    assert (token["claimed_by"], token["crashes"], token["attempt"]) == (None, 1, 1)
    world.drain(worker)
    assert run.status().status == "completed"


def test_what_a_step_makes_of_its_end_is_no_failure(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P5: as a handler does that takes any exception for one of its own."""
    monkeypatch.setattr(loop, "SAYS_IT_STOPS_WITHIN", 0.01)
    monkeypatch.setattr(process, "_is_ending", [True])
    _, run = ended_in_a_step(world, ValueError("not yours"))

    token = world.token(run)
    assert (token["claimed_by"], token["crashes"], token["attempt"]) == (None, 1, 1)


def test_what_ends_another_pools_worker_is_a_failure_in_a_thread_of_a_pool(world: World) -> None:
    """Celery would keep the message of such a thread."""

    def a(_: Any) -> None:
        raise WorkerShutdown(0)

    worker = world.worker(
        lambda durable: durable.workflow("w").step(a, retry=RetryPolicy(max_attempts=1))
    )
    run = worker.start("w", {})
    (token_id,) = world.publish()
    spawn(worker.engine.advance, token_id).result(20)
    assert error_of(run).type == "celery.exceptions.WorkerShutdown"


def test_what_breaks_the_engine_counts_a_crash_and_ends_no_thread_of_a_pool(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P5: a thread that is told to exit by it would keep its message."""
    worker = world.worker(lambda durable: durable.workflow("w").step(noting([], "a")))
    run = worker.start("w", {})
    settle = Committer.commit

    def broken(*_: Any) -> None:
        monkeypatch.setattr(Committer, "commit", settle)
        raise SystemExit("broken")

    monkeypatch.setattr(Committer, "commit", broken)
    (token_id,) = world.publish()
    worker.engine.advance(token_id)

    token = world.token(run)
    assert (token["claimed_by"], token["crashes"], token["attempt"]) == (None, 1, 1)
    assert f"a of run {run.id} broke the engine" in caplog.text
    world.drain(worker)
    assert run.status().status == "completed"


def test_units_that_may_have_killed_their_process_run_one_at_a_time_in_another(
    world: World,
) -> None:
    """P5: or one that kills would take the same ones down with it again."""
    log: list[str] = []
    gate = Gate()

    def a(ctx: Any) -> None:
        log.append(ctx.input)
        if ctx.input == "first":
            gate()

    worker = world.worker(lambda durable: durable.workflow("w").step(a))
    first, second = worker.start("w", "first"), worker.start("w", "second")
    world.rows("UPDATE durable_token SET crashes = 1")
    fresh = worker.start("w", "fresh")
    one, two, three = world.publish()
    at_work = gate.hold(worker.engine.advance, one)

    worker.engine.advance(two)
    worker.engine.advance(three)

    assert log == ["first", "fresh"]
    assert fresh.status().status == "completed"
    token = world.token(second)
    assert (token["claimed_by"], token["crashes"]) == (None, 1)
    gate.finish(at_work)
    world.let_time_pass(2)
    world.drain(worker)
    assert log == ["first", "fresh", "second"]
    assert first.status().status == second.status().status == "completed"


def test_a_suspect_begins_once_no_other_claim_of_its_process_is_undecided(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P5: the other one is about to be given back, and would be counted as crashed with it."""
    claimed: list[int] = []
    gate = Gate()

    def a(ctx: Any) -> None:
        if ctx.input == "deadly":
            claimed.append(
                world.one("SELECT count(*) FROM durable_token WHERE claimed_by IS NOT NULL")
            )

    worker = world.worker(lambda durable: durable.workflow("w").step(a))
    worker.start("w", "innocent")
    worker.start("w", "deadly")
    world.rows("UPDATE durable_token SET crashes = 1")
    innocent, deadly = world.publish()
    engine = worker.engine
    claim = engine._claims.claim

    def claim_and_wait(token_id: UUID, *arguments: Any) -> Any:
        found = claim(token_id, *arguments)
        if token_id == innocent:
            gate()
        return found

    monkeypatch.setattr(engine._claims, "claim", claim_and_wait)
    undecided = gate.hold(engine.advance, innocent)
    at_work = spawn(engine.advance, deadly)
    wait_until(lambda: engine.suspects.is_waiting or claimed)
    gate.finish(undecided)
    at_work.result(PATIENCE)
    assert claimed == [1], "its own"


def test_workers_that_ended_are_forgotten_when_nothing_is_claimed_in_their_name(
    world: World,
) -> None:
    """P5: whether freeing it counts as a crash is written in its worker's row."""
    gate = Gate()
    worker = world.worker(lambda durable: durable.workflow("w").step(lambda _: gate(), name="a"))
    run = worker.start("w", {})
    (token_id,) = world.publish()
    at_work = gate.hold(worker.engine.advance, token_id)
    holder = worker_id(worker)
    with worker.database.autocommit() as connection:
        workers.end(connection, holder)
    world.rows("UPDATE durable_worker SET ended_at = ended_at - interval '2 hours'")

    forget(worker)
    assert world.one("SELECT count(*) FROM durable_worker") == 1

    assert world.reap(worker) == 1
    token = world.token(run)
    assert token["crashes"] == 0
    forget(worker)
    assert world.one("SELECT count(*) FROM durable_worker") == 0
    gate.finish(at_work)


def test_living_and_lately_ended_workers_are_remembered(world: World) -> None:
    """A claim that was on its way when its worker ended is still to be told from a crash."""
    living, ended = world.worker(), world.worker()
    living.liveness.worker_id()
    ended.liveness.worker_id()
    ended.liveness.leave()
    forget(living)
    assert world.one("SELECT count(*) FROM durable_worker") == 2


def test_recovery_forgets_more_workers_than_can_end_in_its_pauses(world: World) -> None:
    """A worker may replace each child after one task."""
    world.rows(
        "INSERT INTO durable_worker (id, node_id, hostname, pid, pool, queues, draining,"
        " server_started_at, expires_at, ended_at) SELECT gen_random_uuid(), gen_random_uuid(),"
        " 'h', n, 'prefork', '[]', true, now(), now(), now() - interval '1 hour'"
        " FROM generate_series(1, 2000) n"
    )
    recovery.recover(world.worker().database)
    assert world.one("SELECT count(*) FROM durable_worker") == 0


def forget(durable: Durable) -> None:
    with durable.database.autocommit() as connection:
        workers.forget(connection, AN_HOUR, 100)

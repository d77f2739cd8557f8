"""Time limits: with the message where the pool has them, by fencing everywhere else."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.background import recovery
from celery_durable.background.recovery import Reaper
from celery_durable.core.token import Flags
from celery_durable.errors import StepTimeout
from celery_durable.process import interrupts
from tests.integration.driving import Gate, World, error_of, noting
from tests.integration.forks import advance, ended, messages, standing
from tests.integration.workflows import fail
from tests.timekeeping import Clock

PASS_DEADLINE = "UPDATE durable_token SET deadline_at = clock_timestamp() - interval '1 second'"


class Late:
    """A step with a time limit, in the hands of a worker that has not come back from it."""

    def __init__(
        self,
        world: World,
        *,
        attempts: int = 3,
        kind: str = "step",
        raises: bool = False,
        **settings: Any,
    ) -> None:
        self.world = world
        self.kind = kind
        self.attempts = attempts
        self.raises = raises
        self.tries: list[int] = []
        self.log: list[str] = []
        self.gate = Gate()
        self.slow, self.other = (world.worker(self.define, **settings) for _ in range(2))
        self.run = self.slow.start("w", {})
        if kind != "step":
            advance(world, self.slow, self.run, "slow")
        self.unit = {"step": "slow", "parallel": "slow#late", "map": "slow#0"}[kind]
        token_id = standing(world, self.run)[self.unit]["id"]
        self.at_work = self.gate.hold(self.slow.engine.advance, token_id)

    def define(self, durable: Durable) -> None:
        retry = RetryPolicy(max_attempts=self.attempts, initial=60, jitter=False)
        step = durable.step(name="late", timeout=9, retry=retry)(self.hang)
        step.compensate(noting(self.log, "undo"))
        workflow = durable.workflow("w")
        if self.kind == "parallel":
            workflow.parallel("slow", {"late": step})
        elif self.kind == "map":
            workflow.map("slow", over=lambda _: [1], handler=step)
        else:
            workflow.step(step, name="slow")
        workflow.step(noting(self.log, "after"))

    def hang(self, ctx: Any) -> str:
        self.tries.append(ctx.attempt)
        if len(self.tries) == 1:
            self.gate()
            if self.raises:
                raise ValueError("too late")
            return "too late"
        return "in time"

    def let_go(self) -> None:
        self.gate.finish(self.at_work)

    def token(self) -> dict[str, Any]:
        return standing(self.world, self.run)[self.unit]


def test_the_claim_sets_the_deadline(world: World) -> None:
    scene = Late(world)
    left = world.one("SELECT deadline_at - clock_timestamp() FROM durable_token")
    assert 0 < left.total_seconds() <= 9
    scene.let_go()
    assert world.rows("SELECT deadline_at FROM durable_token") == [{"deadline_at": None}]


def test_a_claim_within_its_time_is_left_alone(world: World) -> None:
    """P4"""
    scene = Late(world)
    assert world.reap(scene.other) == 0
    scene.let_go()
    world.drain(scene.other)
    assert scene.tries == [1]
    assert scene.run.result(timeout=0)["slow"] == "too late"


def test_a_claim_is_freed_when_it_was_watched_for_longer_than_its_limit(
    world: World, clock: Clock
) -> None:
    """P4, P5: whatever the database's clock says, which was set back by an hour here."""
    scene = Late(world)
    world.rows("UPDATE durable_token SET deadline_at = deadline_at + interval '1 hour'")
    reaper = Reaper()
    with scene.other.database.autocommit() as connection:
        assert reaper.reap(connection) == 0
        clock.now += 8.9
        assert reaper.reap(connection) == 0
        clock.now += 0.2
        assert reaper.reap(connection) == 1
    scene.let_go()
    assert scene.token()["flags"] == Flags.TIMED_OUT


def test_a_clock_of_the_database_that_is_set_forward_ends_no_time(world: World) -> None:
    """P4: all deadlines have passed by it."""
    scene = Late(world)
    world.rows("UPDATE durable_token SET deadline_at = deadline_at - interval '1 hour'")
    reaper = Reaper()
    with scene.other.database.autocommit() as connection:
        assert [reaper.reap(connection) for _ in range(2)] == [0, 0]
    assert recovery.recover(scene.other.database) == 0
    scene.let_go()
    world.drain(scene.other)
    assert scene.tries == [1]


@pytest.mark.parametrize("kind", ["step", "parallel", "map"])
def test_a_claim_past_its_deadline_is_a_failed_attempt_and_no_crash(
    world: World, kind: str
) -> None:
    """P5: its worker is alive, and what it does is dropped."""
    scene = Late(world, kind=kind)
    world.rows(PASS_DEADLINE)
    assert world.reap(scene.other) == 1
    token = scene.token()
    assert (token["claimed_by"], token["crashes"], token["deadline_at"]) == (None, 0, None)

    world.drain(scene.other)
    token = scene.token()
    assert (token["attempt"], token["crashes"], token["flags"]) == (2, 0, 0)
    assert scene.tries == [1], "it waits as its retry policy says"
    world.let_time_pass(60)
    world.drain(scene.other)
    assert scene.tries == [1, 2]

    scene.let_go()
    (entry,) = [entry for entry in scene.run.history() if entry.unit == scene.unit]
    assert entry.result == "in time"
    (failed,) = entry.failures
    assert (failed.error.type, failed.error.unit) == ("StepTimeout", scene.unit)
    assert "9 s" in failed.error.message
    assert scene.log == ["after"]
    assert ended(world, scene.run) == "completed"


def test_a_timeout_of_the_last_attempt_is_final(world: World) -> None:
    """P8"""
    scene = Late(world, attempts=1)
    world.rows(PASS_DEADLINE)
    world.reap(scene.other)
    world.drain(scene.other)
    scene.let_go()

    assert scene.tries == [1]
    error = error_of(scene.run)
    assert (error.type, error.unit) == ("StepTimeout", "slow")
    assert (scene.log, world.units(scene.run)) == ([], ["slow failed"])
    assert ended(world, scene.run) == "failed"


@pytest.mark.parametrize("moved_on", [False, True], ids=["freed", "moved on"])
def test_the_commit_of_the_late_worker_is_refused(world: World, moved_on: bool) -> None:
    """P4: fencing."""
    scene = Late(world)
    world.rows(PASS_DEADLINE)
    world.reap(scene.other)
    if moved_on:
        world.drain(scene.other)
    scene.let_go()

    assert world.units(scene.run) == []
    assert scene.log == []
    world.drain(scene.other)
    world.let_time_pass(60)
    world.drain(scene.other)
    assert scene.run.result(timeout=0)["slow"] == "in time"
    assert ended(world, scene.run) == "completed"


@pytest.mark.parametrize("raises", [False, True], ids=["returns", "raises"])
def test_what_a_late_thread_does_is_dropped_also_where_its_own_worker_has_recorded_the_timeout(
    world: World, caplog: pytest.LogCaptureFixture, raises: bool
) -> None:
    scene = Late(world, attempts=1, raises=raises)
    world.rows(PASS_DEADLINE)
    world.reap(scene.slow)
    world.drain(scene.slow)
    assert ended(world, scene.run) == "failed"
    before = scene.run.history()
    scene.let_go()
    assert f"Result of slow of run {scene.run.id} dropped" in caplog.text
    assert [record.levelname for record in caplog.records].count("ERROR") == 1
    assert scene.run.history() == before


def test_a_worker_that_dies_past_the_deadline_has_timed_out(world: World) -> None:
    """P5: as the hard limit kills it."""
    scene = Late(world)
    world.rows(PASS_DEADLINE)
    world.kill(scene.slow)
    assert world.reap(scene.other) == 1
    world.drain(scene.other)

    token = scene.token()
    assert (token["attempt"], token["crashes"]) == (2, 0)
    scene.let_go()


def test_a_worker_that_dies_before_the_deadline_has_crashed(world: World) -> None:
    """P5"""
    scene = Late(world)
    world.kill(scene.slow)
    assert world.reap(scene.other) == 1
    token = scene.token()
    assert (token["attempt"], token["crashes"], token["flags"]) == (1, 1, 0)
    scene.let_go()


def test_a_worker_that_seemed_dead_before_the_deadline_has_crashed(
    world: World, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """P5: though the time is up by when it is declared dead."""
    monkeypatch.setattr(recovery, "GRACE", 5.0)
    scene = Late(world)
    world.kill(scene.slow)
    reaper = Reaper()
    with scene.other.database.autocommit() as connection:
        for _ in range(5):
            assert reaper.reap(connection) == 0
            clock.now += 1.0
        world.rows(PASS_DEADLINE)
        assert reaper.reap(connection) == 1
    token = scene.token()
    assert (token["attempt"], token["crashes"], token["flags"]) == (1, 1, 0)
    scene.let_go()


def test_a_policy_that_gives_up_on_timeouts_does_not_try_again(world: World) -> None:
    class Impatient(Late):
        def define(self, durable: Durable) -> None:
            retry = RetryPolicy(max_attempts=5, give_up_on=(StepTimeout,))
            durable.workflow("w").step(self.hang, name="slow", timeout=9, retry=retry)

    scene = Impatient(world)
    world.rows(PASS_DEADLINE)
    world.reap(scene.other)
    world.drain(scene.other)
    scene.let_go()

    assert scene.tries == [1]
    assert ended(world, scene.run) == "failed"


def test_a_cancel_goes_before_a_timeout(world: World) -> None:
    scene = Late(world)
    world.rows(PASS_DEADLINE)
    scene.run.cancel()
    world.reap(scene.other)
    world.drain(scene.other)
    scene.let_go()

    assert scene.tries == [1]
    assert ended(world, scene.run) == "cancelled"


def timed(durable: Durable) -> None:
    """Steps with and without a time limit of their own."""
    workflow = durable.workflow("w").step(noting([], "a")).step(noting([], "b"), timeout=20)
    workflow.step(noting([], "c"), timeout=20).step(noting([], "d")).step(noting([], "e"))


def limits(world: World, worker: Durable) -> list[tuple[str, Any, Any]]:
    """The messages of a run and their limits; each is delivered in turn."""
    run = worker.start("w", {})
    sent = []
    while not world.has_ended(run):
        (row,) = messages(world)
        options = row["options"]
        sent.append((options["shadow"], options.get("soft_time_limit"), options.get("time_limit")))
        world.lose_hints()
        worker.engine.advance(row["token_id"])
    return sent


def test_a_unit_with_a_time_limit_has_a_message_of_its_own(world: World) -> None:
    """Celery's limits hold for a message: the worker never goes straight on into or out of one."""
    assert limits(world, world.worker(timed)) == [
        ("w.a", None, None),
        ("w.b", 20, 25),
        ("w.c", 20, 25),
        ("w.d", None, None),
    ]


def test_the_setting_is_the_limit_of_steps_that_name_none(world: World) -> None:
    assert limits(world, world.worker(timed, step_timeout=7)) == [
        ("w.a", 7, 12),
        ("w.b", 20, 25),
        ("w.c", 20, 25),
        ("w.d", 7, 12),
        ("w.e", 7, 12),
    ]


def test_an_iteration_with_a_time_limit_has_a_message_of_its_own(world: World) -> None:
    def define(durable: Durable) -> None:
        step = durable.step(timeout=3, name="body")(lambda _: None)
        durable.workflow("w").loop("poll", step, max_iterations=2)

    assert limits(world, world.worker(define)) == [("w.poll#0", 3, 8), ("w.poll#1", 3, 8)]


def test_a_compensator_has_a_time_limit_of_its_own(world: World) -> None:
    """P8: and one that is late is tried again."""
    gate, undone = Gate(), []

    def undo(ctx: Any) -> None:
        undone.append(ctx.attempt)
        if len(undone) == 1:
            gate()

    def define(durable: Durable) -> None:
        a = durable.step(name="a")(noting([], "a"))
        a.compensate(timeout=4, retry=RetryPolicy(2, initial=0))(undo)
        durable.workflow("w").step(a).step(fail, retry=RetryPolicy(1))

    slow, other = world.worker(define), world.worker(define)
    run = slow.start("w", {})
    slow.engine.advance(world.token_id(run))
    (_, row) = messages(world)
    assert row["options"]["soft_time_limit"] == 4
    at_work = gate.hold(slow.engine.advance, row["token_id"])
    world.rows(PASS_DEADLINE)
    assert world.reap(other) == 1
    world.drain(other)
    gate.finish(at_work)

    assert undone == [1, 2]
    assert run.status().compensation_errors == {}
    assert world.units(run)[-1] == "a#compensate completed"
    assert ended(world, run) == "failed"


def test_a_limit_that_strikes_in_a_statement_waits_for_its_end(world: World) -> None:
    """P2: whatever of ours a handler calls, no connection is left in the middle of something."""
    database = world.worker(timed).database
    done: list[Any] = []

    def handler() -> None:
        with database.autocommit() as connection:
            interrupts.strike(TimeoutError())
            done.append(connection.raw.execute("SELECT 1").fetchone())
        done.append("never")

    interrupts.begin(-1)
    with pytest.raises(TimeoutError):
        interrupts.in_handler(handler)
    interrupts.begin(None)
    assert done == [(1,)]

"""What anybody may ask of runs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from celery_durable import Durable, Forked, RetryPolicy, Suspend
from celery_durable.errors import ResultTimeout, RunCancelled, RunFailed
from tests.integration.driving import Gate, World, defining, noting, spawn


def flaky(ctx: Any) -> str:
    if ctx.attempt < 3:
        raise ConnectionError(f"try {ctx.attempt}")
    return "at last"


def define(durable: Durable) -> None:
    durable.workflow("w").step(noting([], "a", result={"n": Decimal("1.50")})).step(
        flaky, retry=RetryPolicy(max_attempts=3, initial=0)
    )
    durable.workflow("made").step(noting([], "a", result=2)).returns(
        lambda ctx: {"twice": 2 * ctx.results["a"], "when": ctx.input}
    )


def test_a_status_says_where_a_run_stands(world: World) -> None:
    worker = world.worker(defining([], "a", "b", "c"), inline_steps=1)
    run = worker.start("w", {}, key="k", tags={"shop": "north"})
    (token_id,) = world.publish()
    worker.engine.advance(token_id)

    snapshot = run.status()

    assert (snapshot.run_id, snapshot.workflow, snapshot.version) == (run.id, "w", 1)
    assert (snapshot.key, snapshot.tags, snapshot.status) == ("k", {"shop": "north"}, "running")
    assert (snapshot.steps, snapshot.current) == (("a", "b", "c"), ("b",))
    assert (snapshot.total_steps, snapshot.completed_steps) == (3, 1)
    assert (snapshot.results, snapshot.result, snapshot.error) == ({"a": None}, None, None)
    assert (snapshot.attempt, snapshot.wake_at, snapshot.finished_at) == (1, None, None)
    assert snapshot.started_at is not None
    assert snapshot.started_at <= snapshot.updated_at
    assert (snapshot.parent_run_id, snapshot.forked_from, snapshot.children) == (None, None, ())
    assert (snapshot.awaiting_signal, snapshot.awaiting) == (None, ())


def test_a_history_has_each_unit_with_its_tries(world: World) -> None:
    worker = world.worker(define)
    before = datetime.now(UTC) - timedelta(minutes=1)
    run = worker.start("w", {})
    world.drain(worker)

    a, second = run.history()

    assert (a.unit, a.node, a.outcome, a.attempt, a.failures) == ("a", "a", "completed", 1, ())
    assert a.result == {"n": Decimal("1.50")}
    assert (second.unit, second.attempt, second.result) == ("flaky", 3, "at last")
    assert [(f.attempt, f.error.type, f.error.message) for f in second.failures] == [
        (1, "ConnectionError", "try 1"),
        (2, "ConnectionError", "try 2"),
    ]
    assert "in flaky" in second.failures[0].error.traceback
    first = second.failures[0]
    assert before < first.started_at <= first.failed_at <= second.finished_at
    assert a.started_at <= a.finished_at <= second.finished_at
    assert a.worker == second.worker == worker.liveness.worker_id()


def test_a_result_is_the_mapping_of_the_nodes_results(world: World) -> None:
    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)
    assert run.result(timeout=0) == {"a": {"n": Decimal("1.50")}, "flaky": "at last"}


def test_a_result_may_be_made_by_the_workflow(world: World) -> None:
    worker = world.worker(define, inline_steps=1)
    when = datetime(2026, 1, 2, tzinfo=UTC)
    run = worker.start("made", when)
    world.drain(worker)
    assert run.result(timeout=0) == {"twice": 4, "when": when}
    assert world.units(run) == ["a completed"]


def test_a_result_that_cannot_be_made_fails_the_run_and_undoes_it(world: World) -> None:
    log: list[str] = []

    def define(durable: Durable) -> None:
        a = durable.step(noting(log, "a"))
        a.compensate(noting(log, "undo a"))
        durable.workflow("w").step(a).returns(lambda ctx: ctx.results["b"])

    worker = world.worker(define, default_retry={"max_attempts": 1})
    run = worker.start("w", {})
    for _ in range(4):
        world.drain(worker)
        world.let_time_pass(100)

    with pytest.raises(RunFailed, match="'b' has not completed in this run; completed: a"):
        run.result(timeout=0)
    assert log == ["a", "undo a"]


def test_a_result_that_does_not_come_in_time_is_an_error_and_the_run_goes_on(
    world: World,
) -> None:
    worker = world.worker(define)
    run = worker.start("w", {})
    with pytest.raises(ResultTimeout, match=r"still running after 0.05 s") as caught:
        run.result(timeout=0.05)
    assert (caught.value.run_id, caught.value.status) == (run.id, "running")
    world.drain(worker)
    assert run.result(timeout=timedelta(seconds=0))["flaky"] == "at last"


def test_a_result_is_waited_for(world: World) -> None:
    gate = Gate()
    slow = noting([], "slow", 7, gate=gate)
    worker = world.worker(lambda durable: durable.workflow("w").step(slow))
    run = worker.start("w", {})
    waiting = spawn(run.result)
    (token_id,) = world.publish()
    at_work = gate.hold(worker.engine.advance, token_id)
    assert not waiting.done()
    gate.finish(at_work)
    assert waiting.result(20) == {"slow": 7}


def test_the_result_of_a_failed_run_is_its_error(world: World) -> None:
    def fail(ctx: Any) -> None:
        raise ValueError("out of stock")

    def define(durable: Durable) -> None:
        durable.workflow("w").step(fail, retry=RetryPolicy(1))

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)
    with pytest.raises(RunFailed, match="at fail: ValueError: out of stock") as caught:
        run.result()
    assert caught.value.error == run.status().error


def test_the_result_of_a_cancelled_run_is_its_reason(world: World) -> None:
    worker = world.worker(define)
    run = worker.start("w", {})
    run.cancel(reason="ordered twice")
    world.drain(worker)
    with pytest.raises(RunCancelled, match="ordered twice") as caught:
        run.result()
    assert caught.value.reason == "ordered twice"


def test_many_runs_start_in_one_transaction(world: World) -> None:
    log: list[str] = []
    worker = world.worker(defining(log, "a"))
    runs = worker.start_many("w", [{"n": n} for n in range(2_500)], tags={"batch": "1"})

    assert len({run.id for run in runs}) == 2_500
    assert world.hints() == 2_500
    assert world.one("SELECT count(DISTINCT xmin::text) FROM durable_run") == 1
    assert runs[2_400].status().status == "running"
    query = "SELECT input->>'n' FROM durable_run WHERE id = %s"
    assert world.one(query, runs[2_400].id) == "2400"


def test_no_runs_are_started_of_no_inputs(world: World) -> None:
    assert world.worker(define).start_many("w", []) == []


def test_one_bad_input_of_many_starts_none(world: World) -> None:
    """P12"""
    worker = world.worker(define)
    world.rows("ALTER TABLE durable_run ADD CHECK (input->>'n' IS DISTINCT FROM '1500')")
    with pytest.raises(Exception, match="durable_run_input_check"):
        worker.start_many("w", [{"n": n} for n in range(2_000)])
    world.rows("ALTER TABLE durable_run DROP CONSTRAINT durable_run_input_check")
    assert world.counts()["run"] == 0


@pytest.mark.parametrize("of_step", [None, 7])
def test_the_priority_goes_with_every_message(world: World, of_step: int | None) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").step(noting([], "a"), priority=of_step).step(noting([], "b"))

    worker = world.worker(define, inline_steps=1)
    worker.start("w", {}, priority=3)
    priorities = []
    for _ in range(2):
        query = "SELECT (options->>'priority')::int FROM durable_outbox"
        priorities.append(world.one(query))
        (token_id,) = world.publish()
        worker.engine.advance(token_id)
    assert priorities == [of_step or 3, 3]


def test_a_step_of_another_queue_is_handed_over(world: World) -> None:
    log: list[str] = []

    def define(durable: Durable) -> None:
        durable.workflow("w").step(noting(log, "a")).step(noting(log, "b"), queue="gpu").step(
            noting(log, "c"), queue="gpu"
        ).step(noting(log, "d"))

    worker = world.worker(define)
    worker.start("w", {})
    queues = []
    while world.hints():
        queues.append(world.one("SELECT options->>'queue' FROM durable_outbox"))
        (token_id,) = world.publish()
        worker.engine.advance(token_id)
    assert log == ["a", "b", "c", "d"]
    assert queues == ["durable", "gpu", "durable"], "steps of one queue go straight on"


def test_a_handle_is_found_by_its_key(world: World) -> None:
    durable = world.worker(define)
    run = durable.start("w", {}, key="k")
    found = durable.run(workflow="w", key="k")
    assert found == run
    assert not found.created
    workflow = durable.registry.find("w")
    assert workflow is not None
    assert workflow.run(key="k") == run
    assert durable.run(str(run.id)) == run


def test_the_async_twins_do_the_same(world: World) -> None:
    worker = world.worker(define)

    async def main() -> None:
        run = await worker.astart("w", {}, key="k", tags={"a": "b"})
        many = await worker.astart_many("w", [{}, {}])
        await many[0].acancel(reason="no")
        await asyncio.to_thread(world.drain, worker)
        assert (await run.aresult(timeout=5))["flaky"] == "at last"
        assert (await run.astatus()) == (await worker.astatus(run.id)) == run.status()
        assert (await run.ahistory()) == (await worker.ahistory(run.id)) == run.history()
        assert [one.run_id for one in await worker.alist(tags={"a": "b"})] == [run.id]
        assert (await many[0].astatus()).status == "cancelled"
        await worker.acancel(many[1].id)
        assert (await many[1].astatus()).status == "completed"
        assert await worker.arecover() == 0
        await worker.amigrate()

    asyncio.run(main())


def every_wait(durable: Durable) -> None:
    child = durable.workflow("child").wait_for_signal("go")

    def ask(ctx: Any) -> Any:
        return "asked" if ctx.is_resumed else Suspend({"n": 1}, signal="answer", timeout=60)

    def pick(ctx: Any) -> int:
        return 2 * int(ctx.item)

    durable.workflow("w").map("lines", over=lambda _: [1, 2, 3], handler=pick).parallel(
        "checks", {"ask": ask, "kid": child, "quick": noting([], "quick", result=1)}
    ).loop("poll", lambda ctx: ctx.iteration, max_iterations=2)


def test_a_status_says_what_each_unit_in_hand_waits_for(world: World) -> None:
    worker = world.worker(every_wait)
    run = worker.start("w", {})
    world.drain(worker)

    snapshot = run.status()

    assert (snapshot.status, snapshot.current) == ("suspended", ("checks",))
    assert (snapshot.awaiting, snapshot.awaiting_signal) == (("answer",), "answer")
    assert snapshot.forks == {"checks": Forked(3, 1, 0, 0, 2, 0)}
    units = {unit.unit: unit for unit in snapshot.units}
    assert set(units) == {"checks", "checks#ask", "checks#kid"}
    assert units["checks"].waits_for == "branches"
    ask, kid = units["checks#ask"], units["checks#kid"]
    assert (ask.waits_for, ask.signal, ask.branch) == ("signal", "answer", "ask")
    assert ask.waiting_since is not None
    assert ask.wake_at is not None
    assert timedelta(seconds=59) < ask.wake_at - ask.waiting_since < timedelta(seconds=61)
    assert snapshot.wake_at == ask.wake_at
    (child,) = snapshot.children
    assert (kid.waits_for, kid.child_run_id) == ("child", child.run_id)
    assert (child.workflow, child.status, child.parent_run_id) == ("child", "suspended", run.id)
    assert worker.status(child.run_id).parent_run_id == run.id
    assert (snapshot.completed_steps, snapshot.results) == (1, {"lines": [2, 4, 6]})


def test_a_history_names_branches_items_iterations_and_children(world: World) -> None:
    worker = world.worker(every_wait)
    run = worker.start("w", {})
    world.drain(worker)
    (child,) = run.status().children
    run.resume("answer")
    worker.resume(child.run_id, "go", "yes")
    world.drain(worker)

    entries = {entry.unit: entry for entry in run.history()}

    assert [entries[f"lines#{n}"].position for n in range(3)] == [0, 1, 2]
    assert [entries[f"lines#{n}"].result for n in range(3)] == [2, 4, 6]
    assert {entries[f"checks#{name}"].branch for name in ("ask", "kid", "quick")} == {
        *("ask", "kid", "quick")
    }
    assert entries["checks#kid"].child_run_id == child.run_id
    assert entries["checks#kid"].result is None
    assert entries["poll#1"].position == 1
    assert entries["checks"].result is None
    assert run.result(timeout=0) == {
        "lines": [2, 4, 6],
        "checks": {"ask": "asked", "kid": {"go": "yes"}, "quick": 1},
        "poll": 1,
    }

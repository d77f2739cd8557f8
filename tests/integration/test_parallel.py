"""Branches: tokens of their own, that come together again."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from celery_durable import Durable, RetryPolicy
from tests.integration.driving import LONG, Define, World, all_at_once, noting, worker_id
from tests.integration.forks import advance, ended, forked, messages, recovered, standing
from tests.integration.workflows import saying

NAMES = ("one", "two", "three")


def checks(log: list[str], *names: str) -> Define:
    """A workflow of branches that leave their units in `log`, and a step after them."""

    def define(durable: Durable) -> None:
        branches = {name: saying(log, f"result of {name}") for name in names}
        durable.workflow("w").parallel("checks", branches).step(noting(log, "after"))

    return define


def test_each_branch_has_a_token_and_a_message_of_its_own(world: World) -> None:
    worker = world.worker(checks([], *NAMES))
    run = worker.start("w", {})
    (token_id,) = world.publish()
    worker.engine.advance(token_id)

    tokens = standing(world, run)
    assert list(tokens) == ["checks", "checks#one", "checks#two", "checks#three"]
    assert (tokens["checks"]["wait"], tokens["checks"]["remaining"]) == ("branches", 3)
    hints = messages(world)
    for hint, name in zip(hints, NAMES, strict=True):
        token = tokens[f"checks#{name}"]
        assert (hint["args"], hint["fence"]) == ([str(token["id"])], token["fence"])
        assert hint["options"]["shadow"] == f"w.checks#{name}"


def test_branches_run_on_different_workers_and_have_entries_of_their_own(world: World) -> None:
    define = checks([], "one", "two")
    workers = [world.worker(define), world.worker(define)]
    run = forked(world, workers[0])
    advance(world, workers[0], run, "checks#one")
    advance(world, workers[1], run, "checks#two")
    world.drain(workers[0])

    entries = {entry.unit: entry for entry in run.history()}
    assert list(entries) == ["checks#one", "checks#two", "checks", "after"]
    assert [entries[f"checks#{name}"].worker for name in ("one", "two")] == [
        worker_id(worker) for worker in workers
    ]
    assert entries["checks#two"].branch == "two"
    assert entries["checks#two"].node == "checks"
    assert entries["checks#two"].result == "result of two"


def test_a_branch_goes_to_the_queue_of_its_step_with_its_priority_and_time_limit(
    world: World,
) -> None:
    def define(durable: Durable) -> None:
        heavy = durable.step(queue="heavy", priority=7, timeout=30, name="heavy")(noting([], "h"))
        durable.workflow("w").parallel("checks", [heavy, noting([], "light")]).step(
            noting([], "after")
        )

    worker = world.worker(define)
    run = worker.start("w", {}, priority=2)
    advance(world, worker, run, "checks")

    sent = {row["options"]["shadow"]: row["options"] for row in messages(world)}
    heavy, light = sent["w.checks#heavy"], sent["w.checks#light"]
    assert heavy == {
        "queue": "heavy",
        "priority": 7,
        "soft_time_limit": 30,
        "time_limit": 35,
        "shadow": "w.checks#heavy",
    }
    assert light == {"queue": "durable", "priority": 2, "shadow": "w.checks#light"}


def test_each_branch_has_attempts_of_its_own(world: World) -> None:
    tries: list[tuple[str, int]] = []

    def flaky(ctx: Any) -> str:
        tries.append((ctx.branch, ctx.attempt))
        if ctx.attempt < 3:
            raise ConnectionError("again")
        return "at last"

    def define(durable: Durable) -> None:
        step = durable.step(retry=RetryPolicy(max_attempts=3, initial=0), name="flaky")(flaky)
        durable.workflow("w").parallel("checks", {"flaky": step, "sure": noting([], "sure")})

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)

    assert tries == [("flaky", 1), ("flaky", 2), ("flaky", 3)]
    entries = {entry.unit: entry for entry in run.history()}
    assert entries["checks#flaky"].attempt == 3
    assert [failed.error.message for failed in entries["checks#flaky"].failures] == ["again"] * 2
    assert (entries["checks#sure"].attempt, entries["checks#sure"].failures) == (1, ())
    assert ended(world, run) == "completed"


def test_the_result_is_by_name_in_the_order_of_the_plan(world: World) -> None:
    worker = world.worker(checks([], *NAMES))
    run = forked(world, worker)
    advance(world, worker, run, "checks#three", "checks#one", "checks#two")
    world.drain(worker)

    result = run.result(timeout=0)["checks"]
    assert list(result.items()) == [(name, f"result of {name}") for name in NAMES]


def test_the_last_branch_through_the_gate_moves_the_parent_on(world: World) -> None:
    log: list[str] = []
    worker = world.worker(checks(log, *NAMES))
    run = forked(world, worker)

    advance(world, worker, run, "checks#two", "checks#three")
    assert messages(world) == [], "nobody is told before the last"
    advance(world, worker, run, "checks")
    assert world.units(run) == ["checks#two completed", "checks#three completed"]

    advance(world, worker, run, "checks#one")
    (hint,) = messages(world)
    assert hint["args"] == [str(standing(world, run)["checks"]["id"])]
    world.drain(worker)
    assert log == ["checks#two", "checks#three", "checks#one", "after"]
    assert world.units(run)[-2:] == ["checks completed", "after completed"]
    assert ended(world, run) == "completed"


def test_two_branches_that_end_at_the_same_time_are_both_counted(world: World) -> None:
    """P3: whichever comes last, one of them tells the parent, and only one."""
    log: list[str] = []
    define = checks(log, "one", "two")
    first, second = world.worker(define), world.worker(define)
    for _ in range(20):
        log.clear()
        run = forked(world, first)
        one, two = (standing(world, run)[f"checks#{name}"]["id"] for name in ("one", "two"))
        all_at_once([partial(first.engine.advance, one), partial(second.engine.advance, two)])

        assert len(messages(world)) == 1
        world.drain(first)
        assert sorted(log) == ["after", "checks#one", "checks#two"]
        assert ended(world, run) == "completed"


def test_messages_that_come_twice_or_late_change_nothing(world: World) -> None:
    """P3, P4"""
    log: list[str] = []
    worker = world.worker(checks(log, "one", "two"))
    run = worker.start("w", {})
    delivered: list[UUID] = []
    while hints := world.publish():
        for token_id in hints:
            for _ in range(2):
                worker.engine.advance(token_id)
        delivered += hints
    for token_id in delivered:
        worker.engine.advance(token_id)

    assert sorted(log) == ["after", "checks#one", "checks#two"]
    assert ended(world, run) == "completed"


def test_a_crash_between_the_last_branchs_commit_and_the_parents_move(world: World) -> None:
    """P2: nothing but recovery brings the parent on."""
    log: list[str] = []
    define = checks(log, "one", "two")
    worker = world.worker(define)
    run = forked(world, worker)
    advance(world, worker, run, "checks#one", "checks#two")
    world.kill(worker)
    world.lose_hints()

    other = world.worker(define)
    assert recovered(world, other) == 1
    world.drain(other)

    assert log == ["checks#one", "checks#two", "after"]
    assert ended(world, run) == "completed"


def test_recovery_does_not_bring_a_parent_past_a_branch_that_has_not_ended(world: World) -> None:
    """P2: it brings back the branch alone."""
    log: list[str] = []
    worker = world.worker(checks(log, "one", "two"))
    run = forked(world, worker)
    advance(world, worker, run, "checks#one")

    assert recovered(world, worker) == 1
    (hint,) = messages(world)
    assert hint["token_id"] == standing(world, run)["checks#two"]["id"]
    world.drain(worker)
    assert log == ["checks#one", "checks#two", "after"]


def test_recovery_alone_brings_branches_to_their_end(world: World) -> None:
    """P2"""
    log: list[str] = []
    worker = world.worker(checks(log, *NAMES), inline_steps=1)
    run = worker.start("w", {})
    for _ in range(4):
        world.lose_hints()
        world.let_time_pass(LONG)
        worker.recover()
        for token_id in world.publish():
            worker.engine.advance(token_id)

    assert sorted(log) == sorted([*(f"checks#{name}" for name in NAMES), "after"])
    assert ended(world, run) == "completed"


def test_a_workflow_is_a_branch_and_runs_as_a_child(world: World) -> None:
    def define(durable: Durable) -> None:
        child = durable.workflow("child").step(lambda ctx: ctx.input["n"] + 1, name="plus")
        child.step(lambda ctx: ctx.results["plus"] * 2, name="twice")
        durable.workflow("w").parallel("checks", {"kid": child, "step": noting([], "s", "plain")})

    worker = world.worker(define)
    run = worker.start("w", {"n": 4})
    world.drain(worker)

    assert run.result(timeout=0) == {"checks": {"kid": {"plus": 5, "twice": 10}, "step": "plain"}}
    (child,) = run.status().children
    assert (child.workflow, child.status, child.parent_run_id) == ("child", "completed", run.id)
    assert ended(world, run) == "completed"


def test_what_follows_reads_the_results_of_the_branches(world: World) -> None:
    seen: list[Any] = []

    def define(durable: Durable) -> None:
        durable.workflow("w").parallel(
            "checks", {"a": noting([], "a", 1), "b": noting([], "b", [2])}
        ).step(lambda ctx: seen.append(ctx.results["checks"]), name="after")

    worker = world.worker(define)
    worker.start("w", {})
    world.drain(worker)

    assert seen == [{"a": 1, "b": [2]}]


def test_map_input_makes_the_input_of_a_branch_that_is_a_workflow(world: World) -> None:
    def define(durable: Durable) -> None:
        child = durable.workflow("child").step(lambda ctx: ctx.input, name="echo")
        durable.workflow("w").parallel(
            "both",
            {"one": child, "two": child, "step": lambda ctx: ctx.input},
            map_input=lambda ctx: f"{ctx.branch} of {ctx.input}",
        )

    worker = world.worker(define)
    run = worker.start("w", "it")
    world.drain(worker)
    assert run.result(timeout=0) == {
        "both": {"one": {"echo": "one of it"}, "two": {"echo": "two of it"}, "step": "it"}
    }

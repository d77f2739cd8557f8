"""A step that suspends is called again, as the same unit, with what it kept and what came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.core.status import Status
from celery_durable.run import Run
from celery_durable.workflow.suspend import Suspend
from tests.integration.driving import ONCE, Gate, World


def asking(ctx: Any) -> Any:
    """Asks twice; gives everything it was told."""
    if not ctx.is_resumed:
        assert ctx.snapshot is None
        assert ctx.resume_data is None
        return Suspend({"told": []})
    told = [*ctx.snapshot["told"], ctx.resume_data]
    return told if len(told) == 2 else Suspend({"told": told})


def quick(ctx: Any) -> str:
    return "quick"


Place = Callable[[Durable], Any]


def in_a_step(durable: Durable) -> None:
    durable.workflow("w").step(asking, name="a")


def in_a_branch(durable: Durable) -> None:
    durable.workflow("w").parallel("p", {"a": asking, "q": quick})


def in_an_item(durable: Durable) -> None:
    durable.workflow("w").map("m", over=lambda _: [7, 8], handler=lambda ctx: maybe(ctx, 8))


def in_a_case(durable: Durable) -> None:
    durable.workflow("w").route("r", lambda _: "yes", {"yes": asking, "no": quick})


def in_a_loop(durable: Durable) -> None:
    durable.workflow("w").loop(
        "l", lambda ctx: maybe(ctx, 1), max_iterations=3, map_input=lambda _: 0,
        feedback=lambda result: 1 if result == "quick" else 2,
    )  # fmt: skip


def in_a_transaction(durable: Durable) -> None:
    durable.workflow("w").step(asking, name="t", transactional=True)


def maybe(ctx: Any, item: int) -> Any:
    return asking(ctx) if ctx.item == item else "quick"


PLACES = [
    (in_a_step, "a", {"a": [1, 2]}, ["a"]),
    (in_a_branch, "p#a", {"p": {"a": [1, 2], "q": "quick"}}, ["p#q", "p#a", "p"]),
    (in_an_item, "m#1", {"m": ["quick", [1, 2]]}, ["m#0", "m#1", "m"]),
    (in_a_case, "r", {"r": [1, 2]}, ["r#route", "r"]),
    (in_a_loop, "l#1", {"l": "quick"}, ["l#0", "l#1", "l#2", "l"]),
    (in_a_transaction, "t", {"t": [1, 2]}, ["t"]),
]


@pytest.mark.parametrize("inline_steps", [1, 100])
@pytest.mark.parametrize("place", PLACES)
def test_a_resume_enters_exactly_the_unit_that_asked(
    world: World, place: tuple[Place, str, Any, list[str]], inline_steps: int
) -> None:
    define, unit, result, units = place
    worker = world.worker(define, inline_steps=inline_steps)
    run = worker.start("w")
    world.drain(worker)
    for answer in (1, 2):
        status = run.status()
        assert status.status is Status.SUSPENDED
        assert status.awaiting == (unit,)
        assert status.awaiting_signal == unit
        assert run.resume(unit, answer).outcome == "stored"
        world.drain(worker)

    assert run.result(0) == result
    assert world.units(run) == [f"{one} completed" for one in units]
    assert {entry.attempt for entry in run.history()} == {1}


@dataclass
class Interrupted:
    status: str
    question: str


@pytest.mark.parametrize(
    "answer", [{"status": "suspended", "question": "may I?"}, Interrupted("suspended", "may I?")]
)
@pytest.mark.parametrize("suspends", [True, False])
def test_what_says_that_it_is_suspended_is_its_own_snapshot_if_the_step_suspends(
    world: World, answer: Any, suspends: bool
) -> None:
    def agent(ctx: Any) -> Any:
        return (ctx.snapshot, ctx.resume_data) if ctx.is_resumed else answer

    worker = world.worker(lambda d: d.workflow("w").step(agent, name="a", suspends=suspends))
    run = worker.start("w")
    world.drain(worker)
    if suspends:
        assert run.status().awaiting == ("a",)
        run.resume("a")
        world.drain(worker)
    stored = run.result(0)["a"]
    assert (stored[0] if suspends else stored) == answer


@pytest.mark.parametrize("answer", [{"status": "done"}, "suspended", None, ["suspended"]])
def test_a_step_that_suspends_may_also_just_return(world: World, answer: Any) -> None:
    worker = world.worker(lambda d: d.workflow("w").step(lambda _: answer, name="a", suspends=True))
    run = worker.start("w")
    world.drain(worker)
    assert run.result(0) == {"a": answer}


def test_an_answer_that_came_before_the_question_is_taken_at_once(world: World) -> None:
    worker = world.worker(in_a_step)
    run = worker.start("w")
    run.resume("a", "x")
    run.resume("a", "y")
    world.drain(worker)
    assert run.result(0) == {"a": ["x", "y"]}


def test_a_step_may_name_the_signal_it_waits_for(world: World) -> None:
    def agent(ctx: Any) -> Any:
        return ctx.signal("approval") if ctx.is_resumed else Suspend(signal="approval")

    worker = world.worker(lambda d: d.workflow("w").step(agent, name="a"))
    run = worker.start("w")
    world.drain(worker)
    assert run.status().awaiting == ("approval",)
    run.resume("a", "for nobody")
    world.drain(worker)
    assert run.status().status is Status.SUSPENDED
    run.resume("approval", "yes")
    world.drain(worker)
    assert run.result(0) == {"a": "yes"}


@pytest.mark.parametrize("timeout", [60, timedelta(minutes=1)])
def test_an_answer_that_does_not_come_in_time_fails_the_unit(world: World, timeout: Any) -> None:
    calls: list[bool] = []

    def agent(ctx: Any) -> Any:
        calls.append(ctx.is_resumed)
        return Suspend("kept", timeout=timeout)

    worker = world.worker(lambda d: d.workflow("w").step(agent, name="a"))
    run = worker.start("w")
    world.drain(worker)
    world.let_time_pass(59)
    assert world.drain(worker) == 0
    world.let_time_pass(2)
    world.drain(worker)

    error = run.status().error
    assert run.status().status is Status.FAILED
    assert error is not None
    assert (error.type, error.unit) == ("SignalTimeout", "a")
    assert calls == [False]


class Resumed:
    """A step whose second call fails, or kills its worker, the first time."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.gate = Gate()

    def __call__(self, ctx: Any) -> Any:
        if not ctx.is_resumed:
            return Suspend([1, 2])
        self.seen.append((ctx.snapshot, ctx.resume_data, ctx.attempt))
        if len(self.seen) == 1:
            return self.fail_first()
        return "done"

    def fail_first(self) -> Any:
        raise ValueError("not yet")


def resumed(world: World, worker: Durable) -> Run:
    run = worker.start("w")
    world.drain(worker)
    run.resume("a", {"yes": True})
    return run


def test_a_retry_after_a_resume_has_the_same_answer(world: World) -> None:
    step = Resumed()
    worker = world.worker(lambda d: d.workflow("w").step(step, name="a"))
    run = resumed(world, worker)
    world.drain(worker)
    world.let_time_pass(60)
    world.drain(worker)

    assert run.result(0) == {"a": "done"}
    assert step.seen == [([1, 2], {"yes": True}, 1), ([1, 2], {"yes": True}, 2)]


@pytest.mark.parametrize("inline_steps", [1, 100])
def test_a_crash_after_a_resume_has_the_same_answer(world: World, inline_steps: int) -> None:
    class Crashing(Resumed):
        def fail_first(self) -> Any:
            self.gate()

    step = Crashing()

    def define(durable: Durable) -> None:
        durable.workflow("w").step(step, name="a")

    first, second = (world.worker(define, inline_steps=inline_steps) for _ in range(2))
    run = resumed(world, first)
    at_work = step.gate.hold(world.drain, first)
    world.kill(first)
    assert world.reap(second) == 1
    world.drain(second)
    step.gate.finish(at_work)

    assert run.result(0) == {"a": "done"}
    assert step.seen == [([1, 2], {"yes": True}, 1)] * 2


def test_what_a_transactional_step_wrote_is_committed_when_it_suspends(world: World) -> None:
    """P6"""
    world.rows("CREATE TABLE asked (n integer)")

    def ask(ctx: Any) -> Any:
        statement = "INSERT INTO asked VALUES (1)"
        ctx.session.connection().exec_driver_sql(statement)
        if ctx.is_resumed and ctx.resume_data == "fail":
            raise ValueError
        return "done" if ctx.resume_data == "done" else Suspend()

    worker = world.worker(
        lambda d: d.workflow("w").step(ask, name="t", transactional=True, retry=ONCE)
    )
    run = worker.start("w")
    for n, answer in enumerate(["again", "done"], start=1):
        world.drain(worker)
        assert world.one("SELECT count(*) FROM asked") == n
        run.resume("t", answer)
    world.drain(worker)
    assert run.result(0) == {"t": "done"}
    assert world.one("SELECT count(*) FROM asked") == 3

    failing = worker.start("w")
    world.drain(worker)
    failing.resume("t", "fail")
    world.drain(worker)
    assert failing.status().status is Status.FAILED
    assert world.one("SELECT count(*) FROM asked") == 4


@pytest.mark.parametrize("transactional", [True, False])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"snapshot": object()}, "NotSerializable"),
        ({"snapshot": "x" * 2_000}, "PayloadTooLarge"),
        ({"signal": ""}, "TypeError"),
        ({"signal": 7}, "TypeError"),
        ({"signal": "a\0b"}, "TypeError"),
        ({"signal": "\ud800"}, "TypeError"),
        ({"signal": "x" * 501}, "TypeError"),
        ({"timeout": -1}, "ValueError"),
        ({"timeout": float("nan")}, "ValueError"),
        ({"timeout": "1"}, "TypeError"),
        ({"timeout": True}, "TypeError"),
    ],
)
def test_a_suspension_that_cannot_be_kept_fails_the_unit(
    world: World, options: Any, error: str, transactional: bool
) -> None:
    """P12"""

    def define(durable: Durable) -> None:
        durable.workflow("w").step(
            lambda _: Suspend(**options), name="a", retry=ONCE, transactional=transactional
        )

    worker = world.worker(define, max_payload_bytes=1_000)
    run = worker.start("w")
    world.drain(worker)

    found = run.status().error
    assert run.status().status is Status.FAILED
    assert found is not None
    assert (found.type, found.unit) == (error, "a")

"""One of several cases; which one is journaled before it begins."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, StrEnum
from typing import Any

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.errors import RunFailed
from tests.integration.driving import ONCE, Define, Gate, World, error_of, noting
from tests.integration.forks import advance, ended, standing
from tests.integration.workflows import failing, saying, undoable


class Rail(Enum):
    WIRE = "wire"
    OTHER = "other"


class Named(StrEnum):
    CARD = "card"


def routing(log: list[str], selector: Callable[[Any], Any], **options: Any) -> Define:
    """A route to `wire` or `card`, each of which leaves its name and branch, and a step after."""

    def taking(name: str) -> Callable[[Any], str]:
        def handler(ctx: Any) -> str:
            log.append(f"{name} as {ctx.branch}")
            return f"by {name}"

        return handler

    def define(durable: Durable) -> None:
        cases = {"wire": taking("wire"), "card": taking("card")}
        given = {k: taking("else") if v == "a step" else v for k, v in options.items()}
        durable.workflow("w").route("rail", selector, cases, **given).step(noting(log, "after"))

    return define


def test_the_selectors_answer_is_journaled_before_the_case_begins(world: World) -> None:
    log: list[str] = []
    worker = world.worker(routing(log, lambda ctx: ctx.input["by"]), inline_steps=1)
    run = worker.start("w", {"by": "card"})
    (token_id,) = world.publish()
    worker.engine.advance(token_id)

    assert world.units(run) == ["rail#route completed"]
    assert log == []
    token = standing(world, run)["rail"]
    assert (token["unit"], token["part"]) == ("rail", "card")
    world.drain(worker)

    assert log == ["card as card", "after"]
    assert [(e.unit, e.branch, e.result) for e in run.history()] == [
        ("rail#route", None, "card"),
        ("rail", "card", "by card"),
        ("after", None, None),
    ]
    assert run.result(timeout=0) == {"rail": "by card", "after": None}
    assert ended(world, run) == "completed"


def test_a_retry_takes_the_same_case_and_asks_nobody_again(world: World) -> None:
    """P3"""
    asked: list[str] = []
    tried: list[tuple[str, int]] = []

    def selector(_: Any) -> str:
        asked.append("asked")
        return ("wire", "card")[len(asked) - 1]

    def flaky(ctx: Any) -> None:
        tried.append((ctx.branch, ctx.attempt))
        if ctx.attempt == 1:
            raise ConnectionError

    def define(durable: Durable) -> None:
        wire = durable.step(retry=RetryPolicy(2, initial=0), name="wire")(flaky)
        durable.workflow("w").route("rail", selector, {"wire": wire, "card": noting([], "card")})

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)

    assert asked == ["asked"]
    assert tried == [("wire", 1), ("wire", 2)]
    assert ended(world, run) == "completed"


def test_a_worker_that_dies_in_the_case_is_followed_by_one_that_takes_the_same(
    world: World,
) -> None:
    """P3, P5"""
    asked: list[str] = []
    taken: list[str] = []
    gate = Gate()

    def selector(_: Any) -> str:
        asked.append("asked")
        return ("wire", "card")[len(asked) - 1]

    def hang(ctx: Any) -> None:
        taken.append(ctx.branch)
        if len(taken) == 1:
            gate()

    def define(durable: Durable) -> None:
        durable.workflow("w").route("rail", selector, {"wire": hang, "card": hang})

    run = world.take_over(define, gate)

    assert (asked, taken) == (["asked"], ["wire", "wire"])
    assert world.units(run) == ["rail#route completed", "rail completed"]
    assert ended(world, run) == "completed"


@pytest.mark.parametrize("answer", ["other", None, 7, True, ["wire"], Rail.OTHER, "Wire", ""])
def test_an_unknown_answer_fails_the_node_and_names_the_cases(world: World, answer: Any) -> None:
    log: list[str] = []
    worker = world.worker(routing(log, lambda _: answer))
    run = worker.start("w", {})
    world.drain(worker)

    error = error_of(run)
    assert (error.type, error.unit) == ("UnknownRoute", "rail#route")
    assert "the cases are wire, card" in error.message
    shown = answer.value if isinstance(answer, Enum) else answer
    assert repr(shown) in error.message
    assert log == []
    assert world.units(run) == ["rail#route failed"]
    assert ended(world, run) == "failed"
    with pytest.raises(RunFailed, match="wire, card"):
        run.result(timeout=0)


def test_an_unknown_answer_is_not_asked_for_again(world: World) -> None:
    asked: list[int] = []
    worker = world.worker(routing([], lambda ctx: asked.append(ctx.attempt)))
    run = worker.start("w", {})
    world.drain(worker)

    assert asked == [1]
    assert ended(world, run) == "failed"


@pytest.mark.parametrize(
    ("default", "expected", "result"),
    [
        ("wire", ["wire as wire", "after"], "by wire"),
        ("a step", ["else as default", "after"], "by else"),
        (None, ["after"], None),
    ],
)
def test_an_unknown_answer_leads_to_the_default(
    world: World, default: Any, expected: list[str], result: str | None
) -> None:
    log: list[str] = []
    worker = world.worker(routing(log, lambda _: "nothing known", default=default))
    run = worker.start("w", {})
    world.drain(worker)

    assert log == expected
    assert run.result(timeout=0)["rail"] == result
    assert run.history()[0].result == "nothing known", "the answer is journaled as it was"
    assert world.units(run)[:2] == ["rail#route completed", "rail completed"]
    assert ended(world, run) == "completed"


@pytest.mark.parametrize("default", ["wire", "a step", None])
def test_a_known_answer_does_not_lead_to_the_default(world: World, default: Any) -> None:
    log: list[str] = []
    worker = world.worker(routing(log, lambda _: "card", default=default))
    worker.start("w", {})
    world.drain(worker)

    assert log == ["card as card", "after"]


@pytest.mark.parametrize(("answer", "case"), [(Rail.WIRE, "wire"), (Named.CARD, "card")])
def test_a_selector_may_answer_with_an_enum(world: World, answer: Enum, case: str) -> None:
    log: list[str] = []
    worker = world.worker(routing(log, lambda _: answer))
    run = worker.start("w", {})
    world.drain(worker)

    assert log == [f"{case} as {case}", "after"]
    assert run.history()[0].result == case


def test_a_case_has_its_own_queue_and_the_selector_the_runs(world: World) -> None:
    def define(durable: Durable) -> None:
        wire = durable.step(queue="bank", timeout=5, name="wire")(noting([], "wire"))
        durable.workflow("w").route("rail", lambda _: "wire", {"wire": wire})

    worker = world.worker(define)
    run = worker.start("w", {})
    (first,) = world.rows("SELECT options FROM durable_outbox")
    assert first["options"] == {"queue": "durable", "shadow": "w.rail#route"}
    world.lose_hints()
    advance(world, worker, run, "rail#route")
    (second,) = world.rows("SELECT options FROM durable_outbox")
    expected = {"queue": "bank", "soft_time_limit": 5, "time_limit": 10, "shadow": "w.rail"}
    assert second["options"] == expected


def test_the_case_that_was_taken_is_undone_and_no_other(world: World) -> None:
    """P8"""
    log: list[str] = []
    seen: list[Any] = []

    def define(durable: Durable) -> None:
        wire = durable.step(name="wire")(saying(log, "sent"))
        wire.compensate(lambda ctx: seen.append((ctx.unit, ctx.branch, ctx.result)))
        durable.workflow("w").route(
            "rail", lambda _: "wire", {"card": undoable(durable, log, "card"), "wire": wire}
        ).step(failing(), name="last", retry=ONCE)

    worker = world.worker(define, inline_steps=1)
    run = worker.start("w", {})
    world.drain(worker)

    assert log == ["rail"]
    assert seen == [("rail#compensate", "wire", "sent")]
    assert world.units(run) == [
        "rail#route completed",
        "rail completed",
        "last failed",
        "rail#compensate completed",
    ]
    assert ended(world, run) == "failed"


def test_a_case_that_fails_for_good_fails_the_node(world: World) -> None:
    """P8"""
    log: list[str] = []

    def define(durable: Durable) -> None:
        durable.workflow("w").step(undoable(durable, log, "before")).route(
            "rail", lambda _: "wire", {"wire": durable.step(retry=ONCE, name="x")(failing("oh"))}
        )

    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)

    assert log == ["before", "before#compensate"]
    error = error_of(run)
    assert (error.unit, error.message) == ("rail", "oh")
    assert ended(world, run) == "failed"


def test_a_workflow_is_a_case_and_runs_as_a_child(world: World) -> None:
    def define(durable: Durable) -> None:
        child = durable.workflow("child").step(lambda ctx: ctx.input, name="got")
        child.returns(lambda ctx: ctx.results["got"])
        durable.workflow("w").route("rail", lambda _: "kid", {"kid": child})

    worker = world.worker(define)
    run = worker.start("w", {"n": 1})
    world.drain(worker)

    assert run.result(timeout=0) == {"rail": {"n": 1}}
    assert ended(world, run) == "completed"


def test_a_selector_may_be_async_and_reads_results(world: World) -> None:
    log: list[str] = []

    async def selector(ctx: Any) -> str:
        return str(ctx.results["a"])

    def define(durable: Durable) -> None:
        durable.workflow("w").step(noting(log, "a", "two")).route(
            "rail", selector, {"one": noting(log, "one"), "two": noting(log, "two")}
        )

    worker = world.worker(define)
    worker.start("w", {})
    world.drain(worker)

    assert log == ["a", "two"]

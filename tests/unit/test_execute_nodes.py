"""Executing the units of every kind of node: which function is called with what, and its event."""

from typing import Any

import pytest

from celery_durable import Durable, Suspend, Workflow
from celery_durable.core.child import NewRun
from celery_durable.core.event import (
    ChildRequested,
    Chosen,
    Event,
    Failed,
    Listed,
    SleepRequested,
    Succeeded,
)
from celery_durable.core.event import Suspended as SuspendedEvent
from celery_durable.core.status import Status
from celery_durable.core.token import Token
from tests.unit.executing import executed
from tests.unit.nodes import CHILD, branch, case, choosing, item, iteration
from tests.unit.values import NOW, at

Calls = list[tuple[str, Any]]


@pytest.fixture
def order() -> Workflow:
    return Durable().workflow("order")


@pytest.fixture
def stock() -> Workflow:
    return Durable().workflow("stock", version=4).step(fraud)


def fraud(ctx: Any) -> Any:
    return ["fraud", ctx.branch]


def price(ctx: Any) -> Any:
    return ["price", ctx.branch]


def event(made: Workflow, token: Token, input: object = None) -> Event:
    return executed(made, token, input).event


def test_a_branch_calls_its_own_function(order: Workflow) -> None:
    made = order.parallel("checks", {"fraud": fraud, "cost": price})
    assert event(made, branch("fraud")) == Succeeded('["fraud","fraud"]', NOW)
    assert event(made, branch("cost", 1)) == Succeeded('["price","cost"]', NOW)


def test_a_map_asks_for_its_items(order: Workflow) -> None:
    made = order.map("lines", over=lambda ctx: ctx.input, handler=price)
    assert event(made, at("lines"), [1, {"a": 2}]) == Listed(("1", '{"a":2}'), NOW)


def test_an_item_calls_the_handler_with_the_item(order: Workflow) -> None:
    made = order.map("lines", over=lambda _ctx: [], handler=lambda ctx: [ctx.item, ctx.iteration])
    assert event(made, item(3, input='{"a":1}')) == Succeeded('[{"a":1},3]', NOW)


def test_a_route_asks_its_selector_and_a_case_calls_its_own_function(order: Workflow) -> None:
    made = order.route("rail", lambda ctx: ctx.input, {"wire": fraud, "card": price})
    assert event(made, choosing(), "card") == Chosen('"card"', "card", NOW)
    assert event(made, case("card")) == Succeeded('["price","card"]', NOW)


def test_a_sleep_is_as_long_as_the_node_or_its_function_says(order: Workflow) -> None:
    assert event(order.sleep("cooldown", 90), at("cooldown")) == SleepRequested(90.0, NOW)
    asking = Durable().workflow("order").sleep("cooldown", lambda ctx: ctx.input)
    assert event(asking, at("cooldown"), 5) == SleepRequested(5.0, NOW)


def started(made: Workflow, token: Token, input: object = None) -> tuple[str, str | None]:
    """What is started with the commit of a unit that is a child, and its input."""
    spawned = executed(made, token, input).event
    assert isinstance(spawned, ChildRequested)
    assert isinstance(spawned.child, NewRun)
    assert (spawned.child.id, spawned.started_at) == (CHILD, NOW)
    return spawned.child.workflow, spawned.child.input or None


def test_a_child_is_started_with_what_map_input_makes(order: Workflow) -> None:
    made = order.child_workflow("fulfil", "fulfilment", map_input=lambda ctx: [ctx.input])
    assert started(made, at("fulfil"), 5) == ("fulfilment", "[5]")


def test_a_child_without_map_input_is_started_with_the_run_s_input(order: Workflow) -> None:
    made = order.child_workflow("fulfil", "fulfilment")
    assert started(made, at("fulfil"), 5) == ("fulfilment", None)


def test_an_item_that_is_a_child_is_started_with_the_item(order: Workflow, stock: Workflow) -> None:
    made = order.map("lines", over=lambda _ctx: [], handler=stock)
    assert started(made, item(0, input="[1]")) == ("stock", "[1]")


@pytest.mark.parametrize("kind", ["parallel", "route"])
def test_a_branch_or_case_that_is_a_child_is_started_with_the_run_s_input(
    order: Workflow, stock: Workflow, kind: str
) -> None:
    if kind == "parallel":
        made, token = order.parallel("checks", [stock]), branch("stock")
    else:
        made, token = order.route("rail", fraud, {"card": stock}), case("card")
    assert started(made, token, 5) == ("stock", None)


def test_an_iteration_that_is_a_child_is_started_with_its_input(
    order: Workflow, stock: Workflow
) -> None:
    made = order.loop("poll", stock, max_iterations=3, map_input=lambda ctx: ctx.input + 1)
    assert started(made, iteration(0), 5) == ("stock", "6")
    assert started(made, iteration(1, input="9"), 5) == ("stock", "9")


def test_a_child_that_is_to_be_undone_asks_for_no_input(order: Workflow) -> None:
    def never(_ctx: Any) -> None:
        raise AssertionError

    made = order.child_workflow("fulfil", "fulfilment", map_input=never, compensate="cascade")
    token = at("fulfil#compensate", rollback=Status.FAILED)
    assert started(made, token) == ("fulfilment", None)


@pytest.mark.parametrize(
    ("unit", "where"),
    [
        ("checks#fraud", {"part": "fraud", "position": 0}),
        ("lines#7", {"position": 7}),
        ("rail", {"part": "fraud"}),
        ("poll#7", {"position": 7}),
    ],
)
def test_whatever_called_a_step_is_undone_by_the_step_s_compensator(
    unit: str, where: dict[str, Any]
) -> None:
    durable = Durable()
    step = durable.step(name="fraud", compensate=lambda ctx: ["undone", ctx.unit])(fraud)
    made = (
        durable.workflow("order")
        .parallel("checks", [step])
        .map("lines", over=lambda _ctx: [], handler=step)
        .route("rail", fraud, {"fraud": step})
        .loop("poll", step, max_iterations=9)
    )
    undoing = f"{unit}#compensate"
    token = at(undoing, rollback=Status.FAILED, **where)
    assert event(made, token) == Succeeded(f'["undone","{undoing}"]', NOW)


def test_a_step_that_suspends_says_what_it_keeps_and_what_it_waits_for(order: Workflow) -> None:
    asked = Suspend({"draft": 1}, signal="approval", timeout=60)
    made = order.step(lambda _ctx: asked, name="ask")
    assert event(made, at("ask")) == SuspendedEvent('{"draft":1}', NOW, "approval", 60.0)


def test_a_result_that_says_suspended_suspends_only_a_step_that_may(order: Workflow) -> None:
    reply = {"status": "suspended", "thread": 5}
    made = order.step(lambda _ctx: reply, name="ask", suspends=True)
    kept = '{"status":"suspended","thread":5}'
    assert event(made, at("ask")) == SuspendedEvent(kept, NOW)
    plain = Durable().workflow("order").step(lambda _ctx: reply, name="ask")
    assert event(plain, at("ask")) == Succeeded(kept, NOW)


def resumes(ctx: Any) -> Any:
    return [ctx.snapshot, ctx.resume_data] if ctx.is_resumed else Suspend("kept")


def test_a_resumed_step_is_called_again_with_what_it_kept_and_the_answer(order: Workflow) -> None:
    made = order.step(resumes, name="ask")
    assert event(made, at("ask")) == SuspendedEvent('"kept"', NOW)
    token = at("ask", snapshot='"kept"', answer='"yes"')
    assert event(made, token) == Succeeded('["kept","yes"]', NOW)


def test_what_a_step_keeps_must_have_json_too(order: Workflow) -> None:
    made = order.step(lambda _ctx: Suspend(object()), name="ask")
    failed = event(made, at("ask"))
    assert isinstance(failed, Failed)
    assert not failed.may_retry
    assert failed.error.message.startswith("the snapshot of ask (object) cannot be stored")


def test_an_iteration_may_suspend_and_until_is_not_asked_yet(order: Workflow) -> None:
    asked: list[Any] = []
    made = order.loop(
        "poll", resumes, max_iterations=3, until=lambda result, _n: asked.append(result)
    )
    assert event(made, iteration(0)) == SuspendedEvent('"kept"', NOW)
    assert asked == []

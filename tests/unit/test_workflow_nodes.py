"""Authoring every kind of node: what of it is in the plan, and which callables belong to it."""

import functools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from celery import Celery

from celery_durable import Durable, RetryPolicy, Workflow
from celery_durable.core.nodes import (
    Body,
    ChildNode,
    Compensator,
    LoopNode,
    MapNode,
    Node,
    ParallelNode,
    RouteNode,
    Routing,
    SignalNode,
    SleepNode,
    StepNode,
    Tolerance,
)
from celery_durable.core.retry import COMPENSATOR_RETRY, STEP_RETRY
from celery_durable.errors import InvalidWorkflow
from celery_durable.workflow.definition import Functions
from celery_durable.workflow.node_kinds import MISSING
from tests.unit.values import undoable

PATIENT = RetryPolicy(max_attempts=9)
TWO_DAYS = 172_800.0


@pytest.fixture
def order(durable: Durable) -> Workflow:
    return durable.workflow("order")


@pytest.fixture
def stock(durable: Durable) -> Workflow:
    return durable.workflow("stock", version=4).step(fraud)


def fraud(ctx: Any) -> Any:
    return ["fraud", ctx]


def price(ctx: Any) -> Any:
    return ["price", ctx]


def unprice(ctx: Any) -> None:
    pass


def choose(ctx: Any) -> str:
    return str(ctx)


def is_done(result: Any, done: int) -> bool:
    return bool(result) or done > 7


def plain(name: str) -> StepNode:
    return StepNode(name, STEP_RETRY)


def only_node(workflow: Workflow) -> Node:
    (node,) = workflow.plan.nodes
    return node


def test_each_method_returns_the_workflow_and_the_nodes_are_in_order(order: Workflow) -> None:
    made = (
        order.step(fraud)
        .parallel("checks", [fraud, price])
        .map("lines", over=fraud, handler=price)
        .route("rail", choose, {"wire": fraud})
        .loop("poll", fraud, max_iterations=3)
        .sleep("nap", 1)
        .wait_for_signal("signoff")
        .child_workflow("fulfil", "fulfilment")
        .returns(fraud)
    )
    assert made is order
    names = ("fraud", "checks", "lines", "rail", "poll", "nap", "signoff", "fulfil")
    assert order.steps == order.plan.names == names


def test_branches_in_a_sequence_are_called_as_their_steps_and_workflows(
    durable: Durable, order: Workflow, stock: Workflow
) -> None:
    named = durable.step(name="cost", queue="q")(price)
    order.parallel("checks", (fraud, named, stock))
    assert only_node(order) == ParallelNode(
        "checks",
        (
            plain("fraud"),
            StepNode("cost", STEP_RETRY, Routing("q")),
            ChildNode("stock", "stock", 4),
        ),
    )


def test_branches_in_a_mapping_have_its_names_and_the_options_of_their_steps(
    durable: Durable, order: Workflow, stock: Workflow
) -> None:
    step = durable.step(
        retry=PATIENT, timeout=9, queue="q", priority=3, transactional=True, suspends=True
    )(price)
    step.compensate(unprice)
    order.parallel("checks", {"cost": step, "goods": stock, "λ": lambda _ctx: 1}, fail_fast=True)
    cost = StepNode(
        "cost",
        PATIENT,
        Routing("q", 3, 9.0),
        transactional=True,
        compensator=Compensator(COMPENSATOR_RETRY, Routing("q", 3)),
        suspends=True,
    )
    branches: tuple[Body, ...] = (cost, ChildNode("goods", "stock", 4), plain("λ"))
    assert only_node(order) == ParallelNode("checks", branches, fail_fast=True)
    assert order.step_of("checks", "cost") is step
    assert order.step_of("checks", "cost").compensator is unprice
    assert step.name == "price"


def test_the_app_s_defaults_hold_for_the_steps_of_every_kind_of_node() -> None:
    app = Celery("shop", set_as_current=False)
    app.conf.update(durable_default_retry={"max_attempts": 7}, durable_step_timeout=60)
    order = Durable(app).workflow("order").parallel("checks", [fraud])
    order.loop("poll", fraud, max_iterations=3)
    expected = StepNode("fraud", RetryPolicy(max_attempts=7), Routing(time_limit=60.0))
    assert order.plan.nodes == (
        ParallelNode("checks", (expected,)),
        LoopNode("poll", expected, 3),
    )


@pytest.mark.parametrize(
    "name", ["compensate", "route", "returns", "rollback", "0", "a b", "checks"]
)
def test_a_branch_may_be_called_as_the_engine_s_own_units(order: Workflow, name: str) -> None:
    order.parallel("checks", {name: fraud}).route("rail", choose, {name: fraud})
    checks, rail = order.plan.nodes
    assert checks == ParallelNode("checks", (plain(name),))
    assert rail == RouteNode("rail", (plain(name),))


def test_the_same_name_may_be_a_branch_of_two_nodes_and_a_node(order: Workflow) -> None:
    order.parallel("a", [fraud]).parallel("b", [fraud]).step(fraud)
    assert order.plan.names == ("a", "b", "fraud")


def test_a_compensator_declared_after_the_branch_was_placed_still_counts(
    durable: Durable, order: Workflow
) -> None:
    step = durable.step(price)
    order.parallel("checks", [fraud, step])
    step.compensate(unprice)
    assert undoable(order.plan) == ("checks",)


def test_what_becomes_of_a_caller_s_list_or_mapping_changes_nothing(order: Workflow) -> None:
    branches: list[Any] = [fraud]
    cases: dict[str, Any] = {"wire": fraud}
    order.parallel("checks", branches).route("rail", choose, cases, default=price)
    branches.append(price)
    cases["card"] = price
    checks, rail = order.plan.nodes
    assert checks == ParallelNode("checks", (plain("fraud"),))
    assert isinstance(rail, RouteNode)
    assert [case.name for case in rail.cases] == ["wire", "default"]


def test_a_map_has_its_handler_and_the_function_of_its_items(order: Workflow) -> None:
    order.map("lines", over=choose, handler=price)
    assert only_node(order) == MapNode("lines", plain("price"))
    assert order.functions("lines") == Functions(over=choose)
    assert order.step_of("lines", None).function is price


def test_the_options_of_a_map_are_in_its_plan(order: Workflow) -> None:
    order.map("a", over=choose, handler=price, max_concurrency=10, chunk=10, fail_fast=True)
    order.map("b", over=choose, handler=price, chunk=20, on_error="keep")
    order.map("c", over=choose, handler=price, tolerate=3)
    order.map("d", over=choose, handler=price, tolerate="2.5 %")
    assert order.plan.nodes == (
        MapNode("a", plain("price"), max_concurrency=10, chunk=10, fail_fast=True),
        MapNode("b", plain("price"), chunk=20, keeps_errors=True),
        MapNode("c", plain("price"), tolerance=Tolerance(3)),
        MapNode("d", plain("price"), tolerance=Tolerance(percent=Decimal("2.5"))),
    )


@pytest.mark.parametrize("handler", [lambda _ctx: 1, functools.partial(price)])
def test_a_handler_without_a_name_of_its_own_has_its_node_s(order: Workflow, handler: Any) -> None:
    order.map("lines", over=choose, handler=handler).loop("poll", handler, max_iterations=1)
    assert order.plan.nodes == (
        MapNode("lines", plain("lines")),
        LoopNode("poll", plain("poll"), 1),
    )


def test_a_route_has_its_cases_and_its_selector(order: Workflow, stock: Workflow) -> None:
    order.route("rail", choose, {"wire": fraud, "goods": stock})
    wire_or_goods = (plain("wire"), ChildNode("goods", "stock", 4))
    assert only_node(order) == RouteNode("rail", wire_or_goods, default=False)
    assert order.functions("rail") == Functions(selector=choose)
    assert order.step_of("rail", "wire").function is fraud


def test_a_route_that_is_told_MISSING_has_no_default(order: Workflow) -> None:  # noqa: N802
    order.route("rail", choose, {"wire": fraud}, default=MISSING)
    assert only_node(order) == RouteNode("rail", (plain("wire"),), default=False)
    assert repr(MISSING) == "MISSING"


def test_the_default_of_a_route_is_none_or_one_of_its_cases(order: Workflow) -> None:
    order.route("a", choose, {"wire": fraud}, default=None)
    order.route("b", choose, {"wire": fraud}, default="wire")
    order.route("c", choose, {"wire": fraud, "default": price}, default="default")
    assert order.plan.nodes == (
        RouteNode("a", (plain("wire"),), default=None),
        RouteNode("b", (plain("wire"),), default="wire"),
        RouteNode("c", (plain("wire"), plain("default")), default="default"),
    )


def test_a_step_or_workflow_for_the_default_becomes_a_case(
    order: Workflow, stock: Workflow
) -> None:
    order.route("a", choose, {"wire": fraud}, default=price)
    order.route("b", choose, {"wire": fraud}, default=stock)
    order.route("c", choose, {"wire": fraud}, default=lambda _ctx: 1)
    child = ChildNode("default", "stock", 4)
    assert order.plan.nodes == (
        RouteNode("a", (plain("wire"), plain("default")), default="default"),
        RouteNode("b", (plain("wire"), child), default="default"),
        RouteNode("c", (plain("wire"), plain("default")), default="default"),
    )
    assert order.step_of("a", "default").function is price


def test_a_loop_has_its_body_and_nothing_that_was_not_said(order: Workflow) -> None:
    order.loop("poll", price, max_iterations=1)
    assert only_node(order) == LoopNode("poll", plain("price"), max_iterations=1)
    assert order.functions("poll") == Functions()
    assert order.step_of("poll", None).function is price


def test_the_options_of_a_loop_are_in_its_plan_or_its_functions(order: Workflow) -> None:
    order.loop(
        "poll",
        price,
        max_iterations=20,
        until=is_done,
        feedback=choose,
        map_input=fraud,
        every=timedelta(minutes=1),
        on_exhausted="fail",
    )
    assert only_node(order) == LoopNode("poll", plain("price"), 20, 60.0, fails_when_exhausted=True)
    functions = order.functions("poll")
    assert functions == Functions(until=is_done, feedback=choose, map_input=fraud)
    assert functions.until is is_done


@pytest.mark.parametrize("every", [0, 5, 5.0, timedelta(seconds=5)])
def test_the_time_between_iterations_is_kept_in_seconds(order: Workflow, every: Any) -> None:
    order.loop("poll", price, max_iterations=3, every=every)
    node = only_node(order)
    assert isinstance(node, LoopNode)
    assert (node.every, type(node.every)) == (5.0 if every else 0.0, float)


@pytest.mark.parametrize("length", [TWO_DAYS, int(TWO_DAYS), timedelta(days=2)])
def test_a_sleep_of_a_known_length_is_in_the_plan(order: Workflow, length: Any) -> None:
    order.sleep("nap", length)
    assert only_node(order) == SleepNode("nap", TWO_DAYS)
    assert order.functions("nap") == Functions()


def test_a_sleep_may_be_of_no_length(order: Workflow) -> None:
    assert only_node(order.sleep("nap", 0)) == SleepNode("nap", 0.0)


def test_a_sleep_until_a_moment_asks_for_it_when_the_node_is_reached(order: Workflow) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    order.sleep("nap", moment)
    assert only_node(order) == SleepNode("nap", None)
    function = order.functions("nap").duration
    assert function is not None
    assert function("any context") is moment


def test_a_sleep_may_ask_a_function_of_the_context(order: Workflow) -> None:
    order.sleep("nap", choose)
    assert only_node(order) == SleepNode("nap", None)
    assert order.functions("nap") == Functions(duration=choose)


def test_a_signal_is_called_as_its_node_unless_another_name_is_said(order: Workflow) -> None:
    order.wait_for_signal("signoff").wait_for_signal("again", "signoff")
    assert order.plan.nodes == (SignalNode("signoff", "signoff"), SignalNode("again", "signoff"))


@pytest.mark.parametrize("timeout", [TWO_DAYS, timedelta(days=2)])
def test_a_wait_for_a_signal_may_end_without_it(order: Workflow, timeout: Any) -> None:
    order.wait_for_signal("a", timeout=timeout)
    order.wait_for_signal("b", timeout=timeout, on_timeout="continue")
    order.wait_for_signal("c", timeout=0, on_timeout="continue")
    assert order.plan.nodes == (
        SignalNode("a", "a", TWO_DAYS),
        SignalNode("b", "b", TWO_DAYS, goes_on_without=True),
        SignalNode("c", "c", 0.0, goes_on_without=True),
    )


def test_a_child_is_named_by_its_workflow_and_has_that_version(
    order: Workflow, stock: Workflow
) -> None:
    order.child_workflow("goods", stock).child_workflow("more", stock, version=4)
    assert order.plan.nodes == (ChildNode("goods", "stock", 4), ChildNode("more", "stock", 4))
    assert order.functions("goods") == Functions()


def test_a_child_may_be_named_before_its_workflow_is_defined(order: Workflow) -> None:
    order.child_workflow("a", "fulfilment")
    order.child_workflow("b", "fulfilment", version=2, compensate="cascade", map_input=choose)
    assert order.plan.nodes == (
        ChildNode("a", "fulfilment"),
        ChildNode("b", "fulfilment", 2, cascade=True),
    )
    assert order.functions("b") == Functions(map_input=choose)
    assert undoable(order.plan) == ("b",)


def test_a_workflow_in_the_place_of_a_step_runs_as_a_child(
    order: Workflow, stock: Workflow
) -> None:
    order.step(stock).step(stock, name="goods")
    order.map("lines", over=choose, handler=stock).loop("poll", stock, max_iterations=3)
    assert order.plan.nodes == (
        ChildNode("stock", "stock", 4),
        ChildNode("goods", "stock", 4),
        MapNode("lines", ChildNode("stock", "stock", 4)),
        LoopNode("poll", ChildNode("stock", "stock", 4), 3),
    )


def test_naming_a_workflow_as_a_child_does_not_freeze_it(order: Workflow, stock: Workflow) -> None:
    order.step(stock)
    assert order.plan.nodes[0] == ChildNode("stock", "stock", 4)
    assert stock.step(price).steps == ("fraud", "price")


def test_a_workflow_may_run_itself(order: Workflow) -> None:
    order.route("again", choose, {"yes": order, "no": fraud})
    assert order.children == {("order", 1)}
    assert order.plan.names == ("again",)


def test_a_workflow_knows_the_children_it_names_anywhere(
    durable: Durable, order: Workflow, stock: Workflow
) -> None:
    mail = durable.workflow("mail").step(fraud)
    assert order.step(fraud).children == frozenset()
    order.parallel("checks", [stock, price]).route("rail", choose, {"a": fraud}, default=mail)
    order.child_workflow("fulfil", "fulfilment").child_workflow("old", "fulfilment", version=2)
    order.sleep("nap", 1).step(stock)
    expected = {("stock", 4), ("mail", 1), ("fulfilment", None), ("fulfilment", 2)}
    assert order.children == expected


def test_a_body_that_is_a_child_has_no_step(order: Workflow, stock: Workflow) -> None:
    order.parallel("checks", {"goods": stock, "fraud": fraud}).step(stock)
    order.map("lines", over=choose, handler=stock).sleep("nap", 1)
    for node, part in (("checks", "goods"), ("stock", None), ("lines", None)):
        with pytest.raises(KeyError):
            order.step_of(node, part)


def test_what_is_not_there_has_neither_step_nor_functions(order: Workflow) -> None:
    order.parallel("checks", [fraud]).sleep("nap", 1)
    for node, part in (("checks", "gone"), ("checks", None), ("nap", None), ("gone", None)):
        with pytest.raises(KeyError):
            order.step_of(node, part)
    with pytest.raises(KeyError):
        order.functions("gone")


def test_nodes_without_parts_of_a_name_do_not_look_at_it(order: Workflow) -> None:
    order.step(fraud).map("lines", over=choose, handler=price)
    assert order.step_of("fraud", "any").function is fraud
    assert order.step_of("lines", "17").function is price


def test_a_step_has_no_functions_beside_it(order: Workflow) -> None:
    order.step(fraud).parallel("checks", [price]).wait_for_signal("signoff")
    assert all(order.functions(node) == Functions() for node in order.steps)


def test_the_plan_is_made_once(order: Workflow, stock: Workflow) -> None:
    order.parallel("checks", [fraud, stock]).sleep("nap", choose)
    assert order.plan is order.plan


def test_a_step_may_be_given_a_compensator_in_one_workflow_only(durable: Durable) -> None:
    def reserve(ctx: Any) -> None: ...
    def release(ctx: Any) -> None: ...

    step = durable.step(reserve)
    here = durable.workflow("here").step(step, compensate=release)
    there = durable.workflow("there").step(step)
    assert here.step_of("reserve", None).compensator is release
    assert there.step_of("reserve", None).compensator is None
    with pytest.raises(InvalidWorkflow, match=r"compensate= of step .again."):
        there.step(step, name="again", compensate="release")  # type: ignore[call-overload]

"""Authoring: what a definition becomes, without a database and without a Celery app."""

import dataclasses
import importlib
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_durable import Context, Durable, RetryPolicy, Step
from celery_durable.core.nodes import Compensator, Routing, StepNode
from celery_durable.core.plan import Plan
from celery_durable.core.retry import COMPENSATOR_RETRY, STEP_RETRY
from celery_durable.errors import ConfigurationError, DuplicateWorkflow
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.step import as_step
from tests.unit.values import FixedJournal, at, claim, undoable

PATIENT = RetryPolicy(max_attempts=9)


def context(input: object = None) -> Context:
    return Context(claim(at("any"), input), FixedJournal())


def steps_of(plan: Plan) -> list[StepNode]:
    """The nodes of a workflow that has steps only."""
    return [node for node in plan.nodes if isinstance(node, StepNode)]


def only_step(workflow: Workflow) -> StepNode:
    (node,) = steps_of(workflow.plan)
    return node


def reserve(ctx: Any) -> Any:
    """Put it aside."""
    return ["reserved", ctx.input]


def release(ctx: Any) -> None:
    pass


def test_a_decorated_step_called_with_a_context_calls_the_function(durable: Durable) -> None:
    step = durable.step(reserve)
    assert step(context("A1")) == ["reserved", "A1"]


def test_a_decorated_step_looks_like_its_function(durable: Durable) -> None:
    step: Any = durable.step(reserve)
    assert (step.name, step.__name__, step.__doc__) == ("reserve", "reserve", "Put it aside.")
    assert (step.__module__, step.__wrapped__) == (reserve.__module__, reserve)
    assert repr(step) == "<step reserve>"
    assert isinstance(step, Step)


def test_attributes_of_a_function_do_not_become_the_step_s_own(durable: Durable) -> None:
    def tagged(ctx: Any) -> None:
        pass

    vars(tagged).update(name="other", options="mine", compensator="mine")
    step = durable.step(name="chosen", queue="q")(tagged)
    assert (step.name, step.options.queue, step.compensator) == ("chosen", "q", None)


def test_a_decorated_step_can_be_decorated_under_another_name(durable: Durable) -> None:
    step = durable.step(name="again", queue="q")(durable.step(reserve))
    assert (step.name, step.options.queue) == ("again", "q")
    assert step(context("A1")) == ["reserved", "A1"]


def test_the_options_of_a_step_are_in_its_plan(durable: Durable) -> None:
    step = durable.step(name="hold", retry=PATIENT, queue="stock", priority=7, transactional=True)(
        reserve
    )
    (node,) = durable.workflow("order").step(step).plan.nodes
    assert node == StepNode("hold", PATIENT, Routing("stock", 7), transactional=True)


def test_without_options_a_step_has_the_defaults(durable: Durable) -> None:
    (node,) = durable.workflow("order").step(reserve).plan.nodes
    assert node == StepNode("reserve", STEP_RETRY, Routing(None, None))


def test_a_step_that_names_no_policy_has_the_app_s_default() -> None:
    app = Celery("shop", set_as_current=False)
    app.conf.durable_default_retry = {"max_attempts": 7}
    durable = Durable(app)
    order = durable.workflow("order").step(reserve).step(reserve, name="b", retry=PATIENT)
    assert [node.retry.max_attempts for node in steps_of(order.plan)] == [7, 9]


@pytest.mark.parametrize("timeout", [90, 90.0, timedelta(minutes=1.5)])
def test_a_timeout_is_kept_in_seconds(durable: Durable, timeout: float | timedelta) -> None:
    step = durable.step(timeout=timeout)(reserve)
    step.compensate(timeout=timeout)(release)
    node = only_step(durable.workflow("order").step(step))
    assert node.routing == Routing(time_limit=90.0)
    assert type(node.routing.time_limit) is float
    assert node.compensator == Compensator(COMPENSATOR_RETRY, Routing(time_limit=90.0))


def test_a_timeout_in_one_workflow_goes_before_the_step_s_own(durable: Durable) -> None:
    step = durable.step(timeout=30)(reserve)
    order = durable.workflow("order").step(step, timeout=timedelta(seconds=5)).step(step, name="b")
    assert [node.routing.time_limit for node in steps_of(order.plan)] == [5.0, 30.0]


def test_a_step_that_names_no_timeout_has_the_app_s_default_and_its_compensator_none() -> None:
    app = Celery("shop", set_as_current=False)
    app.conf.durable_step_timeout = timedelta(minutes=1)
    durable = Durable(app)
    quick = durable.step(name="quick", timeout=5)(reserve)
    order = durable.workflow("order").step(durable.step(reserve, compensate=release)).step(quick)
    assert durable.default_timeout == 60.0
    assert [node.routing.time_limit for node in steps_of(order.plan)] == [60.0, 5.0]
    assert steps_of(order.plan)[0].compensator == Compensator(COMPENSATOR_RETRY)


def test_without_an_app_or_a_setting_there_is_no_default_timeout(durable: Durable) -> None:
    assert durable.default_timeout is None
    assert Durable(Celery("shop", set_as_current=False)).default_timeout is None


def test_a_wrong_default_timeout_is_refused_when_the_workflow_is_frozen() -> None:
    app = Celery("shop", set_as_current=False)
    durable = Durable(app)
    order = durable.workflow("order").step(reserve)
    app.conf.durable_step_timeout = "60"
    with pytest.raises(ConfigurationError, match=r"durable_step_timeout takes .* not '60'"):
        _ = order.plan
    app.conf.durable_step_timeout = 60
    assert only_step(order).routing.time_limit == 60.0


def test_a_step_may_say_that_it_suspends(durable: Durable) -> None:
    step = durable.step(suspends=True)(reserve)
    order = durable.workflow("order").step(step).step(step, name="b", suspends=False)
    order.step(release, suspends=True)
    assert [node.suspends for node in steps_of(order.plan)] == [True, False, True]


def test_a_compensator_runs_where_its_step_runs_with_a_policy_of_its_own(durable: Durable) -> None:
    step = durable.step(queue="stock", priority=7, retry=PATIENT, transactional=True)(reserve)
    assert step.compensate(release) is release
    node = only_step(durable.workflow("order").step(step))
    assert node.compensator == Compensator(COMPENSATOR_RETRY, Routing("stock", 7))


def test_a_compensator_has_options_of_its_own(durable: Durable) -> None:
    step = durable.step(queue="stock")(reserve)
    assert step.compensate(retry=PATIENT, queue="undo", transactional=True)(release) is release
    node = only_step(durable.workflow("order").step(step))
    assert node.compensator == Compensator(PATIENT, Routing("undo"), transactional=True)


def test_a_compensator_may_be_an_option_of_the_step(durable: Durable) -> None:
    step = durable.step(name="hold", compensate=release)(reserve)
    assert step.compensator is release
    assert undoable(durable.workflow("order").step(step).plan) == ("hold",)


def test_the_plan_has_the_nodes_in_order(durable: Durable) -> None:
    order = (
        durable.workflow("order", version=3)
        .step(reserve)
        .step(release)
        .step(reserve, name="again")
        .returns(release)
    )
    assert (order.name, order.version) == ("order", 3)
    assert order.steps == order.plan.names == ("reserve", "release", "again")
    assert order.plan.returns
    assert order.result_function is release
    assert repr(order) == "<workflow order v3: reserve -> release -> again>"


def test_options_given_in_one_workflow_do_not_leak_into_another(durable: Durable) -> None:
    step = durable.step(queue="stock", priority=1, compensate=release)(reserve)
    special = durable.workflow("special").step(step, name="hold", queue="vip", retry=PATIENT)
    plain = durable.workflow("plain").step(step)
    assert special.plan.nodes == (
        StepNode(
            "hold",
            PATIENT,
            Routing("vip", 1),
            compensator=Compensator(COMPENSATOR_RETRY, Routing("vip", 1)),
        ),
    )
    assert plain.plan.nodes == (
        StepNode(
            "reserve",
            STEP_RETRY,
            Routing("stock", 1),
            compensator=Compensator(COMPENSATOR_RETRY, Routing("stock", 1)),
        ),
    )
    assert (step.name, step.options.queue) == ("reserve", "stock")


@pytest.mark.parametrize("options", [{}, {"queue": "vip"}], ids=["as it is", "with options"])
def test_a_compensator_declared_after_the_step_was_placed_still_counts(
    durable: Durable, options: dict[str, Any]
) -> None:
    step = durable.step(reserve)
    order = durable.workflow("order").step(step, **options)
    step.compensate(release)
    assert undoable(order.plan) == ("reserve",)
    assert order.step_of("reserve", None).compensator is release


def send_email(to: str, *, subject: str = "") -> str:
    return f"{to}: {subject}"


def test_args_and_kwargs_call_a_plain_function_with_what_they_return() -> None:
    step = as_step(send_email, lambda ctx: (ctx.input,), lambda _ctx: {"subject": "Hi"})
    assert step.name == "send_email"
    assert step(context("ada")) == "ada: Hi"
    assert as_step(send_email, lambda _ctx: ["bob"])(context()) == "bob: "
    assert as_step(send_email, None, lambda ctx: {"to": ctx.input})(context("eve")) == "eve: "


def test_args_call_a_celery_task_and_its_step_has_the_last_part_of_its_name(
    durable: Durable,
) -> None:
    app = Celery("shop", set_as_current=False)
    task = app.task(name="shop.mail.deliver")(send_email)
    order = durable.workflow("order").step(task, args=lambda ctx: (ctx.input,), queue="mail")
    assert order.steps == ("deliver",)
    assert order.step_of("deliver", None)(context("ada")) == "ada: "
    assert only_step(order).routing == Routing("mail")


def test_args_call_a_decorated_step_s_function(durable: Durable) -> None:
    mail = durable.step(name="mail")(send_email)  # type: ignore[arg-type]
    step = as_step(mail, lambda ctx: (ctx.input,))
    assert step(context("ada")) == "ada: "


def test_defining_the_same_workflow_twice_is_fine(durable: Durable) -> None:
    first = durable.workflow("order").step(reserve)
    second = durable.workflow("order").step(reserve)
    assert durable.registry.find("order", 1) is second
    assert first.plan == second.plan
    assert list(durable.registry) == [second]


MODULE = """
from celery_durable import Durable, RetryPolicy

class CardDeclined(Exception):
    pass

def define(durable):
    @durable.step(retry=RetryPolicy(give_up_on=(CardDeclined,)))
    def charge(ctx):
        pass

    durable.workflow("order").step(charge)
"""


def test_importing_the_same_definition_twice_is_fine(
    durable: Durable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop_defined_twice.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        importlib.import_module("shop_defined_twice").define(durable)
        del sys.modules["shop_defined_twice"]
    assert durable.registry.find("order", 1) is not None


def test_two_different_workflows_of_one_name_are_refused(durable: Durable) -> None:
    durable.workflow("order").step(reserve)
    durable.workflow("order").step(release)
    with pytest.raises(DuplicateWorkflow) as told:
        durable.registry.find("order", 1)
    message = str(told.value)
    assert "'order' version 1, at " in message
    assert ": reserve and release." in message
    assert message.endswith("Give one another name, or the next version.")


def test_two_versions_live_side_by_side_and_the_highest_is_the_default(durable: Durable) -> None:
    new = durable.workflow("order", version=10).step(reserve)
    old = durable.workflow("order", version=9).step(release)
    assert durable.registry.versions("order") == (9, 10)
    assert durable.registry.find("order") is new
    assert durable.registry.find("order", 9) is old
    assert durable.registry.find("order", 1) is durable.registry.find("refund") is None
    assert durable.registry.names() == ("order",)


def test_the_registry_knows_the_queues_that_steps_and_compensators_name(durable: Durable) -> None:
    step = durable.step(queue="stock")(reserve)
    step.compensate(queue="undo")(release)
    durable.workflow("order").step(step).step(release)
    assert durable.registry.queues() == {"stock", "undo"}


def test_the_registry_knows_the_queues_within_every_kind_of_node(durable: Durable) -> None:
    def on(queue: str) -> Step:
        return durable.step(name=queue, queue=queue)(reserve)

    undone = on("case")
    undone.compensate(queue="undo of case")(release)
    child = durable.workflow("child").step(on("child"))
    (
        durable.workflow("order")
        .parallel("checks", [on("branch"), release, child])
        .map("lines", over=reserve, handler=on("item"))
        .route("rail", reserve, {"wire": undone}, default=on("default"))
        .loop("poll", on("iteration"), max_iterations=3)
        .sleep("nap", 1)
        .wait_for_signal("signoff")
        .child_workflow("fulfil", child)
    )
    assert durable.registry.queues() == {
        "branch",
        "item",
        "case",
        "undo of case",
        "default",
        "iteration",
        "child",
    }


def test_the_registry_compares_the_plans_of_twins_whatever_their_nodes(durable: Durable) -> None:
    durable.workflow("order").map("lines", over=reserve, handler=reserve)
    durable.workflow("order").map("lines", over=reserve, handler=reserve)
    assert durable.registry.find("order") is not None
    durable.workflow("order").map("lines", over=reserve, handler=reserve, chunk=2).sleep("nap", 1)
    with pytest.raises(DuplicateWorkflow, match=r": lines and lines -> nap\."):
        durable.registry.find("order")


@dataclasses.dataclass
class OrderInput:
    sku: str


def test_an_input_model_is_kept(durable: Durable) -> None:
    assert durable.workflow("order", input=OrderInput).input is OrderInput


def test_a_durable_belongs_to_one_app(durable: Durable) -> None:
    with pytest.raises(ConfigurationError, match=r"call durable\.init_app"):
        _ = durable.app
    app = Celery("shop", set_as_current=False)
    durable.init_app(app)
    durable.init_app(app)
    assert durable.app is app
    with pytest.raises(ConfigurationError, match="belongs to another Celery app already"):
        durable.init_app(Celery("other", set_as_current=False))

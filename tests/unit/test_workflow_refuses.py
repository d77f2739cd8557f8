"""Each misuse of the builder is refused when it is written, and told what to do (P12)."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from celery_durable import RetryPolicy
from celery_durable.errors import ConfigurationError, InvalidWorkflow, PayloadError
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.inputs import checked_input


def reserve(ctx: Any) -> None:
    pass


def release(ctx: Any) -> None:
    pass


STEP_OPTIONS = "it takes retry, timeout, queue, priority, transactional, suspends."
TIMEOUT = "seconds or a timedelta, above 0 and at most 100 years"

MISUSES: dict[str, tuple[Callable[[Any], object], str]] = {
    "a step's name twice": (
        lambda d: d.workflow("order").step(reserve).step(reserve),
        "Workflow 'order' has a node 'reserve' already; give this one name=.",
    ),
    "an empty workflow": (
        lambda d: d.workflow("order").plan,
        "Workflow 'order' is empty; give it a .step(...).",
    ),
    "a workflow without a name": (
        lambda d: d.workflow(""),
        "A workflow needs a name: a string that is not empty, not ''.",
    ),
    "a workflow's name of another type": (
        lambda d: d.workflow(7),
        "A workflow needs a name: a string that is not empty, not 7.",
    ),
    "a reserved workflow name": (
        lambda d: d.workflow("order#1"),
        "The workflow name 'order#1' holds a reserved character; leave out '#' and NUL.",
    ),
    "a reserved step name": (
        lambda d: d.step(name="a#compensate")(reserve),
        "The step name 'a#compensate' holds a reserved character; leave out '#' and NUL.",
    ),
    "a reserved step name in a workflow": (
        lambda d: d.workflow("order").step(reserve, name="#returns"),
        "The step name '#returns' holds a reserved character; leave out '#' and NUL.",
    ),
    "an empty step name": (
        lambda d: d.step(name="")(reserve),
        "A step needs a name: a string that is not empty, not ''.",
    ),
    "an empty step name in a workflow": (
        lambda d: d.workflow("order").step(reserve, name=""),
        "A step needs a name: a string that is not empty, not ''.",
    ),
    "a version of another type": (
        lambda d: d.workflow("order", version="2"),
        "Workflow 'order': version= takes a whole number from 1, not '2'.",
    ),
    "version 0": (
        lambda d: d.workflow("order", version=0),
        "Workflow 'order': version= takes a whole number from 1, not 0.",
    ),
    "version True": (
        lambda d: d.workflow("order", version=True),
        "Workflow 'order': version= takes a whole number from 1, not True.",
    ),
    "an input model that is none": (
        lambda d: d.workflow("order", input=dict),
        "Workflow 'order': input= takes a dataclass or a pydantic model class, not <class 'dict'>.",
    ),
    "an unknown option of a step": (
        lambda d: d.step(qeue="stock")(reserve),
        f"step has no option 'qeue'; {STEP_OPTIONS} Did you mean 'queue'?",
    ),
    "an unknown option of a step in a workflow": (
        lambda d: d.workflow("order").step(reserve, retries=3),
        f"step 'reserve' has no option 'retries'; {STEP_OPTIONS} Did you mean 'retry'?",
    ),
    "an unknown option of a compensator": (
        lambda d: d.step(reserve).compensate(transaction=True)(release),
        "it takes retry, timeout, queue, transactional. Did you mean 'transactional'?",
    ),
    "a retry that is no policy": (
        lambda d: d.step(retry=3)(reserve),
        "step: retry= takes a RetryPolicy, not 3.",
    ),
    "a queue that is no name": (
        lambda d: d.step(queue=["stock"])(reserve),
        "step: queue= takes the name of a Celery queue, of 1 to 255 characters, not ['stock'].",
    ),
    "a priority that is no number": (
        lambda d: d.step(priority="high")(reserve),
        "step: priority= takes a whole number from 0 to 255, not 'high'.",
    ),
    "a priority that is True": (
        lambda d: d.workflow("order").step(reserve, priority=True),
        "step 'reserve': priority= takes a whole number from 0 to 255, not True.",
    ),
    "transactional that is no bool": (
        lambda d: d.step(transactional=1)(reserve),
        "step: transactional= takes True or False, not 1.",
    ),
    "suspends that is no bool": (
        lambda d: d.workflow("order").step(reserve, suspends="yes"),
        "step 'reserve': suspends= takes True or False, not 'yes'.",
    ),
    "a timeout of no time": (
        lambda d: d.step(timeout=0)(reserve),
        f"step: timeout= takes {TIMEOUT}, not 0.",
    ),
    "a negative timeout": (
        lambda d: d.workflow("order").step(reserve, timeout=-1.5),
        f"step 'reserve': timeout= takes {TIMEOUT}, not -1.5.",
    ),
    "a negative timedelta": (
        lambda d: d.step(timeout=timedelta(seconds=-1))(reserve),
        f"step: timeout= takes {TIMEOUT}, not {timedelta(seconds=-1)!r}.",
    ),
    "a timeout that is True": (
        lambda d: d.step(timeout=True)(reserve),
        f"step: timeout= takes {TIMEOUT}, not True.",
    ),
    "a timeout that is no number": (
        lambda d: d.step(timeout="30")(reserve),
        f"step: timeout= takes {TIMEOUT}, not '30'.",
    ),
    "a timeout that is NaN": (
        lambda d: d.step(timeout=float("nan"))(reserve),
        f"step: timeout= takes {TIMEOUT}, not nan.",
    ),
    "a timeout for ever": (
        lambda d: d.step(timeout=float("inf"))(reserve),
        f"step: timeout= takes {TIMEOUT}, not inf.",
    ),
    "a timeout of a compensator that is none": (
        lambda d: d.step(reserve).compensate(timeout=0)(release),
        f"compensate of step 'reserve': timeout= takes {TIMEOUT}, not 0.",
    ),
    "an option of steps that a compensator has not": (
        lambda d: d.step(reserve).compensate(suspends=True)(release),
        (
            "compensate of step 'reserve' has no option 'suspends';"
            " it takes retry, timeout, queue, transactional."
        ),
    ),
    "a wrong option of a compensator": (
        lambda d: d.step(reserve).compensate(retry="often")(release),
        "compensate of step 'reserve': retry= takes a RetryPolicy, not 'often'.",
    ),
    "two compensators": (
        lambda d: d.step(compensate=release)(reserve).compensate(release),
        "Step 'reserve' has a compensator already.",
    ),
    "a compensator that is no function": (
        lambda d: d.step(compensate="release")(reserve),
        "compensate of step 'reserve' takes a function of the context, not 'release'.",
    ),
    "a handler that is no function": (
        lambda d: d.workflow("order").step("reserve"),
        "step takes a function of the context, not 'reserve'.",
    ),
    "a handler with args that is no function": (
        lambda d: d.workflow("order").step("shop.mail", args=lambda _ctx: ()),
        "step takes a function of the context, not 'shop.mail'.",
    ),
    "a name in the place of the function": (
        lambda d: d.step("reserve"),
        "step takes a function of the context, not 'reserve'.",
    ),
    "something named that is no function": (
        lambda d: d.step(7, name="seven"),
        "step takes a function of the context, not 7.",
    ),
    "args that are no function": (
        lambda d: d.workflow("order").step(print, args=(1, 2)),
        "args takes a function of the context, not (1, 2).",
    ),
    "kwargs that are no function": (
        lambda d: d.workflow("order").step(print, kwargs={"end": ""}),
        "kwargs takes a function of the context, not {'end': ''}.",
    ),
    "returns that is no function": (
        lambda d: d.workflow("order").returns({"ok": True}),
        "returns takes a function of the context, not {'ok': True}.",
    ),
    "returns twice": (
        lambda d: d.workflow("order").returns(reserve).returns(release),
        "Workflow 'order' says .returns twice.",
    ),
}


@pytest.mark.parametrize(("misuse", "told"), MISUSES.values(), ids=MISUSES.keys())
def test_a_misuse_is_refused_with_its_own_words(
    durable: Any, misuse: Callable[[Any], object], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"{re.escape(told)}$"):
        misuse(durable)


@pytest.mark.parametrize("method", ["step", "returns"])
def test_a_workflow_whose_plan_was_made_is_frozen(durable: Any, method: str) -> None:
    order = durable.workflow("order").step(reserve)
    plan = order.plan
    with pytest.raises(InvalidWorkflow, match=rf"\.{method} comes too late.* is a new version"):
        getattr(order, method)(release)
    assert order.plan is plan
    assert order.steps == ("reserve",)


def test_what_was_refused_is_not_in_the_workflow(durable: Any) -> None:
    order = durable.workflow("order").step(reserve)
    for options in ({"name": "b", "qeue": 1}, {}, {"name": "c#"}):
        with pytest.raises(ConfigurationError):
            order.step(reserve, **options)
    assert order.plan.names == ("reserve",)


def test_a_nameless_handler_is_asked_for_a_name(durable: Any) -> None:
    class Picker:
        def __call__(self, ctx: Any) -> None:
            pass

    with pytest.raises(InvalidWorkflow, match="A step needs a name"):
        durable.workflow("order").step(Picker())
    step = durable.step(Picker(), name="named")
    assert durable.workflow("order").step(step).steps == ("named",)


def test_a_policy_that_contradicts_itself_is_refused_where_it_is_written() -> None:
    with pytest.raises(ConfigurationError):
        RetryPolicy(max_attempts=0)


@dataclass
class OrderInput:
    sku: str
    count: int = 1


class OrderModel(BaseModel):
    sku: str
    count: int = 1


@pytest.fixture(params=[OrderInput, OrderModel])
def modelled(request: pytest.FixtureRequest, durable: Any) -> Workflow:
    workflow: Workflow = durable.workflow("order", input=request.param).step(reserve)
    return workflow


def test_an_input_is_taken_as_the_model_or_made_from_a_mapping(modelled: Workflow) -> None:
    model: Any = modelled.input
    assert checked_input(modelled, model(sku="A1")) == model(sku="A1")
    assert checked_input(modelled, {"sku": "A1", "count": 2}) == model(sku="A1", count=2)


@pytest.mark.parametrize("wrong", [{}, {"count": 2}, "A1", None, 7, ["sku"]])
def test_an_input_that_does_not_fit_is_refused_by_workflow_and_model(
    modelled: Workflow, wrong: object
) -> None:
    name = modelled.input.__name__
    with pytest.raises(PayloadError, match=f"^The input of workflow 'order' .* {name}"):
        checked_input(modelled, wrong)


def test_without_a_model_every_input_is_taken_as_it_is(durable: Any) -> None:
    value = object()
    assert checked_input(durable.workflow("order"), value) is value

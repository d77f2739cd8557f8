"""Tasks as steps, before a worker calls them: names, lazy tasks, what is refused at the freeze."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery, shared_task

from celery_durable import Durable, InvalidWorkflow
from celery_durable.core.nodes import MapNode, RouteNode, StepNode


def app_of(durable: Durable) -> Celery:
    app = Celery("shop", broker="memory://", set_as_current=False)
    durable.init_app(app)
    return app


def mail(to: str = "ada") -> str:
    return f"to {to}"


def needs(to: str) -> str:
    return f"to {to}"


@shared_task
def shared() -> str:
    return "shared"


def test_a_task_stays_unresolved_in_every_place_until_the_workflow_is_frozen(
    durable: Durable,
) -> None:
    app = app_of(durable)
    task: Any = app.task(name="shop.mail", shared=False)(mail)
    unnamed: Any = app.task(shared=False)(needs)
    order = (
        durable.workflow("order")
        .step(task, compensate=task)
        .step(unnamed, args=lambda ctx: (ctx.input,))
        .step(shared)
        .parallel("both", [task, durable.step_of(unnamed, args=lambda _ctx: ("eve",))])
        .map("each", over=lambda _ctx: [], handler=task)
        .route("way", lambda _ctx: "a", {"a": task}, default=task)
        .loop("again", task, max_iterations=1)
    )
    assert not task.__evaluated__()
    assert not unnamed.__evaluated__()
    assert not app.finalized
    assert order.steps == ("mail", "needs", "shared", "both", "each", "way", "again")
    step, _, _, both, each, way, _ = order.plan.nodes
    assert isinstance(step, StepNode)
    assert step.compensator is not None
    assert [body.name for body in both.bodies] == ["mail", "needs"]
    assert isinstance(each, MapNode)
    assert isinstance(way, RouteNode)
    assert task.__evaluated__()


def test_a_task_that_needs_arguments_and_gets_none_is_refused_when_the_workflow_is_frozen(
    durable: Durable,
) -> None:
    app = app_of(durable)
    order = durable.workflow("order").step(app.task(name="shop.needs", shared=False)(needs))
    words = r"shop.needs says no arguments: .*'to'.* \.step\(task, args=lambda ctx: \(\.\.\.,\)\)"
    with pytest.raises(InvalidWorkflow, match=words):
        _ = order.plan


def test_a_task_that_checks_no_arguments_is_not_asked(durable: Durable) -> None:
    app = app_of(durable)
    task = app.task(name="shop.needs", shared=False, typing=False)(needs)
    assert durable.workflow("order").step(task).plan.nodes


def test_what_is_no_function_is_refused_as_arguments(durable: Durable) -> None:
    task = app_of(durable).task(name="shop.mail", shared=False)(mail)
    wrong: Any = ("ada",)
    with pytest.raises(InvalidWorkflow, match="args= of a task takes a function of the context"):
        durable.step_of(task, args=wrong)


def test_step_of_takes_a_plain_function_too(durable: Durable) -> None:
    step = durable.step_of(mail, args=lambda ctx: (ctx,), name="letter", queue="mail")
    assert (step.name, step.options.queue, step("eve")) == ("letter", "mail", "to eve")  # type: ignore[arg-type]

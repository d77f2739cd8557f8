"""Steps of a reusable app, which knows no Durable."""

from __future__ import annotations

from typing import Unpack, overload

from celery_durable.core.generics import In, Returned
from celery_durable.durable import StepDecorator
from celery_durable.workflow.builder import OfContext
from celery_durable.workflow.step import Handler, Step, StepOptions, made_step


@overload
def shared_step(
    function: OfContext[In, Returned], *, name: str | None = None, **options: Unpack[StepOptions]
) -> Step[In, Returned]: ...


@overload
def shared_step(
    function: None = None, *, name: str | None = None, **options: Unpack[StepOptions]
) -> StepDecorator: ...


def shared_step(
    function: Handler | None = None,
    *,
    name: str | None = None,
    **options: Unpack[StepOptions],
) -> Step | StepDecorator:
    """Decorator: make a step in an app that any project may install; see `Durable.step`.

    A project puts it into a workflow of its own, `durable.workflow("order").step(reserve)`. Where
    `retry` or `timeout` is left out, the default of that project holds. Raises `InvalidWorkflow` or
    `ConfigurationError`.
    """
    return made_step(function, name=name, **options)

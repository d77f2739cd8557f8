"""Running user code: a claim in, an event out."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from celery_durable.core.child import Child
from celery_durable.core.claim import Claim
from celery_durable.core.event import (
    ChildRequested,
    Event,
    Iteration,
    Succeeded,
    Suspended,
)
from celery_durable.core.names import RETURNS
from celery_durable.core.nodes import ChildNode, LoopNode, MapNode, RouteNode, SleepNode, StepNode
from celery_durable.core.units import unit_of
from celery_durable.errors import DatabaseUnavailable
from celery_durable.process import interrupts
from celery_durable.workflow import forks, loops, node_results
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.context import Context
from celery_durable.workflow.failures import failure_of, of_handler_only
from celery_durable.workflow.step import Handler
from celery_durable.workflow.suspend import suspension


@dataclass(frozen=True, slots=True)
class Execution:
    """What happened, and the exception behind it for the log.

    `input` is JSON text of what `map_input` made for a loop's first iteration: the token keeps it.
    """

    event: Event
    exception: BaseException | None = None
    input: str | None = None


class _NotTheStep(Exception):
    """A function between steps failed, so the step's retry policy has no say in it."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.cause = cause


class NewChild(Protocol):
    """How a child run is made ready to start, or in a rollback to be undone."""

    def __call__(self, claim: Claim, child: ChildNode, input: str | None) -> Child:
        """`input` is JSON text; None is the parent run's."""
        ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What executing needs of the engine. `encode` makes JSON text of a value, or refuses it."""

    encode: Callable[[object, str], str]
    spawn: NewChild
    timeouts: tuple[type[BaseException], ...] = ()
    """What is raised in a handler whose time limit has passed."""
    is_exit: Callable[[BaseException], bool] = lambda _: False
    """Whether the process has to exit: all else that a handler raises is the handler's failure."""


def execute(workflow: Workflow, claim: Claim, context: Context, tools: Tools) -> Execution:
    """Call the unit's function. Whatever it does is an event, also a result without JSON form.

    What it sets of context variables is gone after it.
    """
    return contextvars.copy_context().run(_guarded, workflow, claim, context, tools)


def _guarded(workflow: Workflow, claim: Claim, context: Context, tools: Tools) -> Execution:
    try:
        return _execute(workflow, claim, context, tools)
    except DatabaseUnavailable as error:
        is_tried_once = not isinstance(unit_of(workflow.plan, claim.token).body, StepNode)
        if error.is_given_up and is_tried_once:
            raise  # it must not fail because our own database is away
        return Execution(failure_of(workflow, claim, error), of_handler_only(error))
    except _NotTheStep as error:
        failed = failure_of(workflow, claim, error.cause, tools.timeouts)
        return Execution(replace(failed, may_retry=False), of_handler_only(error.cause))
    except BaseException as error:
        if tools.is_exit(error):
            raise
        failed = failure_of(workflow, claim, error, tools.timeouts)
        return Execution(failed, of_handler_only(error))


def _execute(workflow: Workflow, claim: Claim, context: Context, tools: Tools) -> Execution:
    token = claim.token
    if token.unit == RETURNS:
        assert workflow.result_function is not None
        return _finished(workflow, claim, context, workflow.result_function, tools)
    unit = unit_of(workflow.plan, token)
    body = unit.body
    if body is None:
        return Execution(_between(workflow, claim, context, tools))
    if isinstance(body, ChildNode):
        return _child_requested(workflow, claim, context, body, tools)
    step = workflow.step_of(token.node, token.part)
    if token.rollback is not None:
        assert step.compensator is not None, token
        return _finished(workflow, claim, context, step.compensator, tools)
    is_loop = isinstance(unit.node, LoopNode)
    given = _first_input(workflow, claim, context, tools) if is_loop else token.input
    return _finished(workflow, claim, context, step.function, tools, body=body, given=given)


def _between(workflow: Workflow, claim: Claim, context: Context, tools: Tools) -> Event:
    """A node's own function: its items, its choice, its time."""
    node = workflow.plan.find(claim.token.node)
    functions = workflow.functions(claim.token.node)
    match node:
        case MapNode():
            assert functions.over is not None
            items = node_results.items(node, call(functions.over, context), tools.encode)
            return node_results.listed(items, claim)
        case RouteNode():
            assert functions.selector is not None
            answer = call(functions.selector, context)
            return node_results.chosen(node, answer, claim, tools.encode)
        case SleepNode():
            made = functions.duration
            duration = node.seconds if made is None else call(made, context)
            return node_results.slept(node, duration, claim)
        case _:
            raise AssertionError(claim.token)


def _finished(
    workflow: Workflow,
    claim: Claim,
    context: Context,
    function: Handler,
    tools: Tools,
    *,
    body: StepNode | None = None,
    given: str | None = None,
) -> Execution:
    """Call a handler and take what it returns."""
    unit = claim.token.unit
    result = call(function, context)
    asked = suspension(result, suspends=body is not None and body.suspends)
    if asked is not None:
        if body is None:
            raise TypeError(f"{unit} returned a Suspend; only a step may suspend.")
        snapshot = tools.encode(asked.snapshot, f"the snapshot of {unit}")
        suspended = Suspended(snapshot, claim.seen_at, asked.signal, asked.seconds)
        return Execution(suspended, input=given)
    text = tools.encode(result, f"the result of {unit}")
    iteration = None if body is None else iterate(workflow, claim, lambda: result, given, tools)
    return Execution(Succeeded(text, claim.seen_at, iteration=iteration), input=given)


def _child_requested(
    workflow: Workflow, claim: Claim, context: Context, child: ChildNode, tools: Tools
) -> Execution:
    """Make the child ready; on the way back, have it undone."""
    text = claim.token.input
    given = None
    if claim.token.rollback is None:
        if isinstance(workflow.plan.find(claim.token.node), LoopNode):
            text = given = _first_input(workflow, claim, context, tools)
        elif (make := workflow.functions(claim.token.node).map_input) is not None:
            text = tools.encode(call(make, context), f"the input of {child.workflow}")
    return Execution(ChildRequested(tools.spawn(claim, child, text), claim.seen_at), input=given)


def _first_input(workflow: Workflow, claim: Claim, context: Context, tools: Tools) -> str | None:
    """The input of a loop's iteration: of the first one, what `map_input` makes."""
    token = claim.token
    if token.input is not None or not isinstance(workflow.plan.find(token.node), LoopNode):
        return token.input
    make = workflow.functions(token.node).map_input
    if make is None:
        return None
    try:
        given = call(make, context)
        text = tools.encode(given, f"the input of {token.unit}")
    except BaseException as error:
        if tools.is_exit(error):
            raise
        raise _NotTheStep(error) from error
    context.item = given
    return text


def iterate(
    workflow: Workflow,
    claim: Claim,
    result: Callable[[], object],
    given: str | None,
    tools: Tools,
) -> Iteration | None:
    """Ask a loop's functions whether the iteration was the last; `result` gives its result.

    `given` is the iteration's input, JSON text, which the next one has too where there is no
    `feedback`. None where the unit is no iteration. What the functions raise fails the node.
    """
    node = workflow.plan.find(claim.token.node)
    if not isinstance(node, LoopNode) or claim.token.rollback is not None:
        return None
    functions = workflow.functions(node.name)
    done = (claim.token.position or 0) + 1
    what = f"{claim.run.workflow}.{node.name}"

    def asked_of(function: Callable[[], Any]) -> Any:
        try:
            return _called(function, what)
        except DatabaseUnavailable as error:
            raise _NotTheStep(error) from error  # some database of the function's own

    def asked() -> Iteration:
        value = result()
        if functions.until is not None and asked_of(partial(functions.until, value, done)):
            return Iteration(is_done=True)
        if functions.feedback is not None:
            fed = asked_of(partial(functions.feedback, value))
            return Iteration(next_input=tools.encode(fed, f"the feedback of {claim.token.unit}"))
        return Iteration(next_input=given)

    try:
        return contextvars.copy_context().run(asked)
    except DatabaseUnavailable:
        raise
    except BaseException as error:
        if tools.is_exit(error):
            raise
        cause = error.cause if isinstance(error, _NotTheStep) else error
        failed = failure_of(workflow, claim, cause, tools.timeouts)
        return Iteration(error=replace(failed.error, unit=node.name))


def call(function: Callable[[Any], Any], context: Context) -> Any:
    """What a plain or async function of the context returns."""
    return _called(partial(function, context), f"{context.workflow}.{context.unit}")


def _called(function: Callable[[], Any], what: str) -> Any:
    """Call something of the user's, which is where its time limit strikes."""

    def to_the_end() -> Any:
        result = function()
        return loops.run(result, what) if inspect.iscoroutine(result) else result

    with forks.ended_with_their_function(what):
        return interrupts.in_handler(to_the_end)

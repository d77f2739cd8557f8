"""Executes a claimed unit: calls the user's functions and returns what happened as an event."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable
from dataclasses import replace
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
from celery_durable.core.values import value
from celery_durable.errors import DatabaseUnavailable
from celery_durable.process import interrupts
from celery_durable.workflow import forks, loops, node_results
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.context import Context
from celery_durable.workflow.failures import failure_of, without_engine_frames
from celery_durable.workflow.step import Handler
from celery_durable.workflow.suspend import Suspend, suspension


@value(frozen=True, slots=True)
class Execution:
    """The event of a unit, and the exception behind it for the log.

    `input`, JSON text, is what `map_input` made for a loop's first iteration: the token keeps it.
    """

    event: Event
    exception: BaseException | None = None
    input: str | None = None


class _NodeFunctionFailed(Exception):
    """A function of the node raised, and not its step: the step's retry policy does not apply."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.cause = cause


class NewChild(Protocol):
    """Makes a child run ready to start, or in a rollback ready to be rolled back."""

    def __call__(self, claim: Claim, child: ChildNode, input: str | None) -> Child:
        """`input` is JSON text; None stands for the parent run's input."""
        ...


@value(frozen=True, slots=True)
class Tools:
    """What `execute` needs of the engine. `encode` makes JSON text of a value or raises."""

    encode: Callable[[object, str], str]
    new_child: NewChild
    timeouts: tuple[type[BaseException], ...] = ()
    """The exceptions that a pool raises in a handler whose time limit has passed."""
    is_exit: Callable[[BaseException], bool] = lambda _: False
    """Returns True if the process has to exit; any other exception is the handler's failure."""


def execute(workflow: Workflow, claim: Claim, context: Context, tools: Tools) -> Execution:
    """Call the function of the claimed unit, and return what happened as an event.

    A result without JSON form is an event too: a failure. Context variables that the function sets
    are gone afterwards. Raises only if the process has to exit, or if our own database stays away.
    """
    return contextvars.copy_context().run(_guarded, workflow, claim, context, tools)


def _guarded(workflow: Workflow, claim: Claim, context: Context, tools: Tools) -> Execution:
    """Execute the unit; an exception is its failure, unless the process has to exit."""
    try:
        return _execute(workflow, claim, context, tools)
    except DatabaseUnavailable as error:
        is_tried_once = not isinstance(unit_of(workflow.plan, claim.token).body, StepNode)
        if error.is_given_up and is_tried_once:
            raise  # it must not fail because our own database is away
        return Execution(failure_of(workflow, claim, error), without_engine_frames(error))
    except _NodeFunctionFailed as error:
        failed = failure_of(workflow, claim, error.cause, tools.timeouts)
        return Execution(replace(failed, may_retry=False), without_engine_frames(error.cause))
    except BaseException as error:
        if tools.is_exit(error):
            raise
        failed = failure_of(workflow, claim, error, tools.timeouts)
        return Execution(failed, without_engine_frames(error))


def _execute(workflow: Workflow, claim: Claim, context: Context, tools: Tools) -> Execution:
    token = claim.token
    if token.unit == RETURNS:
        assert workflow.result_function is not None
        return _call_handler(workflow.result_function, claim, context, tools)
    body = unit_of(workflow.plan, token).body
    if body is None:
        return Execution(_call_own_function(workflow, claim, context, tools))
    if isinstance(body, ChildNode):
        return _request_child(workflow, claim, context, tools, body)
    if token.rollback is None:
        return _call_step(workflow, claim, context, tools, body)
    compensator = workflow.step_of(token.node, token.part).compensator
    assert compensator is not None, token
    return _call_handler(compensator, claim, context, tools)


def _call_own_function(workflow: Workflow, claim: Claim, context: Context, tools: Tools) -> Event:
    """Call the function of a map, a route or a sleep: it lists, chooses, or says how long."""
    node = workflow.plan.find(claim.token.node)
    functions = workflow.functions(claim.token.node)
    match node:
        case MapNode():
            assert functions.over is not None
            answer = _call(functions.over, context)
            return node_results.listed_event(node, answer, claim, tools.encode)
        case RouteNode():
            assert functions.selector is not None
            answer = _call(functions.selector, context)
            return node_results.chosen_event(node, answer, claim, tools.encode)
        case SleepNode():
            find_duration = functions.duration
            duration = node.seconds if find_duration is None else _call(find_duration, context)
            return node_results.sleep_event(node, duration, claim)
        case _:
            raise AssertionError(claim.token)


def _request_child(
    workflow: Workflow, claim: Claim, context: Context, tools: Tools, child: ChildNode
) -> Execution:
    """Make the child run ready to start; in a rollback, ready to be rolled back."""
    token = claim.token
    if token.rollback is not None:
        return Execution(_child_requested(claim, tools, child, token.input))
    if isinstance(workflow.plan.find(token.node), LoopNode):
        text = _iteration_input(workflow, claim, context, tools)
        return Execution(_child_requested(claim, tools, child, text), input=text)
    map_input = workflow.functions(token.node).map_input
    if map_input is None:
        return Execution(_child_requested(claim, tools, child, token.input))
    text = tools.encode(_call(map_input, context), f"the input of {child.workflow}")
    return Execution(_child_requested(claim, tools, child, text))


def _child_requested(
    claim: Claim, tools: Tools, child: ChildNode, input: str | None
) -> ChildRequested:
    return ChildRequested(tools.new_child(claim, child, input), claim.seen_at)


def _call_step(
    workflow: Workflow, claim: Claim, context: Context, tools: Tools, node: StepNode
) -> Execution:
    """Call a step; in a loop, call `map_input` before it, and `until` and `feedback` after it."""
    token = claim.token
    unit_input, iteration = token.input, None
    is_iteration = isinstance(workflow.plan.find(token.node), LoopNode)
    if is_iteration:
        unit_input = _iteration_input(workflow, claim, context, tools)
    result = _call(workflow.step_of(token.node, token.part).function, context)
    suspend = suspension(result, suspends=node.suspends)
    if suspend is not None:
        return Execution(_suspended(suspend, claim, tools), input=unit_input)
    text = tools.encode(result, f"the result of {token.unit}")
    if is_iteration:
        iteration = call_until_and_feedback(workflow, claim, lambda: result, unit_input, tools)
    return Execution(Succeeded(text, claim.seen_at, iteration=iteration), input=unit_input)


def _suspended(suspend: Suspend, claim: Claim, tools: Tools) -> Suspended:
    snapshot = tools.encode(suspend.snapshot, f"the snapshot of {claim.token.unit}")
    return Suspended(snapshot, claim.seen_at, suspend.signal, suspend.seconds)


def _call_handler(function: Handler, claim: Claim, context: Context, tools: Tools) -> Execution:
    """Call a compensator, or the function of `.returns`."""
    unit = claim.token.unit
    result = _call(function, context)
    if isinstance(result, Suspend):
        raise TypeError(f"{unit} returned a Suspend; only a step may suspend.")
    text = tools.encode(result, f"the result of {unit}")
    return Execution(Succeeded(text, claim.seen_at))


def _iteration_input(
    workflow: Workflow, claim: Claim, context: Context, tools: Tools
) -> str | None:
    """Return the input of a loop's iteration, JSON text: `map_input` makes the first one's."""
    token = claim.token
    map_input = workflow.functions(token.node).map_input
    if token.input is not None or map_input is None:
        return token.input
    try:
        item = _call(map_input, context)
        text = tools.encode(item, f"the input of {token.unit}")
    except BaseException as error:
        if tools.is_exit(error):
            raise
        raise _NodeFunctionFailed(error) from error
    context.item = item
    return text


def call_until_and_feedback(
    workflow: Workflow,
    claim: Claim,
    read_result: Callable[[], object],
    input: str | None,
    tools: Tools,
) -> Iteration | None:
    """Call the loop's functions after an iteration; None if the unit is no iteration.

    `read_result` returns the iteration's result. `input` is its input, JSON text: the next
    iteration has the same if the loop has no `feedback`. An exception in here fails the node.
    """
    node = workflow.plan.find(claim.token.node)
    if not isinstance(node, LoopNode) or claim.token.rollback is not None:
        return None
    functions = workflow.functions(node.name)
    iterations_done = (claim.token.position or 0) + 1
    name = f"{claim.run.workflow}.{node.name}"

    def call(function: Callable[[], Any]) -> Any:
        try:
            return _run_to_end(function, name)
        except DatabaseUnavailable as error:
            raise _NodeFunctionFailed(error) from error  # some database of the function's own

    def after_iteration() -> Iteration:
        result = read_result()
        if functions.until is not None and call(partial(functions.until, result, iterations_done)):
            return Iteration(is_done=True)
        if functions.feedback is None:
            return Iteration(next_input=input)
        item = call(partial(functions.feedback, result))
        return Iteration(next_input=tools.encode(item, f"the feedback of {claim.token.unit}"))

    try:
        return contextvars.copy_context().run(after_iteration)
    except DatabaseUnavailable:
        raise
    except BaseException as error:
        if tools.is_exit(error):
            raise
        cause = error.cause if isinstance(error, _NodeFunctionFailed) else error
        failed = failure_of(workflow, claim, cause, tools.timeouts)
        return Iteration(error=replace(failed.error, unit=node.name))


def _call(function: Handler, context: Context) -> Any:
    """Return what a function of the context returns, plain or async."""
    return _run_to_end(partial(function, context), f"{context.workflow}.{context.unit}")


def _run_to_end(function: Callable[[], Any], name: str) -> Any:
    """Call a function of the user's, which is the only place where its time limit strikes."""

    def call() -> Any:
        result = function()
        return loops.run(result, name) if inspect.iscoroutine(result) else result

    return forks.ending_others(partial(interrupts.in_handler, call), name)

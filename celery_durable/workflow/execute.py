"""Executes a claimed unit: calls the user's functions and returns what happened as an event."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from celery_durable.arguments import names_of
from celery_durable.core.child import Child
from celery_durable.core.claim import Claim
from celery_durable.core.event import (
    ChildRequested,
    Event,
    Iteration,
    Succeeded,
    Suspended,
)
from celery_durable.core.message import TaskMessage
from celery_durable.core.names import RETURNS
from celery_durable.core.nodes import (
    ChildNode,
    LoopNode,
    MapNode,
    RouteNode,
    SignalNode,
    SleepNode,
    StepNode,
)
from celery_durable.core.units import unit_of
from celery_durable.core.values import value
from celery_durable.errors import DatabaseUnavailable
from celery_durable.process import interrupts
from celery_durable.workflow import forks, loops, node_results
from celery_durable.workflow.around import Around, inside
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.callbacks import cannot_link
from celery_durable.workflow.context import Context
from celery_durable.workflow.failures import failure_of, without_engine_frames
from celery_durable.workflow.inputs import checked_input
from celery_durable.workflow.logs import executing
from celery_durable.workflow.sending import Compose, cannot_compose
from celery_durable.workflow.step import Attempting, Handler
from celery_durable.workflow.suspend import Suspend, suspension


@value(frozen=True, slots=True)
class Execution:
    """The event of a unit, and the exception behind it for the log.

    `input`, JSON text, is what `map_input` made for a loop's first iteration: the token keeps it.
    `sends` are the tasks that the handler has sent, if what it did is kept.
    """

    event: Event
    exception: BaseException | None = None
    input: str | None = None
    sends: tuple[TaskMessage, ...] = ()


INSTANCE = '{"__type__":'
"""How the input of a run begins that was checked at the start.

SQL, and a process that does not import the workflow, cannot check it.
"""


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
    compose: Compose = cannot_compose
    link: Callable[..., str] = cannot_link
    around_units: Callable[[], None] | None = None
    """Called before and after each unit, in its thread."""
    around: Sequence[Around] = ()
    """The context managers that a unit is executed in, the first of them outermost."""


def execute(workflow: Workflow, claim: Claim, context: Context, tools: Tools) -> Execution:
    """Call the function of the claimed unit, and return what happened as an event.

    A result without JSON form is an event too: a failure. Context variables that the function sets
    are gone afterwards. Raises only if the process has to exit, or if our own database stays away.
    """
    before_and_after = tools.around_units
    if before_and_after is not None:
        before_and_after()
    try:
        return contextvars.copy_context().run(_guarded, workflow, claim, context, tools)
    finally:
        if before_and_after is not None:
            before_and_after()


def _guarded(workflow: Workflow, claim: Claim, context: Context, tools: Tools) -> Execution:
    """Execute the unit; an exception is its failure, unless the process has to exit."""
    executing.set(claim)
    context._link = partial(tools.link, workflow, claim)  # noqa: SLF001 - it is not for handlers
    try:
        if tools.around:
            return _execute_inside(workflow, claim, context, tools)
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


def _execute_inside(workflow: Workflow, claim: Claim, context: Context, tools: Tools) -> Execution:
    """Execute the unit inside of what `durable.around` has registered, which sees what it raises.

    It sees the exception itself, also where that fails the node.
    """
    failed: _NodeFunctionFailed | None = None
    try:
        with inside(tools.around, context, f"{context.workflow}.{context.unit}"):
            try:
                return _execute(workflow, claim, context, tools)
            except _NodeFunctionFailed as error:
                failed = error
            raise failed.cause  # noqa: TRY301 - through the context managers
    except BaseException as error:
        if failed is None:
            raise
        raise _NodeFunctionFailed(error) from error


def _execute(workflow: Workflow, claim: Claim, context: Context, tools: Tools) -> Execution:
    token = claim.token
    if workflow.input is not None and not claim.run.input.startswith(INSTANCE):
        context.input = checked_input(workflow, context.input)
    if token.unit == RETURNS:
        assert workflow.result_function is not None
        return _call_handler(workflow, workflow.result_function, claim, context, tools)
    body = unit_of(workflow.plan, token).body
    if body is None:
        return Execution(_call_own_function(workflow, claim, context, tools))
    if isinstance(body, ChildNode):
        return _request_child(workflow, claim, context, tools, body)
    if token.rollback is None:
        return _call_step(workflow, claim, context, tools, body)
    compensator = workflow.step_of(token.node, token.part).compensator
    assert compensator is not None, token
    context._compose = tools.compose  # noqa: SLF001 - not for handlers
    try:
        return _call_handler(workflow, compensator, claim, context, tools)
    finally:
        context._compose = None  # noqa: SLF001


def _call_own_function(workflow: Workflow, claim: Claim, context: Context, tools: Tools) -> Event:
    """Call the function of a node: it lists, chooses, or says how long or who may answer."""
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
        case SignalNode():
            assert functions.assignees is not None
            return node_results.arrived_event(node, _call(functions.assignees, context))
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
    function = workflow.step_of(token.node, token.part).function
    context._compose = tools.compose  # noqa: SLF001 - not for handlers
    try:
        result = _call_unit(workflow, claim, function, context)
    finally:
        context._compose = None  # noqa: SLF001
    sends = context._sends  # noqa: SLF001
    suspend = suspension(result, suspends=node.suspends)
    if suspend is not None:
        return Execution(_suspended(suspend, claim, tools), input=unit_input, sends=tuple(sends))
    text = tools.encode(result, f"the result of {token.unit}")
    if is_iteration:
        iteration = call_until_and_feedback(workflow, claim, lambda: result, unit_input, tools)
    succeeded = Succeeded(text, claim.seen_at, iteration=iteration)
    return Execution(succeeded, input=unit_input, sends=tuple(sends))


def _suspended(suspend: Suspend, claim: Claim, tools: Tools) -> Suspended:
    snapshot = tools.encode(suspend.snapshot, f"the snapshot of {claim.token.unit}")
    names = names_of(suspend.assignees)
    return Suspended(snapshot, claim.seen_at, suspend.signal, suspend.seconds, names)


def _call_handler(
    workflow: Workflow, function: Handler, claim: Claim, context: Context, tools: Tools
) -> Execution:
    """Call a compensator, or the function of `.returns`, which can send nothing."""
    unit = claim.token.unit
    result = _call_unit(workflow, claim, function, context)
    if isinstance(result, Suspend):
        raise TypeError(f"{unit} returned a Suspend; only a step may suspend.")
    text = tools.encode(result, f"the result of {unit}")
    return Execution(Succeeded(text, claim.seen_at), sends=tuple(context._sends))  # noqa: SLF001


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
    *,
    context: Context | None = None,
) -> Iteration | None:
    """Call the loop's functions after an iteration; None if the unit is no iteration.

    `read_result` returns the iteration's result. `input` is its input, JSON text: the next
    iteration has the same if the loop has no `feedback`. An exception in here fails the node. With
    a `context` they are called inside of what `durable.around` has registered.
    """
    node = workflow.plan.find(claim.token.node)
    if not isinstance(node, LoopNode) or claim.token.rollback is not None:
        return None

    def ask() -> Iteration:
        executing.set(claim)
        if context is None or not tools.around:
            return _until_and_feedback(workflow, claim, read_result(), input, tools)
        with inside(tools.around, context, f"{claim.run.workflow}.{node.name}"):
            return _until_and_feedback(workflow, claim, read_result(), input, tools)

    try:
        return contextvars.copy_context().run(ask)
    except DatabaseUnavailable:
        raise
    except BaseException as error:
        if tools.is_exit(error):
            raise
        cause = error.cause if isinstance(error, _NodeFunctionFailed) else error
        failed = failure_of(workflow, claim, cause, tools.timeouts)
        return Iteration(error=replace(failed.error, unit=node.name))


def _until_and_feedback(
    workflow: Workflow, claim: Claim, result: object, input: str | None, tools: Tools
) -> Iteration:
    """Ask whether the loop is done, and if not with what it goes on."""
    functions = workflow.functions(claim.token.node)
    iterations_done = (claim.token.position or 0) + 1

    def call(function: Callable[[], Any]) -> Any:
        try:
            return _run_to_end(function, f"{claim.run.workflow}.{claim.token.node}")
        except DatabaseUnavailable as error:
            raise _NodeFunctionFailed(error) from error  # some database of the function's own

    if functions.until is not None and call(partial(functions.until, result, iterations_done)):
        return Iteration(is_done=True)
    if functions.feedback is None:
        return Iteration(next_input=input)
    item = call(partial(functions.feedback, result))
    return Iteration(next_input=tools.encode(item, f"the feedback of {claim.token.unit}"))


def call_after_iteration(
    workflow: Workflow,
    claim: Claim,
    context: Context,
    read_result: Callable[[], object],
    tools: Tools,
) -> Iteration | None:
    """Call the loop's functions after an iteration that has executed nothing here: a child run.

    They are called as a unit is executed.
    """
    before_and_after = tools.around_units or (lambda: None)
    before_and_after()
    try:
        return call_until_and_feedback(
            workflow, claim, read_result, claim.token.input, tools, context=context
        )
    finally:
        before_and_after()


def _call_unit(workflow: Workflow, claim: Claim, function: Handler, context: Context) -> Any:
    """Return what a step or a compensator returns."""
    if isinstance(function, Attempting):
        policy = unit_of(workflow.plan, claim.token).retry
        function = partial(function.attempt, claim=claim, policy=policy)
    return _call(function, context)


def _call(function: Handler, context: Context) -> Any:
    """Return what a function of the context returns, plain or async."""
    return _run_to_end(partial(function, context), f"{context.workflow}.{context.unit}")


def _run_to_end(function: Callable[[], Any], name: str) -> Any:
    """Call a function of the user's, which is the only place where its time limit strikes."""

    def call() -> Any:
        result = function()
        return loops.run(result, name) if inspect.iscoroutine(result) else result

    return forks.ending_others(partial(interrupts.in_handler, call), name)

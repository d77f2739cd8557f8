"""Makes a workflow of a canvas: `durable.from_canvas("order", chain(...))`.

A call is a step. A group is a `parallel`, whose branches are steps or, where a member is more than
one call, workflows of their own that run as children. What is mapped is a `map`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

from celery_durable.errors import InvalidWorkflow
from celery_durable.ordinary.canvas import Call, Each, Group, Part
from celery_durable.ordinary.task_steps import step_of_task
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.step import Handler, Step

Leading = Callable[[Any], Sequence[Any]]
"""A function of the context that returns what the part before hands on: one value, or none."""

Define = Callable[[str], Workflow]
"""Begins a workflow of this name."""


def build(workflow: Workflow, parts: Sequence[Part], define: Define) -> Workflow:
    """Append the nodes of a canvas; the run's result is that of the last one."""
    return _build(workflow, parts, _input, define)


def _build(workflow: Workflow, parts: Sequence[Part], leading: Leading, define: Define) -> Workflow:
    for part in parts:
        match part:
            case Call():
                leading = _append_call(workflow, part, leading)
            case Each():
                leading = _append_each(workflow, part)
            case Group():
                leading = _append_group(workflow, part, leading, define)
    return workflow.returns(partial(_only, leading))


def _append_call(workflow: Workflow, call: Call, leading: Leading) -> Leading:
    if call.wait is not None:
        workflow.sleep(_free("wait", workflow.steps), call.wait)
    name = _free(call.name, workflow.steps)
    workflow.step(_step(call, name, leading))
    return partial(_result, name)


def _append_each(workflow: Workflow, each: Each) -> Leading:
    name = _free(each.name, workflow.steps)
    args: Handler = _item_as_arguments if each.is_star else _item_as_argument
    workflow.map(
        name,
        over=partial(_items, each.items),
        handler=_task_step(each.task, args, None, name),
        max_concurrency=None if each.size else 1,
        chunk=each.size or 1,
    )
    return partial(_result, name) if each.size is None else partial(_chunks, name, each.size)


def _append_group(workflow: Workflow, group: Group, leading: Leading, define: Define) -> Leading:
    node = _free("group", workflow.steps)
    branches: dict[str, Step | Workflow] = {}
    for member in group.members:
        match member:
            case (Call(wait=None) as call,):
                name = _free(call.name, branches)
                branches[name] = _step(call, name, leading)
            case _:
                name = _free(_name_of(member[0]), branches)
                child = define(f"{workflow.name}.{node}.{name}")
                branches[name] = _build(child, member, _input_of_child, define)
    if not branches:
        raise InvalidWorkflow(f"Workflow {workflow.name!r}: a group of its canvas is empty.")
    has_children = any(isinstance(branch, Workflow) for branch in branches.values())
    workflow.parallel(node, branches, map_input=leading if has_children else None)
    return partial(_results, node, tuple(branches))


def _step(call: Call, name: str, leading: Leading) -> Step:
    args = partial(_arguments, () if call.is_immutable else leading, call.args)
    kwargs = partial(_keywords, call.kwargs)
    return _task_step(call.task, args, kwargs, name).with_options(name, call.options)


def _task_step(task: Any, args: Handler, kwargs: Handler | None, name: str) -> Step:
    step = step_of_task(task, args, kwargs, name)
    assert step is not None, task
    return step


def _name_of(part: Part) -> str:
    return "group" if isinstance(part, Group) else part.name


def _free(name: str, taken: Sequence[str] | Mapping[str, Any]) -> str:
    """Return the name, or the first of `name-2`, `name-3`, ... that is not taken."""
    number = 1
    found = name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found


def _input(context: Any) -> Sequence[Any]:
    """The input of a run that somebody has started; None is no argument."""
    return () if context.input is None else (context.input,)


def _input_of_child(context: Any) -> Sequence[Any]:
    arguments: Sequence[Any] = context.input
    return arguments


def _result(node: str, context: Any) -> Sequence[Any]:
    return (context.results[node],)


def _results(node: str, branches: Sequence[str], context: Any) -> Sequence[Any]:
    found = context.results[node]
    return ([found[branch] for branch in branches],)


def _chunks(node: str, size: int, context: Any) -> Sequence[Any]:
    found = context.results[node]
    return ([found[at : at + size] for at in range(0, len(found), size)],)


def _only(leading: Leading, context: Any) -> Any:
    (value,) = leading(context)
    return value


def _arguments(leading: Leading | tuple[()], args: Sequence[Any], context: Any) -> Sequence[Any]:
    before = leading(context) if callable(leading) else ()
    return (*before, *deepcopy(args))  # each call gets its own, as each message would


def _keywords(kwargs: Mapping[str, Any], _context: Any) -> Mapping[str, Any]:
    return deepcopy(kwargs)


def _items(items: Sequence[Any], _context: Any) -> Sequence[Any]:
    return items


def _item_as_argument(context: Any) -> Sequence[Any]:
    return (context.item,)


def _item_as_arguments(context: Any) -> Sequence[Any]:
    arguments: Sequence[Any] = context.item
    return arguments

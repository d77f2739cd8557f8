"""A node as users define it: what the plan's node is made of, and the callables that belong to it.

`node_kinds` makes a `NodeDefinition` for each call of the builder. The plan's node is made when the
workflow is frozen: until then a step may still get its compensator, and the app its defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from celery_durable.core.names import compensation_of, subunit_of
from celery_durable.core.nodes import Body, ChildNode, Node
from celery_durable.core.retry import RetryPolicy
from celery_durable.workflow.options import Options
from celery_durable.workflow.step import Handler, Step, adopted, checked_handler, user_functions

STEP_WORDS = "a step, a function of the context or a workflow"


class AnyWorkflow:
    """The base of `Workflow`: what others have to know of one, such as a node that runs it."""

    name: str
    version: int
    input: Any
    """The model of its inputs; None without one."""


@dataclass(frozen=True, slots=True)
class Functions:
    """A node's own callables, which are no steps; None for those it does not have.

    All take the context, except `until(result, iterations_done)` and `feedback(result)`.
    """

    over: Handler | None = None
    selector: Handler | None = None
    until: Callable[[Any, int], Any] | None = None
    feedback: Handler | None = None
    map_input: Handler | None = None
    duration: Handler | None = None
    assignees: Handler | None = None


@dataclass(frozen=True, slots=True)
class StepDefaults:
    """The retry policy and the timeout, in seconds, of steps that name none."""

    retry: RetryPolicy
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Awaited:
    """A signal that a node waits for, and the model that its data must fit; None: any data does."""

    signal: str
    model: type | None = None


Part = Step | ChildNode
"""What a body of a node is made of: a step, or a workflow that runs as a child."""


@dataclass(frozen=True, slots=True)
class NodeDefinition:
    """A node as a user has defined it.

    The keys of `parts` are the names of branches or cases; other nodes have one part, with the key
    None. `make_node` takes their bodies, in this order. `awaits` is the signal that it waits for.
    """

    name: str
    make_node: Callable[[tuple[Body, ...]], Node]
    parts: Mapping[str | None, Part]
    functions: Functions = Functions()
    awaits: Awaited | None = None

    def for_plan(self, defaults: StepDefaults) -> Node:
        """Return the node for the plan."""
        bodies = (_body(part, name, defaults) for name, part in self.parts.items())
        return self.make_node(tuple(bodies))

    @property
    def callables(self) -> Mapping[str, Handler]:
        """Every function of the node, by its place in the node, as errors name it."""
        return {place: found for place, found in _placed_callables(self) if found is not None}


def _placed_callables(node: NodeDefinition) -> Iterator[tuple[str, Handler | None]]:
    for field in fields(node.functions):
        yield f"{field.name}= of {node.name}", getattr(node.functions, field.name)
    for key, part in node.parts.items():
        name = node.name if key is None else subunit_of(node.name, key)
        if isinstance(part, Step):
            yield from _with_arguments(name, part.function)
            if part.compensator is not None:
                yield from _with_arguments(compensation_of(name), part.compensator)


def _with_arguments(place: str, handler: Handler) -> Iterator[tuple[str, Handler | None]]:
    for number, function in enumerate(user_functions(handler)):
        yield f"{place} (argument function {number})" if number else place, function


def _body(part: Part, name: str | None, defaults: StepDefaults) -> Body:
    if isinstance(part, Step):
        return part.node(defaults.retry, defaults.timeout, name)
    return part if name is None else replace(part, name=name)


def as_part(owner: str, handler: object, name: str) -> Part:
    """Return a step as it is, a workflow as a child, any other callable as a step called `name`.

    `owner` is what errors call the place of the handler.
    """
    task = adopted(handler)
    if task is not None:
        return task
    if isinstance(handler, AnyWorkflow):
        return ChildNode(handler.name, handler.name, handler.version)
    if isinstance(handler, Step):
        return handler
    return Step(checked_handler(owner, handler, STEP_WORDS), name=name, options=Options())


def own_name(handler: object) -> str | None:
    """Return the name of a step, a workflow or a function; None for a lambda and the like."""
    is_named = isinstance(handler, AnyWorkflow | Step)
    name = getattr(handler, "name" if is_named else "__name__", None)
    return name if isinstance(name, str) and name != "<lambda>" else None

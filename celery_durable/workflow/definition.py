"""A node as users write it: what it will be in the plan, and the callables that belong to it.

`kinds` makes an `Entry` for each method of the builder. The plan's node is made of it later, when
the workflow is frozen: until then a step may still get its compensator, and the app its defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from celery_durable.core.names import compensation_of, part_of
from celery_durable.core.nodes import Body, ChildNode, Node
from celery_durable.core.retry import RetryPolicy
from celery_durable.workflow.step import Handler, Options, Step, checked_handler, made_of

STEP_WORDS = "a step, a function of the context or a workflow"


class Definition:
    """What a place that takes a step takes too: a workflow, which then runs as a child."""

    name: str
    version: int


@dataclass(frozen=True, slots=True)
class Functions:
    """A node's own callables, which are no steps; None where it has none.

    All are functions of the context, but `until(result, iterations_done)` and `feedback(result)`.
    """

    over: Handler | None = None
    selector: Handler | None = None
    until: Callable[[Any, int], Any] | None = None
    feedback: Handler | None = None
    map_input: Handler | None = None
    duration: Handler | None = None


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a step has that says nothing of its own."""

    retry: RetryPolicy
    timeout: float | None


Part = Step | ChildNode
"""What is behind a body: a function with its options, or a workflow that runs as a child."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A node as it was written.

    `parts` are by branch or case; the only one of another node has the key None. `make` is given
    their bodies, in this order.
    """

    name: str
    make: Callable[[tuple[Body, ...]], Node]
    parts: Mapping[str | None, Part]
    functions: Functions = Functions()

    def node(self, defaults: Defaults) -> Node:
        """The plan's node."""
        return self.make(tuple(_body(part, name, defaults) for name, part in self.parts.items()))

    @property
    def callables(self) -> Mapping[str, Handler]:
        """Every function of the node, by what it is there."""
        return {name: found for name, found in _named_callables(self) if found is not None}

    def step(self, part: str | None) -> Step:
        """The step of this branch or case, or the node's only one; `KeyError` if it is a child."""
        found = self.parts.get(None) or self.parts[part]
        if isinstance(found, Step):
            return found
        raise KeyError(part or self.name)


def _named_callables(entry: Entry) -> Iterator[tuple[str, Handler | None]]:
    for field in fields(entry.functions):
        yield f"{field.name}= of {entry.name}", getattr(entry.functions, field.name)
    for key, part in entry.parts.items():
        name = entry.name if key is None else part_of(entry.name, key)
        if isinstance(part, Step):
            for number, function in enumerate(made_of(part.function)):
                yield f"{name} (argument function {number})" if number else name, function
            yield compensation_of(name), part.compensator


def _body(part: Part, name: str | None, defaults: Defaults) -> Body:
    if isinstance(part, Step):
        return part.node(defaults.retry, defaults.timeout, name)
    return part if name is None else replace(part, name=name)


def as_part(of: str, given: object, name: str) -> Part:
    """A step as it is, a workflow as a child, any other callable as a step called `name`."""
    if isinstance(given, Definition):
        return ChildNode(given.name, given.name, given.version)
    if isinstance(given, Step):
        return given
    return Step(checked_handler(of, given, STEP_WORDS), name=name, options=Options())


def own_name(given: object) -> str | None:
    """What a step, a workflow or a function is called by itself; None for a lambda and the like."""
    name = getattr(given, "name" if isinstance(given, Definition | Step) else "__name__", None)
    return name if isinstance(name, str) and name != "<lambda>" else None

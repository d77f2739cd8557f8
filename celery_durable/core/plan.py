"""A workflow with its callables taken out: plain data that can be stored and compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, assert_never

from celery_durable.core.names import RETURNS, ROLLBACK, decision_of, part_of
from celery_durable.core.retry import RetryPolicy

HIGHEST_PRIORITY = 255
"""RabbitMQ's; Redis has fewer steps and takes the nearest."""

MOST_ITEMS, MOST_ITEM_BYTES = 100_000, 64 * 1024 * 1024
"""Items that one map may have, and bytes of their JSON: one statement writes them all."""


@dataclass(frozen=True, slots=True)
class Routing:
    """Where a unit's message goes, and how many seconds the unit may take.

    `queue=None` is `durable_queue`; `priority=None` the run's; `time_limit=None` for ever.
    """

    queue: str | None = None
    priority: int | None = None
    time_limit: float | None = None


@dataclass(frozen=True, slots=True)
class Compensator:
    """How a completed unit is undone."""

    retry: RetryPolicy
    routing: Routing = Routing()
    transactional: bool = False


@dataclass(frozen=True, slots=True)
class StepNode:
    """A unit that calls one handler. `suspends`: a result may say that it waits for an answer."""

    name: str
    retry: RetryPolicy
    routing: Routing = Routing()
    transactional: bool = False
    compensator: Compensator | None = None
    suspends: bool = False

    @property
    def is_undoable(self) -> bool:
        """Whether there is something to call once it has completed and the run turns back."""
        return self.compensator is not None


@dataclass(frozen=True, slots=True)
class ChildNode:
    """A unit that is a run of its own. `version=None` is the highest known when it starts.

    `cascade`: when the parent turns back, the completed child is undone too.
    """

    name: str
    workflow: str
    version: int | None = None
    cascade: bool = False

    @property
    def is_undoable(self) -> bool:
        """Whether the completed child is undone with its parent."""
        return self.cascade


Body = StepNode | ChildNode
"""What a place that takes a step may hold. In a branch or a case it has that name."""


@dataclass(frozen=True, slots=True)
class ParallelNode:
    """Named branches, each a token of its own; the node ends when all have."""

    name: str
    branches: tuple[Body, ...]
    fail_fast: bool = False


@dataclass(frozen=True, slots=True)
class MapNode:
    """One branch for each item of a list that is made when the node is reached.

    At most `max_concurrency` items are open at a time; `chunk` of them share a message.
    """

    name: str
    item: Body
    max_concurrency: int | None = None
    chunk: int = 1
    fail_fast: bool = False
    keeps_errors: bool = False


@dataclass(frozen=True, slots=True)
class RouteNode:
    """One of several cases; which one is a unit of its own, journaled first.

    `default` is where an answer leads that names no case: a case, nothing at all (the result is
    then None), or a failure.
    """

    name: str
    cases: tuple[Body, ...]
    default: str | Literal[False] | None = False


@dataclass(frozen=True, slots=True)
class LoopNode:
    """A body that is repeated, one unit for each iteration; `every` seconds between them."""

    name: str
    body: Body
    max_iterations: int
    every: float = 0.0
    fails_when_exhausted: bool = False


@dataclass(frozen=True, slots=True)
class SleepNode:
    """A time to wait. `seconds` is None where a function of the context says it."""

    name: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class SignalNode:
    """A wait for a signal; `timeout` in seconds, None for ever."""

    name: str
    signal: str
    timeout: float | None = None
    goes_on_without: bool = False


Node = StepNode | ChildNode | ParallelNode | MapNode | RouteNode | LoopNode | SleepNode | SignalNode
"""One entry of a workflow."""


@dataclass(frozen=True)
class Plan:
    """The ordered nodes of one version of a workflow. Position is a name, never an index."""

    workflow: str
    version: int
    nodes: tuple[Node, ...]
    returns: bool = False

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The nodes' names, in order."""
        return tuple(node.name for node in self.nodes)

    @cached_property
    def undoable(self) -> tuple[str, ...]:
        """The nodes of which something can be undone."""
        return tuple(n.name for n in self.nodes if any(b.is_undoable for b in bodies_of(n)))

    @cached_property
    def _by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _following(self) -> Mapping[str, Node]:
        return dict(zip(self.names, self.nodes[1:], strict=False))

    @property
    def first(self) -> Node:
        """The node a run begins with."""
        return self.nodes[0]

    def find(self, name: str) -> Node | None:
        """The node called `name`, if this plan still has it."""
        return self._by_name.get(name)

    def after(self, name: str) -> Node | None:
        """The node that follows the one called `name`; None after the last."""
        if name not in self._by_name:
            raise KeyError(name)
        return self._following.get(name)

    def as_data(self) -> dict[str, Any]:
        """What is stored in `durable_definition`: no callables, no exception classes."""
        return {
            "workflow": self.workflow,
            "version": self.version,
            "returns": self.returns,
            "nodes": [_node_data(node) for node in self.nodes],
        }


def bodies_of(node: Node) -> tuple[Body, ...]:
    """The steps and children in `node`."""
    match node:
        case StepNode() | ChildNode():
            return (node,)
        case ParallelNode():
            return node.branches
        case MapNode():
            return (node.item,)
        case RouteNode():
            return node.cases
        case LoopNode():
            return (node.body,)
        case SleepNode() | SignalNode():
            return ()
        case _:
            assert_never(node)


def body_of(node: Node, part: str | None) -> Body | None:
    """What a unit of `node` executes; `part` is its branch or case."""
    match node:
        case ParallelNode(branches=named) | RouteNode(cases=named):
            return next((body for body in named if body.name == part), None)
        case _:
            return next(iter(bodies_of(node)), None)


def routing_of(body: Body | None) -> Routing:
    """Where the messages of a body go."""
    return body.routing if isinstance(body, StepNode) else Routing()


def first_routing(node: Node) -> Routing:
    """Where a run goes that comes to `node`: a step has a place of its own, the rest the run's."""
    return routing_of(node.body if isinstance(node, LoopNode) else _step(node))


def _step(node: Node) -> Body | None:
    return node if isinstance(node, StepNode) else None


def first_unit(node: Node) -> str:
    """The unit a run is at that comes to `node`."""
    match node:
        case RouteNode():
            return decision_of(node.name)
        case LoopNode():
            return part_of(node.name, 0)
        case _:
            return node.name


def _node_data(node: Node) -> dict[str, Any]:
    placed = first_routing(node)
    data: dict[str, Any] = {
        "kind": kind_of(node),
        "name": node.name,
        "unit": first_unit(node),
        "queue": placed.queue,
        "priority": placed.priority,
        "time_limit": placed.time_limit,
    }
    match node:
        case StepNode() | ChildNode():
            data |= _body_data(node)
        case ParallelNode():
            data["branches"] = [_body_data(body) for body in node.branches]
            data["fail_fast"] = node.fail_fast
        case MapNode():
            data["item"] = _body_data(node.item)
            data |= {"max_concurrency": node.max_concurrency, "chunk": node.chunk}
            data |= {"fail_fast": node.fail_fast, "keeps_errors": node.keeps_errors}
        case RouteNode():
            data["cases"] = [_body_data(body) for body in node.cases]
            data["default"] = node.default
        case LoopNode():
            data["body"] = _body_data(node.body)
            data |= {"max_iterations": node.max_iterations, "every": node.every}
            data["fails_when_exhausted"] = node.fails_when_exhausted
        case SleepNode():
            data["seconds"] = node.seconds
        case SignalNode():
            data |= {"signal": node.signal, "timeout": node.timeout}
            data["goes_on_without"] = node.goes_on_without
        case _:
            assert_never(node)
    return data


def _body_data(body: Body) -> dict[str, Any]:
    if isinstance(body, ChildNode):
        return {
            "name": body.name,
            "workflow": body.workflow,
            "version": body.version,
            "compensated": body.cascade,
        }
    return {
        "name": body.name,
        "queue": body.routing.queue,
        "compensated": body.compensator is not None,
    }


def kind_of(node: Node) -> str:
    """The word for this kind of node."""
    return _KINDS[type(node)]


_KINDS: Mapping[type[Node], str] = {
    StepNode: "step",
    ChildNode: "child",
    ParallelNode: "parallel",
    MapNode: "map",
    RouteNode: "route",
    LoopNode: "loop",
    SleepNode: "sleep",
    SignalNode: "signal",
}


@dataclass(frozen=True, slots=True)
class Outline:
    """A stored plan as a process reads it that does not import the workflow.

    `nodes` are the names with their kinds; `first` and `first_unit` are where a run begins.
    """

    workflow: str
    version: int
    nodes: tuple[tuple[str, str], ...]
    first: Routing
    first_unit: str

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes' names, in order."""
        return tuple(name for name, _ in self.nodes)

    @property
    def kinds(self) -> Mapping[str, str]:
        """The nodes' kinds by name."""
        return dict(self.nodes)

    @property
    def first_position(self) -> int | None:
        """The number of the iteration that a run begins with, if it begins with a loop."""
        return 0 if self.nodes[0][1] == _KINDS[LoopNode] else None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Outline:
        """The outline of what `Plan.as_data` made."""
        nodes = stored["nodes"]
        first = nodes[0]
        return cls(
            workflow=stored["workflow"],
            version=stored["version"],
            nodes=tuple((node["name"], node["kind"]) for node in nodes),
            first=Routing(first["queue"], first["priority"], first["time_limit"]),
            first_unit=first["unit"],
        )


def incompatible(stored: Outline, plan: Plan, in_flight: Iterable[str]) -> frozenset[str]:
    """The nodes of `in_flight`, where runs of the stored plan stand, that `plan` cannot go on from.

    A run can go on when its node and everything before it are as they were; what comes after may
    differ.
    """
    now = tuple((node.name, kind_of(node)) for node in plan.nodes)
    return frozenset(
        node
        for node in in_flight
        if (before := _before(now, node)) is None or before != _before(stored.nodes, node)
    )


def _before(nodes: tuple[tuple[str, str], ...], name: str) -> tuple[tuple[str, str], ...] | None:
    """The nodes up to `name`; all of them for a unit that follows the last."""
    if name in (RETURNS, ROLLBACK):
        return nodes
    index = next((i for i, (other, _) in enumerate(nodes) if other == name), None)
    return None if index is None else nodes[: index + 1]

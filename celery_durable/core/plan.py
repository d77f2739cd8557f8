"""A workflow with its callables taken out: plain data that can be stored and compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from celery_durable.core.names import RETURNS
from celery_durable.core.retry import RetryPolicy

HIGHEST_PRIORITY = 255
"""RabbitMQ's; Redis has fewer steps and takes the nearest."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a unit's message goes. `queue=None` is `durable_queue`; `priority=None` the run's."""

    queue: str | None = None
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class Compensator:
    """How a completed unit is undone."""

    retry: RetryPolicy
    placement: Placement = Placement()
    transactional: bool = False


@dataclass(frozen=True, slots=True)
class StepNode:
    """A node that calls one handler once."""

    name: str
    retry: RetryPolicy
    placement: Placement = Placement()
    transactional: bool = False
    compensator: Compensator | None = None


Node = StepNode
"""One entry of a workflow; other kinds join this union."""


@dataclass(frozen=True)
class Plan:
    """The ordered nodes of one version of a workflow. Position is a name, never an index (P10)."""

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
        """The nodes that have a compensator."""
        return tuple(node.name for node in self.nodes if node.compensator is not None)

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


def _node_data(node: Node) -> dict[str, Any]:
    return {
        "kind": "step",
        "name": node.name,
        "queue": node.placement.queue,
        "priority": node.placement.priority,
        "compensated": node.compensator is not None,
    }


@dataclass(frozen=True, slots=True)
class Outline:
    """A stored plan as a process reads it that does not import the workflow."""

    workflow: str
    version: int
    names: tuple[str, ...]
    first: Placement

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Outline:
        """The outline of what `Plan.as_data` made."""
        nodes = stored["nodes"]
        return cls(
            workflow=stored["workflow"],
            version=stored["version"],
            names=tuple(node["name"] for node in nodes),
            first=Placement(nodes[0]["queue"], nodes[0]["priority"]),
        )


def incompatible(stored: Outline, plan: Plan, in_flight: Iterable[str]) -> frozenset[str]:
    """The nodes of `in_flight`, where runs of the stored plan stand, that `plan` cannot go on from.

    A run can go on when its node and everything before it are as they were; what comes after may
    differ.
    """
    return frozenset(
        node
        for node in in_flight
        if (before := _before(plan.names, node)) is None or before != _before(stored.names, node)
    )


def _before(names: tuple[str, ...], node: str) -> tuple[str, ...] | None:
    """The nodes up to `node`; all of them for a unit that follows the last."""
    if node == RETURNS:
        return names
    return names[: names.index(node) + 1] if node in names else None

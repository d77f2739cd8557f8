"""A workflow with its callables taken out: plain data that can be stored and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from celery_durable.core.nodes import LoopNode, Node, Routing

HIGHEST_PRIORITY = 255
"""RabbitMQ's; Redis has fewer steps and takes the nearest."""

MOST_ITEMS, MOST_ITEM_BYTES = 100_000, 64 * 1024 * 1024
"""Items that one map may have, and bytes of their JSON: one statement writes them all."""


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
    def _by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _following(self) -> Mapping[str, Node]:
        return dict(zip(self.names, self.nodes[1:], strict=False))

    @cached_property
    def units(self) -> dict[tuple[str, str | None, bool, bool], Any]:
        """What `units.unit_of` has made of this plan; a cache."""
        return {}

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
            "nodes": [node.as_data() for node in self.nodes],
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
        return 0 if self.nodes[0][1] == LoopNode.kind else None

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

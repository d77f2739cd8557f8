"""A workflow with its callables taken out: plain data that can be stored and compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from celery_durable.core.names import ANY, RETURNS, compensation_of, subunit_of
from celery_durable.core.nodes import LoopNode, Node, Routing, StepNode
from celery_durable.core.retry import UNLIMITED, RetryPolicy

HIGHEST_PRIORITY = 255
"""RabbitMQ's; Redis has fewer steps and takes the nearest."""

MOST_ITEMS, MOST_ITEM_BYTES = 100_000, 64 * 1024 * 1024
"""Items that one map may have, and bytes of their JSON: one statement writes them all."""


@dataclass(frozen=True)
class Plan:
    """The ordered nodes of one version of a workflow. Position is a name, never an index.

    A run that has not ended `timeout` seconds after its beginning fails; one that has not begun
    `expires` seconds after its start is cancelled. `tells_of_failure`: a task is sent when a run
    fails, which only a worker that has the code does.
    """

    workflow: str
    version: int
    nodes: tuple[Node, ...]
    returns: bool = False
    timeout: float | None = None
    expires: float | None = None
    tells_of_failure: bool = False

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
            "timeout": self.timeout,
            "expires": self.expires,
            "tells_of_failure": self.tells_of_failure,
            "nodes": [node.as_data() for node in self.nodes],
            "max_attempts": dict(self._max_attempts()),
        }

    def _max_attempts(self) -> Iterator[tuple[str, int]]:
        """Yield how often each step, and each compensator, is tried; items are one unit here.

        Those that are tried without a limit are left out.
        """
        for unit, policy in self._policies():
            if policy.max_attempts < UNLIMITED:
                yield unit, policy.max_attempts

    def _policies(self) -> Iterator[tuple[str, RetryPolicy]]:
        for node in self.nodes:
            for body in node.bodies:
                if not isinstance(body, StepNode):
                    continue
                unit = node.name
                if body is not node:
                    unit = subunit_of(node.name, body.name if node.has_named_parts else ANY)
                yield unit, body.retry
                if body.compensator is not None:
                    yield compensation_of(unit), body.compensator.retry


@dataclass(frozen=True, slots=True)
class Outline:
    """A stored plan as a process reads it that does not import the workflow.

    `nodes` are the names with their kinds; `first_node`, `first_unit` and `first`, where its
    message goes, are where a run begins.
    """

    workflow: str
    version: int
    nodes: tuple[tuple[str, str], ...]
    first: Routing
    first_unit: str
    first_node: str
    timeout: float | None = None
    expires: float | None = None

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
        return 0 if self.kinds.get(self.first_node) == LoopNode.kind else None

    @classmethod
    def of(cls, stored: Mapping[str, Any], first_node: str | None = None) -> Outline:
        """The outline of what `Plan.as_data` made, for a run that begins at `first_node`.

        By default at the first. `RETURNS` is where only the run's result is left to make.
        """
        nodes = stored["nodes"]
        first: Mapping[str, Any] = nodes[0]
        if first_node == RETURNS:
            first = {"queue": None, "priority": None, "time_limit": None, "unit": RETURNS}
        elif first_node is not None:
            first = next(node for node in nodes if node["name"] == first_node)
        return cls(
            workflow=stored["workflow"],
            version=stored["version"],
            nodes=tuple((node["name"], node["kind"]) for node in nodes),
            first=Routing(first["queue"], first["priority"], first["time_limit"]),
            first_unit=first["unit"],
            first_node=first.get("name", RETURNS),
            timeout=stored.get("timeout"),
            expires=stored.get("expires"),
        )


def executes_step(
    stored: Mapping[str, Any], node: str, part: str | None, *, is_branch: bool
) -> bool:
    """Return True if a token at `node` executes a step there: no child, and nothing of the node's.

    `stored` is what `Plan.as_data` made; `part` and `is_branch` are the token's.
    """
    found = next((one for one in stored["nodes"] if one["name"] == node), None)
    match found:
        case {"kind": "step"}:
            return True
        case {"kind": "loop", "body": body}:
            return "workflow" not in body
        case {"kind": "map", "item": body} if is_branch:
            return "workflow" not in body
        case {"kind": "parallel", "branches": bodies} | {"kind": "route", "cases": bodies}:
            return any(one["name"] == part and "workflow" not in one for one in bodies)
        case _:
            return False


def step_names(stored: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the nodes of a stored plan, and of its branches and cases."""
    for node in stored["nodes"]:
        yield node["name"]
        for part in (*node.get("branches", ()), *node.get("cases", ())):
            yield part["name"]

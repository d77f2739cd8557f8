"""The workflows a process knows."""

from __future__ import annotations

from collections.abc import Iterator

from celery_durable.core.nodes import Body, ChildNode
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.twins import refuse_unless_same


class Registry:
    """Workflows by name and version. Importing the same definition twice is fine."""

    def __init__(self) -> None:
        self._defined: dict[tuple[str, int], list[Workflow]] = {}

    def add(self, workflow: Workflow) -> None:
        """Note a workflow that is still being built; twins are compared when it is asked for."""
        self._defined.setdefault((workflow.name, workflow.version), []).append(workflow)

    def find(self, name: str, version: int | None = None) -> Workflow | None:
        """The workflow of this version, by default of the highest; None when unknown here."""
        if version is None:
            version = max(self.versions(name), default=0)
        twins = self._defined.get((name, version))
        if twins is None:
            return None
        if len(twins) > 1:
            twins[:] = [_same(twins)]
        return twins[0]

    def versions(self, name: str) -> tuple[int, ...]:
        """The versions of `name` that are known here."""
        return tuple(sorted(v for n, v in self._defined if n == name))

    def names(self) -> tuple[str, ...]:
        """The names that are known here."""
        return tuple(sorted({name for name, _ in self._defined}))

    def __iter__(self) -> Iterator[Workflow]:
        """Every workflow, each checked and frozen."""
        for name, version in tuple(self._defined):
            workflow = self.find(name, version)
            assert workflow is not None
            _ = workflow.plan
            yield workflow

    def queues(self) -> frozenset[str]:
        """The queues that steps name themselves."""
        return frozenset(
            queue
            for workflow in self
            for node in workflow.plan.nodes
            for body in node.bodies
            for queue in _queues(body)
            if queue
        )


def _queues(body: Body) -> tuple[str | None, ...]:
    """The queues that a body names; a child's steps are in the workflow they belong to."""
    if isinstance(body, ChildNode):
        return ()
    undo = body.compensator
    return body.routing.queue, undo.routing.queue if undo else None


def _same(twins: list[Workflow]) -> Workflow:
    """The last of several definitions that must be the same."""
    last = twins[-1]
    for other in twins[:-1]:
        refuse_unless_same(other, last)
    return last

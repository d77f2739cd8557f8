"""The workflows that a process has imported."""

from __future__ import annotations

from collections.abc import Iterator

from celery_durable.core.nodes import Body, ChildNode
from celery_durable.process.once import forget
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.twins import refuse_unless_same


class Registry:
    """Finds workflows by name and version. The same definition may be imported twice."""

    def __init__(self) -> None:
        self._defined: dict[tuple[str, int], list[Workflow]] = {}

    def add(self, workflow: Workflow) -> None:
        """Add a workflow that is still being built; twins are compared when `find` returns one."""
        self._defined.setdefault((workflow.name, workflow.version), []).append(workflow)

    def find(self, name: str, version: int | None = None) -> Workflow | None:
        """Return the workflow of this version, by default of the highest; None if there is none.

        Raises `DuplicateWorkflow` if there are several, and they differ.
        """
        if version is None:
            version = max(self.versions(name), default=0)
        twins = self._defined.get((name, version))
        if twins is None:
            return None
        if len(twins) > 1:
            twins[:] = [_checked(twins)]
        return twins[0]

    def versions(self, name: str) -> tuple[int, ...]:
        """Return the versions of `name`, the lowest first."""
        return tuple(sorted(v for n, v in self._defined if n == name))

    def names(self) -> tuple[str, ...]:
        """Return the names of all workflows, in order."""
        return tuple(sorted({name for name, _ in self._defined}))

    def has_model_of(self, signal: str) -> bool:
        """Return True if a workflow says what the data of this signal must fit."""
        return any(
            workflow.model_of(signal) is not None
            for twins in self._defined.values()
            for workflow in twins
        )

    def __iter__(self) -> Iterator[Workflow]:
        """Yield every workflow, checked and frozen."""
        for name, version in tuple(self._defined):
            workflow = self.find(name, version)
            assert workflow is not None
            _ = workflow.plan  # making the plan checks and freezes
            yield workflow

    def thaw(self) -> None:
        """Have every workflow checked and frozen anew, with the defaults of that time."""
        for twins in self._defined.values():
            for workflow in twins:
                forget(workflow)

    def queues(self) -> frozenset[str]:
        """Return the queues that steps and compensators name."""
        return frozenset(
            queue
            for workflow in self
            for node in workflow.plan.nodes
            for body in node.bodies
            for queue in _queues(body)
            if queue
        )


def _queues(body: Body) -> tuple[str | None, ...]:
    """Return the queues that a body names; a child names none, its workflow's steps do."""
    if isinstance(body, ChildNode):
        return ()
    compensator = body.compensator
    return body.routing.queue, compensator.routing.queue if compensator else None


def _checked(twins: list[Workflow]) -> Workflow:
    """Return the last of several definitions; refuse them if they differ."""
    last = twins[-1]
    for other in twins[:-1]:
        refuse_unless_same(other, last)
    return last

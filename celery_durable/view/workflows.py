"""The workflows of a project: their versions, how many runs each has, and what is paused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from celery_durable.core.pause import Paused
from celery_durable.core.status import Status
from celery_durable.durable import Durable
from celery_durable.store import pauses
from celery_durable.store.read import workflows
from celery_durable.store.read.workflows import StoredWorkflow


@dataclass(frozen=True, slots=True)
class VersionView:
    """A version; `runs` are the unfinished ones by status, and those that ended within a day.

    `is_here` is False if the process that looks does not import it.
    """

    version: int
    nodes: int
    stored_at: datetime | None
    is_here: bool
    runs: Mapping[Status, int] = field(default_factory=dict)
    paused: Paused | None = None


@dataclass(frozen=True, slots=True)
class WorkflowView:
    """A workflow with its versions, the highest first; `paused` is the pause of all of them."""

    name: str
    versions: Sequence[VersionView]
    paused: Paused | None = None

    @property
    def runs(self) -> Mapping[Status, int]:
        """The runs of all versions."""
        found: dict[Status, int] = {}
        for status in Status:
            total = sum(one.runs.get(status, 0) for one in self.versions)
            if total:
                found[status] = total
        return found

    def version(self, number: int | None) -> VersionView | None:
        """A version, by default the highest; None if it is not there."""
        if number is None:
            return self.versions[0]
        return next((one for one in self.versions if one.version == number), None)


@dataclass(frozen=True, slots=True)
class WorkflowsView:
    """All workflows, by name. `is_all` is False if there are more runs than were counted."""

    workflows: Sequence[WorkflowView]
    is_all: bool

    def find(self, name: str) -> WorkflowView | None:
        """The workflow called so; None if it is not there."""
        return next((one for one in self.workflows if one.name == name), None)


def read_workflows(durable: Durable) -> WorkflowsView:
    """Read what workers have stored, and add what this process imports."""
    with durable.database.read_only() as connection:
        stored = {(one.workflow, one.version): one for one in workflows.stored(connection)}
        counts = workflows.counts(connection)
        paused = {
            (one.pause.workflow, one.pause.version): one
            for one in pauses.listed(connection)
            if one.pause.workflow is not None and one.pause.run_id is None and not one.pause.step
        }
    runs: dict[tuple[str, int], dict[Status, int]] = defaultdict(dict)
    order = [*Status]
    for one in sorted(counts.counts, key=lambda one: order.index(one.status)):
        runs[one.workflow, one.version][one.status] = one.runs
    here = {(one.name, one.version): len(one.plan.nodes) for one in durable.registry}
    names: dict[str, list[VersionView]] = defaultdict(list)
    for name, version in sorted({*stored, *here, *runs}, key=lambda key: (key[0], -key[1])):
        key = name, version
        nodes, stored_at = _size(stored.get(key), here.get(key))
        names[name].append(
            VersionView(version, nodes, stored_at, key in here, runs[key], paused.get(key))
        )
    found = [
        WorkflowView(name, tuple(all_), paused.get((name, None))) for name, all_ in names.items()
    ]
    return WorkflowsView(found, counts.is_all)


def _size(stored: StoredWorkflow | None, here: int | None) -> tuple[int, datetime | None]:
    nodes = here if here is not None else stored.nodes if stored is not None else 0
    return nodes, stored.stored_at if stored is not None else None

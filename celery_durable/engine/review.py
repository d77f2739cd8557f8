"""Holds the definitions of a process against all unfinished runs: `durable check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from celery_durable.core.compatibility import can_execute, incompatible, offer_of
from celery_durable.core.plan import Outline, Plan
from celery_durable.database.connections import Database
from celery_durable.store import definitions
from celery_durable.store.definitions import StandingRuns
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.registry import Registry


class Verdict(StrEnum):
    """How a process's definition of a version compares with the runs in flight."""

    SAME = "as stored"
    NEW = "new"
    EDITED = "edited, fits"
    CHANGED = "does not fit"
    UNKNOWN = "not known here"


@dataclass(frozen=True, slots=True)
class Stuck:
    """A unit where unfinished runs stand, or come to in a rollback, and could not go on."""

    place: str
    runs: int


@dataclass(frozen=True, slots=True)
class Review:
    """One version of a workflow, compared with its unfinished `runs`."""

    workflow: str
    version: int
    verdict: Verdict
    runs: int
    stuck: Sequence[Stuck]


def review(database: Database, registry: Registry) -> Sequence[Review]:
    """Compare the definitions of this process with all unfinished runs; nothing is written.

    Every version that is defined here is reviewed, and every other that has unfinished runs.
    """
    with database.autocommit() as connection:
        stored = definitions.plans(connection)
        standing = definitions.standing(connection)
        to_undo = definitions.to_undo(connection)
    known = {(workflow.name, workflow.version) for workflow in registry}
    keys = known | {(place.workflow, place.version) for place in standing}
    return [
        _reviewed(key, registry.find(*key), stored.get(key), _of(key, standing), _of(key, to_undo))
        for key in sorted(keys)
    ]


def _of(key: tuple[str, int], found: Sequence[StandingRuns]) -> Sequence[StandingRuns]:
    return [place for place in found if (place.workflow, place.version) == key]


def _reviewed(
    key: tuple[str, int],
    workflow: Workflow | None,
    stored: Mapping[str, Any] | None,
    standing: Sequence[StandingRuns],
    to_undo: Sequence[StandingRuns],
) -> Review:
    # A run has one token that is no branch.
    runs = sum(place.runs for place in standing if place.token.parent is None)
    if workflow is None:
        return Review(*key, Verdict.UNKNOWN, runs, _stuck_at(standing))
    plan = workflow.plan
    parked = frozenset[str]()
    if stored is not None:
        nodes = {place.token.node for place in standing}
        parked = incompatible(Outline.of(stored), plan, nodes)
    lost = [
        place
        for place in (*standing, *to_undo)
        if not can_execute(plan, place.token) or place.token.node in parked
    ]
    return Review(*key, _verdict(plan, stored, lost), runs, _stuck_at(lost))


def _verdict(plan: Plan, stored: Mapping[str, Any] | None, lost: Sequence[StandingRuns]) -> Verdict:
    if lost:
        return Verdict.CHANGED
    if stored is None:
        return Verdict.NEW
    return Verdict.SAME if stored == plan.as_data() else Verdict.EDITED


def _stuck_at(found: Sequence[StandingRuns]) -> Sequence[Stuck]:
    """Return each unit once; branches are left out where their parent is stuck too."""
    nodes = {place.token.node for place in found if place.token.parent is None}
    shown = [p for p in found if p.token.parent is None or p.token.node not in nodes]
    runs: dict[str, int] = {}
    for place in shown:
        at = offer_of(place.token)
        runs[at] = max(runs.get(at, 0), place.runs)
    return [Stuck(at, runs[at]) for at in sorted(runs)]

"""Whether this process's definitions fit where a token stands.

A worker asks for the token it has claimed, and tells the others in advance where it can go on
(`offers`); `celery -A app durable check` asks for every run in flight (`review`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from celery_durable.core.claim import Claim
from celery_durable.core.journey import has_come
from celery_durable.core.names import RETURNS, ROLLBACK, compensation_of, part_of
from celery_durable.core.plan import Outline, Plan, incompatible
from celery_durable.core.token import Flags, Token
from celery_durable.core.units import unit_of
from celery_durable.database.connections import Database
from celery_durable.engine.retrying import Retrying
from celery_durable.store import definitions, journal, workers
from celery_durable.store.definitions import StandingRuns
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.registry import Registry

logger = logging.getLogger(__name__)

LOOK_AGAIN_AFTER = 10.0
"""Seconds after which a definition that some runs cannot go on with is compared with the stored
one again.
"""


class Compatibility:
    """The workflows of this process, held against what is stored of them."""

    def __init__(self, retrying: Retrying, registry: Registry) -> None:
        self._retrying = retrying
        self._registry = registry
        self._parked: dict[tuple[str, int], frozenset[str]] = {}
        self._not_offered: dict[tuple[str, int], frozenset[str]] = {}
        self._look_again_at: dict[tuple[str, int], float] = {}
        self._warned: set[tuple[str, int, str]] = set()

    def workflow_for(self, claim: Claim) -> Workflow | None:
        """The workflow that the token can go on with; None, with a warning, where there is none."""
        workflow = self._registry.find(claim.run.workflow, claim.run.version)
        if workflow is not None and self._can_go_on(workflow, claim.token):
            return workflow
        if only_ends(claim.token):
            return Blank(claim.run.workflow, claim.run.version)
        self._warn(claim, workflow)
        return None

    def offers(self) -> Mapping[str, Sequence[str]]:
        """Where this process can go on, by workflow and version: what others may count on."""
        return {
            version_key(workflow.name, workflow.version): [
                place
                for node, place in offers(workflow.plan)
                if node not in self._parked_of(workflow)
            ]
            for workflow in self._registry
        }

    def is_elsewhere(self, claim: Claim) -> bool:
        """True if another Celery worker can go on with the claim, and takes its messages."""
        key = version_key(claim.run.workflow, claim.run.version)
        unit = offer_of(claim.token)
        return self._retrying.ask(
            lambda connection: workers.is_known_elsewhere(
                connection, claim.worker, claim.queue, key, unit
            )
        )

    def stop_offering(self, claim: Claim) -> None:
        """The run has been where its token stands: leave that place to others.

        That holds for runs that have come there as others have it.
        """
        run, node = claim.run, claim.token.node
        key = (run.workflow, run.version)
        self._not_offered[key] = self._not_offered.get(key, frozenset()) | {node}
        logger.error(
            "Run %s comes to %s once more, which is in its journal: workflow %r version %d has its"
            " nodes in another order here than in other workers. This worker leaves %r alone; give"
            " the changed workflow a version of its own.",
            run.id,
            claim.token.unit,
            *key,
            node,
        )

    def _can_go_on(self, workflow: Workflow, token: Token) -> bool:
        if not can_execute(workflow, token):
            return False
        return token.node not in self._parked_of(workflow) or self._has_come(workflow, token)

    def _has_come(self, workflow: Workflow, token: Token) -> bool:
        """Whether a run at a place that others' runs cannot go on from has come there our way."""
        plan = workflow.plan
        stored = self._retrying.ask(
            lambda connection: definitions.find(connection, plan.workflow, plan.version)
        )
        passed = self._retrying.ask(lambda connection: journal.passed(connection, token))
        kinds = stored.kinds if stored is not None else {}
        node = plan.find(token.node)
        # The journal does not say of which kind the node is where the run stands.
        is_as_it_was = node is None or kinds.get(node.name, node.kind) == node.kind
        return is_as_it_was and passed is not None and has_come(plan, token, passed)

    def _parked_of(self, workflow: Workflow) -> frozenset[str]:
        """The nodes where some runs cannot go on here.

        The stored plan is asked once, and from time to time for as long as there are such nodes.
        """
        key = (workflow.name, workflow.version)
        known = self._parked.get(key)
        if known is None or (known and time.monotonic() >= self._look_again_at[key]):
            known = self._parked[key] = self._retrying.ask(
                lambda connection: definitions.reconcile(connection, workflow.plan)
            )
            self._look_again_at[key] = time.monotonic() + LOOK_AGAIN_AFTER
        return known | self._not_offered.get(key, frozenset())

    def _warn(self, claim: Claim, workflow: Workflow | None) -> None:
        run = claim.run
        key = (run.workflow, run.version, claim.token.node)
        if key in self._warned:
            return
        self._warned.add(key)
        known = ", ".join(map(str, self._registry.versions(run.workflow))) or "none"
        what = (
            f"workflow {run.workflow!r} version {run.version} is not known to this worker"
            f" (versions known: {known})"
            if workflow is None
            else f"workflow {run.workflow!r} version {run.version} was changed here at or before"
            f" {claim.token.node!r}, where the run stands"
        )
        logger.warning("Run %s is left to other workers: %s", run.id, what)


def can_execute(workflow: Workflow, token: Token) -> bool:
    """Whether this worker's definition still has what the token stands at."""
    if token.unit == ROLLBACK:
        return True
    if token.unit == RETURNS:
        return workflow.plan.returns
    unit = unit_of(workflow.plan, token)
    if unit.node is None or not unit.node.fits(token):
        return False
    if token.rollback is not None:
        return unit.body is not None and unit.body.is_undoable
    return unit.body is not None or unit.node.is_at_own_unit(token)


class Blank(Workflow):
    """Stands for a workflow of which nothing is known, where a run only has to end."""

    def __init__(self, name: str, version: int) -> None:
        self.name, self.version = name, version
        vars(self)["plan"] = Plan(name, version, ())


def only_ends(token: Token) -> bool:
    """Whether a cancel ends the token, with nothing to be undone: nobody's code is needed."""
    asked = token.flags & (Flags.CANCEL | Flags.COMPENSATE)
    return token.rollback is None and asked == Flags.CANCEL


def version_key(workflow: str, version: int) -> str:
    """One version of a workflow, as a worker's row names it."""
    return f"{workflow}@{version}"


def offer_of(token: Token) -> str:
    """Where a token stands, as `offers` has it: items and iterations of a node are one place."""
    if token.node in (RETURNS, ROLLBACK):
        return token.node
    place = token.node if token.part is None else part_of(token.node, token.part)
    return place if token.rollback is None else compensation_of(place)


def offers(plan: Plan) -> Iterator[tuple[str, str]]:
    """Where tokens of the plan may stand, each with its node; in step with `can_execute`."""
    yield ROLLBACK, ROLLBACK
    if plan.returns:
        yield RETURNS, RETURNS
    for node in plan.nodes:
        yield node.name, node.name
        for body in node.bodies:
            unit = node.name
            if node.has_named_parts:
                unit = part_of(node.name, body.name)
                yield node.name, unit
            if body.is_undoable:
                yield node.name, compensation_of(unit)


class Verdict(StrEnum):
    """What a process's definition of a version is to the runs in flight."""

    SAME = "as stored"
    NEW = "new"
    EDITED = "edited, fits"
    CHANGED = "does not fit"
    UNKNOWN = "not known here"


@dataclass(frozen=True, slots=True)
class Stuck:
    """A place where unfinished runs stand, or come to if they turn back, and could not go on."""

    place: str
    runs: int


@dataclass(frozen=True, slots=True)
class Review:
    """One version of a workflow, held against its unfinished `runs`."""

    workflow: str
    version: int
    verdict: Verdict
    runs: int
    stuck: Sequence[Stuck]


def review(database: Database, registry: Registry) -> Sequence[Review]:
    """Whether unfinished runs could go on with the definitions of this process; writes nothing.

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
        if not can_execute(workflow, place.token) or place.token.node in parked
    ]
    return Review(*key, _verdict(plan, stored, lost), runs, _stuck_at(lost))


def _verdict(plan: Plan, stored: Mapping[str, Any] | None, lost: Sequence[StandingRuns]) -> Verdict:
    if lost:
        return Verdict.CHANGED
    if stored is None:
        return Verdict.NEW
    return Verdict.SAME if stored == plan.as_data() else Verdict.EDITED


def _stuck_at(found: Sequence[StandingRuns]) -> Sequence[Stuck]:
    """The places, each once; branches go without saying where their parent is stuck too."""
    nodes = {place.token.node for place in found if place.token.parent is None}
    shown = [p for p in found if p.token.parent is None or p.token.node not in nodes]
    runs: dict[str, int] = {}
    for place in shown:
        at = offer_of(place.token)
        runs[at] = max(runs.get(at, 0), place.runs)
    return [Stuck(at, runs[at]) for at in sorted(runs)]

"""Finds the workflow with which a claim can go on, and says what this process offers."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from celery_durable.core.claim import Claim
from celery_durable.core.compatibility import (
    came_by,
    can_execute,
    offer_of,
    offers,
    version_key,
)
from celery_durable.core.plan import Plan
from celery_durable.core.token import Token
from celery_durable.engine.retrying import Retrying
from celery_durable.settings import Settings
from celery_durable.store import definitions, journal, workers
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.hooks import NO_HOOKS
from celery_durable.workflow.registry import Registry

logger = logging.getLogger(__name__)

LOOK_AGAIN_AFTER = 10.0
"""Seconds after which a definition that some runs cannot go on with is compared with the stored
one again.
"""


class Compatibility:
    """Compares the workflows of this process with the stored plans and the journals of runs."""

    def __init__(self, retrying: Retrying, registry: Registry, settings: Settings) -> None:
        self._retrying = retrying
        self._registry = registry
        self._settings = settings
        self._unfit_nodes: dict[tuple[str, int], frozenset[str]] = {}
        self._not_offered: dict[tuple[str, int], frozenset[str]] = {}
        self._look_again_at: dict[tuple[str, int], float] = {}
        self._warned: set[tuple[str, int, str]] = set()

    def workflow_for(self, claim: Claim) -> Workflow | None:
        """Return the workflow that the claim can go on with; None, with a warning, without one."""
        workflow = self._registry.find(claim.run.workflow, claim.run.version)
        if workflow is not None and self._can_go_on(workflow, claim.token):
            return workflow
        if claim.token.only_ends:
            return Blank(claim.run.workflow, claim.run.version)
        self._warn(claim, workflow)
        return None

    def offers(self) -> Mapping[str, Sequence[str]]:
        """Return the units that this process can execute, by workflow and version."""
        return {
            version_key(workflow.name, workflow.version): [
                unit
                for node, unit in offers(workflow.plan)
                if node not in self._unfit_nodes_of(workflow)
            ]
            for workflow in self._registry
        }

    def is_elsewhere(self, claim: Claim) -> bool:
        """Return True if another Celery worker can go on with the claim, and takes its messages."""
        key = version_key(claim.run.workflow, claim.run.version)
        unit = offer_of(claim.token)
        return self._retrying.ask(
            lambda connection: workers.is_known_elsewhere(
                connection, claim.worker, claim.queue, key, unit
            )
        )

    def stop_offering(self, claim: Claim) -> None:
        """Leave the node of the claim to other workers: its unit is in the run's journal already.

        That holds for runs that have come there by the nodes of this process, too.
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
        if not can_execute(workflow.plan, token):
            return False
        is_fit = self.is_fit_for_all(workflow, token.node)
        return is_fit or self._came_by_this_plan(workflow, token)

    def is_fit_for_all(self, workflow: Workflow, node: str) -> bool:
        """Return True if every run that stands at the node can go on here."""
        return node not in self._unfit_nodes_of(workflow)

    def _came_by_this_plan(self, workflow: Workflow, token: Token) -> bool:
        """Return True if the run has come to its node by this plan, though other runs have not."""
        plan = workflow.plan
        stored = self._retrying.ask(
            lambda connection: definitions.find(connection, plan.workflow, plan.version)
        )
        passed = self._retrying.ask(lambda connection: journal.passed(connection, token))
        kinds = stored.kinds if stored is not None else {}
        node = plan.find(token.node)
        # The journal does not say of which kind the node is where the run stands.
        is_as_it_was = node is None or kinds.get(node.name, node.kind) == node.kind
        return is_as_it_was and passed is not None and came_by(plan, token, passed)

    def _unfit_nodes_of(self, workflow: Workflow) -> frozenset[str]:
        """Return the nodes where some runs cannot go on here.

        The stored plan is read once, and from time to time for as long as there are such nodes.
        """
        key = (workflow.name, workflow.version)
        known = self._unfit_nodes.get(key)
        if known is None or (known and time.monotonic() >= self._look_again_at[key]):
            known = self._unfit_nodes[key] = self._retrying.ask(
                lambda connection: definitions.reconcile(connection, workflow.plan, self._settings)
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


class Blank(Workflow):
    """Stands for a workflow of which nothing is known, where a run only has to end."""

    def __init__(self, name: str, version: int) -> None:
        self.name, self.version, self.hooks = name, version, NO_HOOKS
        vars(self)["plan"] = Plan(name, version, ())

"""Whether this process's definitions fit where a token stands (P10)."""

from __future__ import annotations

import logging

from celery_durable.core.claim import Claim
from celery_durable.core.names import RETURNS, ROLLBACK
from celery_durable.core.plan import StepNode
from celery_durable.core.token import Token
from celery_durable.core.units import body, fits, is_between_steps
from celery_durable.store import definitions
from celery_durable.store.database import Database
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.registry import Registry

logger = logging.getLogger(__name__)


class Knowledge:
    """The workflows of this process, held against what is stored of them."""

    def __init__(self, database: Database, registry: Registry) -> None:
        self._database = database
        self._registry = registry
        self._parked: dict[tuple[str, int], frozenset[str]] = {}
        self._warned: set[tuple[str, int, str]] = set()

    def workflow_for(self, claim: Claim) -> Workflow | None:
        """The workflow that the token can go on with; None, with a warning, where there is none."""
        workflow = self._registry.find(claim.run.workflow, claim.run.version)
        if workflow is not None and self._can_go_on(workflow, claim.token):
            return workflow
        self._warn(claim, workflow)
        return None

    def _can_go_on(self, workflow: Workflow, token: Token) -> bool:
        key = (workflow.name, workflow.version)
        if key not in self._parked:
            with self._database.autocommit() as connection:
                self._parked[key] = definitions.reconcile(connection, workflow.plan)
        return knows(workflow, token) and token.node not in self._parked[key]

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

    def is_transactional(self, workflow: Workflow, token: Token) -> bool:
        """Whether the unit in hand commits together with its own SQL."""
        step = body(workflow.plan, token)
        if not isinstance(step, StepNode):
            return False
        if token.rollback is not None:
            return step.compensator is not None and step.compensator.transactional
        return step.transactional


def knows(workflow: Workflow, token: Token) -> bool:
    """Whether this worker's definition still has what the token stands at."""
    if token.unit == ROLLBACK:
        return True
    if token.unit == RETURNS:
        return workflow.plan.returns
    node = workflow.plan.find(token.node)
    if node is None or not fits(node, token):
        return False
    if token.rollback is None and is_between_steps(node, token):
        return True
    found = body(workflow.plan, token)
    return found is not None and (token.rollback is None or found.is_undoable)

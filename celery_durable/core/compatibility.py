"""Whether a plan fits where a run stands.

Under one version there may be runs of two plans, when a definition was edited in place. Which of
them a run follows is in its journal, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from celery_durable.core.names import RETURNS, ROLLBACK, compensation_of, subunit_of
from celery_durable.core.nodes import Gathers, Node
from celery_durable.core.plan import Outline, Plan
from celery_durable.core.token import Token
from celery_durable.core.units import unit_of

Passed = Sequence[tuple[str, Gathers | None]]
"""The nodes that a run has completed, in order, and what the result of each gathers."""


def can_execute(plan: Plan, token: Token) -> bool:
    """Return True if the plan has the unit of the token."""
    if token.unit == ROLLBACK:
        return True
    if token.unit == RETURNS:
        return plan.returns
    unit = unit_of(plan, token)
    if unit.node is None or not unit.node.fits(token):
        return False
    if token.rollback is not None:
        return unit.body is not None and unit.body.is_undoable
    return unit.body is not None or unit.node.is_at_own_unit(token)


def offers(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield every unit that a process with this plan can execute, each after its node.

    Items and iterations of a node are one unit here. In step with `can_execute`.
    """
    yield ROLLBACK, ROLLBACK
    if plan.returns:
        yield RETURNS, RETURNS
    for node in plan.nodes:
        yield node.name, node.name
        for body in node.bodies:
            unit = node.name
            if node.has_named_parts:
                unit = subunit_of(node.name, body.name)
                yield node.name, unit
            if body.is_undoable:
                yield node.name, compensation_of(unit)


KNOWS_ALL = "*"
"""What a process offers in place of its workflows that learns of them as it goes: a test."""


def version_key(workflow: str, version: int) -> str:
    """Name one version of a workflow as a worker's row does."""
    return f"{workflow}@{version}"


def offer_of(token: Token) -> str:
    """Return the unit of a token as `offers` has it."""
    if token.node in (RETURNS, ROLLBACK):
        return token.node
    unit = token.node if token.part is None else subunit_of(token.node, token.part)
    return unit if token.rollback is None else compensation_of(unit)


def came_by(plan: Plan, token: Token, passed: Passed) -> bool:
    """Return True if a run that `passed` these nodes came to its token's node by this plan.

    They are exactly the nodes before it, and each completed as it would by this plan. In a rollback
    it is enough that all of them are in the plan.
    """
    if token.rollback is not None or token.node == ROLLBACK:
        return all(_gathers(plan.find(name), gathers) for name, gathers in passed)
    before = plan.nodes
    if token.node != RETURNS:
        before = plan.nodes[: plan.names.index(token.node)]
    return [name for name, _ in passed] == [node.name for node in before] and all(
        _gathers(node, gathers) for node, (_, gathers) in zip(before, passed, strict=True)
    )


def _gathers(node: Node | None, gathers: Gathers | None) -> bool:
    return node is not None and node.gathered_as(gathers)


def incompatible(stored: Outline, plan: Plan, in_flight: Iterable[str]) -> frozenset[str]:
    """Return the nodes of `in_flight` from which runs of the stored plan cannot go on by `plan`.

    A run can go on when its node and everything before it are as they were; what comes after may
    differ.
    """
    now = tuple((node.name, node.kind) for node in plan.nodes)
    return frozenset(
        node
        for node in in_flight
        if (before := _before(now, node)) is None or before != _before(stored.nodes, node)
    )


def _before(nodes: tuple[tuple[str, str], ...], name: str) -> tuple[tuple[str, str], ...] | None:
    """The nodes up to `name`; all of them for a unit that follows the last."""
    if name in (RETURNS, ROLLBACK):
        return nodes
    index = next((i for i, (other, _) in enumerate(nodes) if other == name), None)
    return None if index is None else nodes[: index + 1]

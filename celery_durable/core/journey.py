"""Whether a run has come the way that a plan says.

Under one version there may be runs of two plans, when a definition was edited in place. Which of
them a run follows is in its journal, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

from celery_durable.core.names import RETURNS, ROLLBACK
from celery_durable.core.nodes import (
    Gathers,
    Node,
)
from celery_durable.core.plan import Plan
from celery_durable.core.token import Token

Passed = Sequence[tuple[str, Gathers | None]]
"""The nodes that a run has completed, in order, and what the result of each gathers."""


def has_come(plan: Plan, token: Token, passed: Passed) -> bool:
    """Whether a run that has `passed` these nodes stands at `token` by this plan.

    On the way back it is enough that all of them are in the plan.
    """
    if token.rollback is not None or token.node == ROLLBACK:
        return all(_is(plan.find(name), gathers) for name, gathers in passed)
    if token.node == RETURNS:
        before = plan.nodes
    else:
        names = [node.name for node in plan.nodes]
        before = plan.nodes[: names.index(token.node)]
    return [name for name, _ in passed] == [node.name for node in before] and all(
        _is(node, gathers) for node, (_, gathers) in zip(before, passed, strict=True)
    )


def _is(node: Node | None, gathers: Gathers | None) -> bool:
    return node is not None and node.gathered_as(gathers)

"""What a plan says of the unit a token is at, and the token's way from one unit to the next."""

from __future__ import annotations

from dataclasses import replace

from celery_durable.core.decision import JournalRecord, Move, Outcome, Undo
from celery_durable.core.event import Crashed, Failed, Succeeded, Suspended
from celery_durable.core.names import RETURNS, compensation_of, part_of
from celery_durable.core.plan import (
    Body,
    ChildNode,
    LoopNode,
    MapNode,
    Node,
    ParallelNode,
    Plan,
    RouteNode,
    Routing,
    StepNode,
    body_of,
    first_routing,
    first_unit,
    routing_of,
)
from celery_durable.core.retry import RetryPolicy
from celery_durable.core.token import Flags, Token

ONCE = RetryPolicy(max_attempts=1)
"""For the functions between steps (`until`, selectors, ...): what they raise fails the node."""


def body(plan: Plan, token: Token) -> Body | None:
    """The step or child that the unit in hand executes, or undoes; None for a unit without one."""
    node = plan.find(token.node)
    if node is None or (token.rollback is None and is_between_steps(node, token)):
        return None
    return body_of(node, token.part)


def is_between_steps(node: Node, token: Token) -> bool:
    """Whether the unit in hand is the node's own business: it chooses, lists or waits."""
    if token.parent is not None or isinstance(node, StepNode | ChildNode | LoopNode):
        return False
    return token.part is None


def fits(node: Node, token: Token) -> bool:
    """Whether a token may stand at `node` as it does: one of another kind leaves other marks."""
    is_part = token.parent is not None or token.rollback is not None
    match node:
        case ParallelNode() if is_part:
            return token.part is not None
        case MapNode() if is_part:
            return token.part is None and token.position is not None
        case RouteNode():
            return token.part is not None or token.unit == first_unit(node)
        case LoopNode():
            return token.parent is None and token.part is None and token.position is not None
        case _:
            return token.parent is None and token.part is None and token.position is None


def is_transactional(plan: Plan, token: Token) -> bool:
    """Whether the unit is committed together with its own SQL."""
    step = body(plan, token)
    if not isinstance(step, StepNode):
        return False
    if token.rollback is not None:
        return step.compensator is not None and step.compensator.transactional
    return step.transactional


def retry_policy(plan: Plan, token: Token) -> RetryPolicy:
    """The policy of the unit in hand: its step's, or its compensator's on the way back."""
    found = body(plan, token)
    if not isinstance(found, StepNode):
        return ONCE
    if token.rollback is None:
        return found.retry
    return found.compensator.retry if found.compensator else ONCE


def routing(plan: Plan, token: Token) -> Routing:
    """Where the unit in hand is executed."""
    found = body(plan, token)
    if token.rollback is None or not isinstance(found, StepNode):
        return routing_of(found)
    return found.compensator.routing if found.compensator else Routing()


def moved(
    token: Token,
    node: str,
    unit: str,
    *,
    part: str | None = None,
    position: int | None = None,
    input: str | None = None,
) -> Token:
    """The token at another unit, without what belonged to the one it leaves."""
    return Token(
        id=token.id,
        run_id=token.run_id,
        node=node,
        unit=unit,
        rollback=token.rollback,
        parent=token.parent,
        part=part,
        position=position,
        input=input,
    )


def begin(token: Token, node: Node) -> Move:
    """The token comes to `node`."""
    position = 0 if isinstance(node, LoopNode) else None
    there = moved(token, node.name, first_unit(node), position=position)
    return Move(there, first_routing(node))


def begin_returns(token: Token) -> Move:
    """The token comes to what makes the run's result."""
    return Move(moved(token, RETURNS, RETURNS), Routing())


def next_iteration(plan: Plan, token: Token, node: LoopNode, input: str | None) -> Move:
    """The token comes to the next iteration of its loop."""
    position = (token.position or 0) + 1
    unit = part_of(node.name, position)
    there = moved(token, node.name, unit, position=position, input=input)
    return Move(there, routing(plan, there), node.every)


def same_again(plan: Plan, token: Token, delay: float = 0.0) -> Move:
    """The same unit, when `delay` seconds have passed."""
    return Move(replace(token, flags=Flags.NONE), routing(plan, token), delay)


def undo(plan: Plan, token: Token, what: Undo) -> Move:
    """The token comes to the compensation of `what`."""
    unit = compensation_of(what.unit)
    there = moved(token, what.node, unit, part=what.part, position=what.position)
    return Move(there, routing(plan, there))


def record(
    plan: Plan,
    token: Token,
    event: Succeeded | Failed | Crashed | Suspended,
    outcome: Outcome,
) -> JournalRecord:
    """The journal's entry of the unit in hand."""
    is_completed = outcome is Outcome.COMPLETED
    found = body(plan, token)
    is_undoable = (
        is_completed and token.rollback is None and found is not None and found.is_undoable
    )
    return JournalRecord(
        unit=token.unit,
        node=token.node,
        outcome=outcome,
        attempt=token.attempt,
        started_at=event.started_at,
        result=event.result if is_completed and isinstance(event, Succeeded) else None,
        error=event.error if isinstance(event, Failed | Crashed) else None,
        failures=token.failures,
        undoable=is_undoable,
        part=token.part if token.rollback is None else None,
        position=token.position if token.rollback is None else None,
        input=token.input if is_undoable else None,
    )

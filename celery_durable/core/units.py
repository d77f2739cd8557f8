"""What a plan says of the unit a token is at, and the token's way from one unit to the next."""

from __future__ import annotations

from dataclasses import replace

from celery_durable.core.decision import JournalRecord, Move, Outcome, Undo
from celery_durable.core.event import Crashed, Failed, Succeeded, Suspended
from celery_durable.core.names import RETURNS, compensation_of, subunit_of
from celery_durable.core.nodes import ONCE, Body, LoopNode, Node, Routing
from celery_durable.core.plan import Plan
from celery_durable.core.retry import RetryPolicy
from celery_durable.core.token import Flags, Token
from celery_durable.core.values import value
from celery_durable.errors import ErrorRecord


@value(frozen=True, slots=True)
class Unit:
    """What a plan says of one unit.

    `node` is None for what makes the run's result, and for a node that has left the plan. `body` is
    the step or child that is executed, or undone; None where the node's own function is.
    """

    node: Node | None
    body: Body | None
    retry: RetryPolicy
    routing: Routing
    is_transactional: bool


def unit_of(plan: Plan, token: Token) -> Unit:
    """Return the unit that the token is at. A plan makes each once."""
    key = (token.node, token.part, token.parent is None, token.rollback is None)
    found = plan.units.get(key)
    if found is None:
        found = plan.units[key] = _unit(plan, token)
    return found


def _unit(plan: Plan, token: Token) -> Unit:
    node = plan.find(token.node)
    body = None if node is None else node.body(token.part)
    if token.rollback is None and node is not None and node.is_at_own_unit(token):
        body = None
    if body is None:
        return Unit(node, None, ONCE, Routing(), is_transactional=False)
    if token.rollback is None:
        return Unit(node, body, body.retry, body.routing, body.transactional)
    undoing = body.compensator
    if undoing is None:
        return Unit(node, body, ONCE, Routing(), is_transactional=False)
    return Unit(node, body, undoing.retry, undoing.routing, undoing.transactional)


def moved(
    token: Token,
    node: str,
    unit: str,
    *,
    part: str | None = None,
    position: int | None = None,
    input: str | None = None,
) -> Token:
    """Make the token at another unit, without what belonged to the one it leaves."""
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
    """Move the token to `node`."""
    there = moved(token, node.name, node.first_unit, position=node.first_position)
    return Move(there, node.first_routing)


def begin_returns(token: Token) -> Move:
    """Move the token to the function that makes the run's result."""
    return Move(moved(token, RETURNS, RETURNS), Routing())


def next_iteration(plan: Plan, token: Token, node: LoopNode, input: str | None) -> Move:
    """Move the token to the next iteration of its loop."""
    position = (token.position or 0) + 1
    unit = subunit_of(node.name, position)
    there = moved(token, node.name, unit, position=position, input=input)
    return Move(there, unit_of(plan, there).routing, node.every)


def same_again(plan: Plan, token: Token, delay: float = 0.0) -> Move:
    """Move the token to its own unit once more, after `delay` seconds."""
    return Move(replace(token, flags=Flags.NONE), unit_of(plan, token).routing, delay)


def undo(plan: Plan, token: Token, what: Undo) -> Move:
    """Move the token to the compensation of `what`."""
    unit = compensation_of(what.unit)
    there = moved(token, what.node, unit, part=what.part, position=what.position)
    return Move(there, unit_of(plan, there).routing)


def record(
    plan: Plan,
    token: Token,
    event: Succeeded | Failed | Crashed | Suspended,
    outcome: Outcome,
) -> JournalRecord:
    """Make the journal's record of the unit that the token is at."""
    is_completed = outcome is Outcome.COMPLETED
    is_forward = token.rollback is None
    body = unit_of(plan, token).body
    is_undoable = is_completed and is_forward and body is not None and body.is_undoable
    error = event.error if isinstance(event, Failed | Crashed) else None
    if isinstance(event, Succeeded) and event.by_hand:
        error = ErrorRecord("Skipped", "recorded by hand; nothing was executed", unit=token.unit)
    return JournalRecord(
        unit=token.unit,
        node=token.node,
        outcome=outcome,
        attempt=token.attempt,
        started_at=event.started_at,
        result=event.result if is_completed and isinstance(event, Succeeded) else None,
        error=error,
        failures=token.failures,
        undoable=is_undoable,
        part=token.part if is_forward else None,
        position=token.position if is_forward else None,
        input=token.input if is_undoable else None,
    )

"""The table of a token's changes says what `decide` decides: no less, and no more.

From the first token of a plan with every kind of node, every event that can happen to a token is
decided on, and so on from each token that comes of it, until nothing new comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from uuid import UUID

import pytest

from celery_durable.core.child import ReopenedRun
from celery_durable.core.decide import decide
from celery_durable.core.decision import Decision, End, Fork, Leave, Undo
from celery_durable.core.event import (
    Arrived,
    ChildEnded,
    ChildRequested,
    Chosen,
    Crashed,
    Elapsed,
    Event,
    Failed,
    Flagged,
    Iteration,
    Joined,
    Listed,
    Signalled,
    SleepRequested,
    Succeeded,
    Suspended,
)
from celery_durable.core.names import RETURNS, ROLLBACK
from celery_durable.core.nodes import (
    ChildNode,
    Compensator,
    LoopNode,
    MapNode,
    Node,
    ParallelNode,
    RouteNode,
    SignalNode,
    SleepNode,
    StepNode,
)
from celery_durable.core.plan import Plan
from celery_durable.core.retry import RetryPolicy
from celery_durable.core.rollback import compensate
from celery_durable.core.status import Status
from celery_durable.core.token import (
    Flags,
    ForBranches,
    ForChild,
    ForOperator,
    ForSignal,
    ForTimer,
    Token,
)
from celery_durable.core.units import unit_of
from celery_durable.errors import ErrorRecord
from tests.model.token_changes import CHANGES, TokenState, change_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ERROR = ErrorRecord("ValueError", "no")
TWICE = RetryPolicy(max_attempts=2, jitter=False)
CHILD = UUID(int=3)
FLAGS = (Flags.NONE, Flags.CANCEL, Flags.CANCEL | Flags.COMPENSATE)


def step(name: str) -> StepNode:
    return StepNode(name, TWICE, compensator=Compensator(TWICE), suspends=True)


NODES: tuple[Node, ...] = (
    step("step"),
    StepNode("patient", RetryPolicy(max_attempts=1, on_exhausted="pause")),
    ChildNode("child", "other", cascade=True),
    ParallelNode("parallel", (step("a"), ChildNode("b", "other")), fail_fast=True),
    MapNode("map", step("item")),
    RouteNode("route", (step("one"), ChildNode("two", "other")), default=None),
    LoopNode("loop", step("body"), 2, fails_when_exhausted=True),
    SleepNode("sleep", 5.0),
    SignalNode("signal", "go", timeout=5.0),
)
PLAN = Plan("order", 1, NODES, returns=True)
UNDOS = (None, Undo("step", "step"), Undo("child", "child"))


def events(token: Token) -> Iterator[Event]:
    """What can happen to a token where it is."""
    if token.flags & Flags.CANCEL and not isinstance(token.wait, ForChild | ForBranches):
        yield Flagged()
    match token.wait:
        case ForSignal():
            yield from (Signalled(1, "1", NOW), Elapsed(ERROR, NOW))
        case ForTimer():
            yield Elapsed(ERROR, NOW)
        case ForChild():
            for status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED):
                yield ChildEnded(CHILD, status, ERROR, NOW)
        case ForBranches():
            yield from (Joined(None, NOW), Joined(ERROR, NOW))
        case ForOperator():
            if Flags.SKIP in token.flags:
                yield Succeeded("1", NOW, by_hand=True)
        case None:
            yield from _executed(token)


def _executed(token: Token) -> Iterator[Event]:
    if token.unit == ROLLBACK:
        yield Arrived()
        return
    node = PLAN.find(token.node)
    yield from (Failed(ERROR, NOW), Failed(ERROR, NOW, may_retry=False), Crashed(ERROR, NOW))
    match unit_of(PLAN, token).body:
        case ChildNode():
            yield ChildRequested(ReopenedRun(CHILD, CHILD, CHILD, "durable"), NOW)
        case StepNode():
            yield Succeeded("1", NOW, iteration=_iteration(node, is_done=False))
            yield Succeeded("1", NOW, iteration=_iteration(node, is_done=True))
            if token.rollback is None:
                yield Suspended("1", NOW)
        case None:
            yield from _between_steps(token, node)


def _iteration(node: Node | None, *, is_done: bool) -> Iteration | None:
    return Iteration(is_done=is_done) if isinstance(node, LoopNode) else None


def _between_steps(token: Token, node: Node | None) -> Iterator[Event]:
    match node:
        case ParallelNode():
            yield Arrived()
        case MapNode():
            yield from (Listed((), NOW), Listed(("1", "2"), NOW))
        case RouteNode():
            yield from (Chosen('"x"', None, NOW), Chosen('"one"', "one", NOW))
            yield Chosen('"two"', "two", NOW)
        case SleepNode():
            yield SleepRequested(5.0, NOW)
        case SignalNode():
            yield from (Arrived(), Signalled(1, "1", NOW))
        case _:
            assert token.unit == RETURNS
            yield Succeeded("1", NOW)


def following(decision: Decision) -> Iterator[Token]:
    """The tokens that come of a decision, branches among them."""
    then = decision.then
    if isinstance(then, Leave | End):
        return
    yield replace(then.token, failures=())
    if isinstance(then, Fork):
        for branch in then.branches:
            parent = then.token
            yield Token(
                UUID(int=9),
                parent.run_id,
                node=parent.node,
                unit=branch.unit,
                parent=parent.id,
                part=branch.part,
                position=branch.position,
                input=branch.input,
            )


def decided(plan: Plan, token: Token, event: Event, undo: Undo | None) -> Decision:
    """As the shell commits it; `undo` is what the journal says is to be undone next."""
    found = decide(plan, token, event, NOW)
    return found if isinstance(found, Decision) else compensate(plan, found, undo)


@cache
def decisions() -> tuple[Decision, ...]:
    """Every decision there is."""
    first = Token(UUID(int=1), UUID(int=2), node="step", unit="step")
    undone = replace(first, node=ROLLBACK, unit=ROLLBACK, rollback=Status.CANCELLED)
    made: list[Decision] = []
    seen, left = {first, undone}, [first, undone]
    while left:
        at = left.pop()
        skipped = (Flags.SKIP,) if isinstance(at.wait, ForOperator) else ()
        for flags in (*FLAGS, *skipped):
            token = replace(at, flags=flags)
            for event in events(token):
                for undo in UNDOS:
                    decision = decided(PLAN, token, event, undo)
                    made.append(decision)
                    new = set(following(decision)) - seen
                    seen |= new
                    left += new
    return tuple(made)


def changes() -> set[tuple[TokenState, TokenState]]:
    """The changes; a token that goes on waiting as it was has not changed."""
    made = {change_of(decision) for decision in decisions()}
    return {change for change in made if change[0] is TokenState.READY or change[0] != change[1]}


def test_decide_makes_every_change_of_the_table_and_no_other() -> None:
    assert changes() == {(before, after) for before in CHANGES for after in CHANGES[before]}


def test_every_node_and_every_place_is_come_to() -> None:
    found = {decision.token.node for decision in decisions()}
    assert found == {*PLAN.names, RETURNS, ROLLBACK}
    assert {before for before, _ in changes()} == set(TokenState) - {TokenState.GONE}


@pytest.mark.parametrize("place", sorted(set(TokenState) - {TokenState.READY, TokenState.GONE}))
def test_a_wait_is_left_before_another_begins(place: TokenState) -> None:
    """So that what one wait was about (its time, its signal) cannot be taken for the next one's."""
    assert CHANGES[place] == {TokenState.READY, TokenState.GONE}

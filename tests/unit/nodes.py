"""A plan with every kind of node, and the tokens that stand in it."""

from typing import Any
from uuid import UUID

from celery_durable.core.child import ReopenedRun
from celery_durable.core.decision import Undo
from celery_durable.core.names import choice_of, subunit_of
from celery_durable.core.nodes import (
    ChildNode,
    LoopNode,
    MapNode,
    Node,
    ParallelNode,
    RouteNode,
    Routing,
    SignalNode,
    SleepNode,
    StepNode,
)
from celery_durable.core.plan import Plan
from celery_durable.core.token import ForBranches, ForChild, ForSignal, ForTimer, Token
from celery_durable.errors import ErrorRecord
from tests.unit.values import RETRY, at, node, plan

PARENT = UUID("01900000-0000-7000-8000-00000000000a")
CHILD = UUID("01900000-0000-7000-8000-00000000000c")

STARTED = ReopenedRun(CHILD, PARENT, PARENT, "durable")
"""A child to be started; which of the two kinds it is makes no difference to what is decided."""

CHILD_FAILED = ErrorRecord("ChildFailed", "the child run is failed")
TOO_LATE = ErrorRecord("SignalTimeout", "the signal did not come in time")

CHECKS = ParallelNode("checks", (node("fraud", compensated=True), ChildNode("stock", "stock", 4)))
LINES = MapNode("lines", node("pick", compensated=True))
RAIL = RouteNode("rail", (node("wire", compensated=True), ChildNode("card", "card")))
POLL = LoopNode("poll", node("ask", compensated=True), max_iterations=3, every=5.0)
COOLDOWN = SleepNode("cooldown", 60.0)
SIGNOFF = SignalNode("signoff", "founder-signoff", timeout=90.0)
FULFIL = ChildNode("fulfil", "fulfilment", cascade=True)

RESERVE = node("reserve", compensated=True)
BOOK = node("book")

EVERYTHING = plan(RESERVE, CHECKS, LINES, RAIL, POLL, COOLDOWN, SIGNOFF, FULFIL, BOOK)

RESERVED = Undo("reserve", "reserve")


def around(of: Node) -> Plan:
    """A plan in which this node stands between two steps."""
    return plan(RESERVE, of, BOOK)


def timed(name: str) -> StepNode:
    return StepNode(name, RETRY, Routing("slow", time_limit=30.0))


def branch(part: str = "fraud", position: int = 0, **changes: Any) -> Token:
    return at(subunit_of("checks", part), parent=PARENT, part=part, position=position, **changes)


def item(position: int = 0, **changes: Any) -> Token:
    return at(
        subunit_of("lines", position),
        **{"parent": PARENT, "position": position, "input": "7"} | changes,
    )


def choosing(**changes: Any) -> Token:
    return at(choice_of("rail"), **changes)


def case(part: str = "wire", **changes: Any) -> Token:
    return at("rail", part=part, **changes)


def iteration(position: int = 0, **changes: Any) -> Token:
    return at(subunit_of("poll", position), position=position, **changes)


FORKED = at("checks", wait=ForBranches(0))
MAPPED = at("lines", wait=ForBranches(0))
SLEEPING = at("cooldown", wait=ForTimer())
AWAITING = at("signoff", wait=ForSignal("founder-signoff"))
WITH_CHILD = at("fulfil", wait=ForChild(CHILD))

"""Plans and runs to draw: every kind of node, named and standing in any way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from xml.etree import ElementTree as ET

from hypothesis import strategies as st

from celery_durable.core.nodes import (
    Body,
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
from celery_durable.core.status import Status
from celery_durable.errors import ErrorRecord
from celery_durable.store.read.overview import Tally
from celery_durable.store.read.position import Forked
from celery_durable.store.read.units import UnitInHand
from celery_durable.view.nodes import NodeState, NodeView
from celery_durable.view.picture.chart import Shown

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RETRY = RetryPolicy()
SVG = "{http://www.w3.org/2000/svg}"


def step(name: str, *, undoable: bool = False) -> StepNode:
    return StepNode(name, RETRY, compensator=Compensator(RETRY) if undoable else None)


def shown(*nodes: Node, views: Sequence[NodeView] = (), **options: Any) -> Shown:
    """A plan, and with `views` a run of it."""
    plan = Plan("order", 2, nodes, returns=options.pop("returns", False)).as_data()
    if views:
        options.setdefault("status", Status.RUNNING)
        options.setdefault("run_id", UUID(int=1))
    return Shown(plan, NOW, {view.name: view for view in views}, **options)


def unit(name: str, **options: Any) -> UnitInHand:
    """A unit that the run stands at, for ten seconds."""
    since = NOW - timedelta(seconds=10)
    node = options.pop("node", name.partition("#")[0])
    options.setdefault("is_executing", False)
    if options.get("waits_for"):
        options.setdefault("waiting_since", since)
    return UnitInHand(unit=name, node=node, attempt=1, since=since, **options)


def tally(completed: int, failed: int = 0, undone: int = 0) -> Tally:
    return Tally(completed, failed, 0, undone, 0, NOW - timedelta(seconds=20), NOW)


def parsed(picture: str) -> ET.Element:
    """A picture as XML, without anything that a page's policy forbids."""
    root = ET.fromstring(picture)
    assert root.tag == f"{SVG}svg"
    for element in root.iter():
        assert element.tag.removeprefix(SVG) in ALLOWED
        assert not {name for name in element.attrib if name == "style" or name.startswith("on")}
    return root


ALLOWED = frozenset(
    {"svg", "g", "a", "path", "rect", "circle", "text", "tspan", "title", "desc", "style"}
)


def texts(root: ET.Element, tag: str = "text") -> list[str]:
    """What is written in a picture; `tag="title"` has it whole."""
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}{tag}")]


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="#\0"), max_size=30)


@st.composite
def bodies(draw: st.DrawFn, name: str) -> Body:
    if draw(st.booleans()):
        return step(name, undoable=draw(st.booleans()))
    return ChildNode(name, draw(names), draw(st.sampled_from([None, 3])))


@st.composite
def nodes(draw: st.DrawFn, number: int) -> Node:
    """A node of any kind; its name is no other's."""
    name = f"{number}{draw(names)}"
    kind = draw(st.sampled_from(["body", "parallel", "map", "route", "loop", "sleep", "signal"]))
    count = draw(st.integers(1, 9)) if kind in ("parallel", "route") else 1
    parts = [draw(bodies(f"{index}{draw(names)}")) for index in range(count)]
    made: dict[str, Callable[[], Node]] = {
        "parallel": lambda: ParallelNode(name, tuple(parts)),
        "map": lambda: MapNode(name, parts[0], max_concurrency=draw(st.sampled_from([None, 7]))),
        "route": lambda: RouteNode(
            name, tuple(parts), draw(st.sampled_from([False, None, parts[0].name]))
        ),
        "loop": lambda: LoopNode(
            name, parts[0], draw(st.integers(1, 999)), draw(st.sampled_from([0, 9]))
        ),
        "sleep": lambda: SleepNode(name, draw(st.sampled_from([None, 90]))),
        "signal": lambda: SignalNode(name, draw(names), draw(st.sampled_from([None, 90]))),
        "body": lambda: draw(bodies(name)),
    }
    return made[kind]()


states = st.sampled_from(NodeState)
errors = st.none() | st.builds(ErrorRecord, names, names, unit=st.just("u"))
forks = st.none() | st.builds(
    lambda ended, left, failed: Forked(ended + left, ended, failed, left, 0, 0),
    st.integers(0, 99),
    st.integers(1, 99),
    st.integers(0, 99),
)
tallies = st.none() | st.builds(tally, st.integers(0, 99), st.integers(0, 9), st.integers(0, 9))


@st.composite
def views(draw: st.DrawFn, node: Node) -> NodeView:
    """How a node stands; whether a run can stand so does not matter."""
    inner = [body.name for body in node.bodies] if isinstance(node, ParallelNode) else []
    cases = [body.name for body in node.bodies] if isinstance(node, RouteNode) else []
    run_id = draw(st.none() | st.uuids(version=4)) if not isinstance(node, MapNode) else None
    return NodeView(
        node.name,
        draw(states),
        attempt=draw(st.integers(1, 9)),
        error=draw(errors),
        kind=node.kind,
        branch=draw(st.sampled_from([None, *cases])),
        forked=draw(forks),
        tally=draw(tallies),
        parts=tuple(
            NodeView(
                name,
                draw(states),
                error=draw(errors),
                child_run_id=draw(st.none() | st.uuids(version=4)),
            )
            for name in inner
        ),
        units=tuple(
            unit(one, is_executing=draw(st.booleans()))
            for one in [node.name][: draw(st.integers(0, 1))]
        ),
        child_run_id=run_id,
    )


@st.composite
def pictures(draw: st.DrawFn, depth: int = 1) -> Shown:
    """A plan, or a run of one, with child runs opened that deep."""
    made = [draw(nodes(number)) for number in range(draw(st.integers(1, 4)))]
    if draw(st.booleans()) and depth:
        return shown(*made, returns=draw(st.booleans()))
    found = [draw(views(node)) for node in made]
    runs = [one.child_run_id for view in found for one in (view, *view.parts) if one.child_run_id]
    opened = runs[: draw(st.integers(0, 2))] if depth else []
    keys = {str(run_id) for run_id in opened} | {node.name for node in made if draw(st.booleans())}
    status = draw(st.sampled_from([Status.RUNNING, Status.COMPENSATING, Status.FAILED]))
    run_id = draw(st.uuids(version=4))
    children = {child: child_of(draw(pictures(depth=0)), child) for child in opened}
    return shown(
        *made,
        views=found,
        opened=frozenset(keys),
        status=status,
        run_id=run_id,
        children=children,
        is_child=not depth,
    )


def child_of(picture: Shown, run_id: UUID) -> Shown:
    """The picture of a run within its parent's."""
    return Shown(
        picture.plan, NOW, picture.nodes, picture.status, run_id, picture.opened, is_child=True
    )

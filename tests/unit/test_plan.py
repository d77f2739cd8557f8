"""Plans: position is a name, and which edited plan a run in flight can go on with (P10)."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_durable.core.compatibility import incompatible
from celery_durable.core.names import RETURNS
from celery_durable.core.nodes import (
    Body,
    ChildNode,
    Compensator,
    LoopNode,
    MapNode,
    Node,
    ParallelNode,
    RouteNode,
    Routing,
    SignalNode,
    SleepNode,
    StepNode,
    Tolerance,
)
from celery_durable.core.plan import Outline, Plan
from celery_durable.core.retry import UNLIMITED, RetryPolicy
from tests.unit.values import RETRY, node, place, plan, undoable

CHILD = ChildNode("goods", "stock", version=2)

KINDS: dict[str, tuple[Node, tuple[Body, ...]]] = {
    "step": (node("x"), (node("x"),)),
    "child": (ChildNode("x", "stock"), (ChildNode("x", "stock"),)),
    "parallel": (ParallelNode("x", (node("fraud"), CHILD)), (node("fraud"), CHILD)),
    "map": (MapNode("x", node("pick")), (node("pick"),)),
    "route": (RouteNode("x", (node("wire"), CHILD)), (node("wire"), CHILD)),
    "loop": (LoopNode("x", node("look"), max_iterations=3), (node("look"),)),
    "sleep": (SleepNode("x", 60.0), ()),
    "signal": (SignalNode("x", "signoff", timeout=60.0), ()),
}

each_kind = pytest.mark.parametrize(
    ("kind", "one", "bodies"), [(kind, *of) for kind, of in KINDS.items()], ids=KINDS
)

ABC = plan("a", node("b", compensated=True), "c")

node_names = st.lists(st.sampled_from("abcdef"), min_size=1, unique=True)


def outline(*names: str) -> Outline:
    return Outline.of(plan(*names).as_data())


def test_position_is_a_name() -> None:
    assert ABC.names == ("a", "b", "c")
    assert ABC.nodes[0].name == "a"
    assert ABC.find("b") is ABC.nodes[1]
    assert ABC.after("a") is ABC.nodes[1]


def test_nothing_follows_the_last_node() -> None:
    assert ABC.after("c") is None


def test_a_node_that_is_not_in_the_plan_is_not_found() -> None:
    assert ABC.find("x") is None


def test_a_plan_knows_which_nodes_can_be_undone() -> None:
    assert undoable(ABC) == ("b",)


def test_equal_definitions_make_equal_plans() -> None:
    assert plan("a", node("b", compensated=True), "c") == ABC
    assert plan("a", "b", "c") != ABC
    assert plan("a", node("b", compensated=True), "c", returns=True) != ABC


def test_a_plan_that_was_looked_at_still_equals_its_twin() -> None:
    fresh = plan("a", node("b", compensated=True), "c")
    looked_at = plan("a", node("b", compensated=True), "c")
    assert looked_at.after(looked_at.names[0]) == looked_at.find(undoable(looked_at)[0])
    assert fresh == looked_at
    assert hash(fresh) == hash(looked_at)


def test_what_is_stored_of_a_plan_is_json_without_callables() -> None:
    stored = json.loads(json.dumps(ABC.as_data()))
    assert (stored["workflow"], stored["version"], stored["returns"]) == ("order", 1, False)
    assert [(n["name"], n["kind"], n["compensated"]) for n in stored["nodes"]] == [
        ("a", "step", False),
        ("b", "step", True),
        ("c", "step", False),
    ]


def test_how_often_units_are_tried_is_stored_by_their_names() -> None:
    def tried(name: str, attempts: int, undo: int | None = None) -> StepNode:
        undoing = None if undo is None else Compensator(RetryPolicy(max_attempts=undo))
        return StepNode(name, RetryPolicy(max_attempts=attempts), compensator=undoing)

    nodes = (
        tried("a", 2, undo=3),
        tried("without a limit", UNLIMITED),
        ParallelNode("p", (tried("x", 4), ChildNode("y", "other"))),
        MapNode("m", tried("i", 5, undo=6)),
        RouteNode("r", (tried("c", 7),)),
        LoopNode("l", tried("b", 8), max_iterations=2),
        SignalNode("s", "go"),
        ChildNode("k", "other"),
    )
    assert Plan("order", 1, nodes).as_data()["max_attempts"] == {
        "a": 2,
        "a#compensate": 3,
        "p#x": 4,
        "m#*": 5,
        "m#*#compensate": 6,
        "r#c": 7,
        "l#*": 8,
    }


def test_an_outline_is_what_starting_a_run_needs_of_a_stored_plan() -> None:
    stored = json.loads(json.dumps(ABC.as_data()))
    steps = (("a", "step"), ("b", "step"), ("c", "step"))
    assert Outline.of(stored) == Outline("order", 1, steps, place("a"), "a", "a")
    assert Outline.of(stored).names == ("a", "b", "c")
    assert Outline.of(stored).first_position is None


def test_an_outline_may_begin_at_a_later_node_or_at_the_result() -> None:
    stored = ABC.as_data()
    later = Outline.of(stored, "b")
    assert (later.first_node, later.first_unit, later.first) == ("b", "b", place("b"))
    result = Outline.of(stored, RETURNS)
    assert (result.first_node, result.first_unit) == (RETURNS, RETURNS)
    assert (result.first, result.first_position) == (Routing(), None)


def test_a_default_placement_is_stored_as_such() -> None:
    bare = Plan("order", 1, (StepNode("a", RETRY),))
    assert Outline.of(bare.as_data()).first == Routing(None, None)


@each_kind
def test_every_kind_of_node_has_its_word_and_its_bodies(
    kind: str, one: Node, bodies: tuple[Body, ...]
) -> None:
    assert one.kind == kind
    assert one.bodies == bodies


def test_a_unit_s_body_is_its_branch_s_its_case_s_or_the_only_one() -> None:
    for kind in ("parallel", "route"):
        one, _ = KINDS[kind]
        assert one.body("goods") is CHILD
        assert one.body("gone") is one.body(None) is None
    for kind in ("step", "child", "map", "loop"):
        one, bodies = KINDS[kind]
        assert one.body(None) == bodies[0]
    for kind in ("sleep", "signal"):
        assert KINDS[kind][0].body(None) is None


@pytest.mark.parametrize(
    ("tolerance", "total", "may_fail", "stored"),
    [
        (Tolerance(0), 10, 0, 0),
        (Tolerance(3), 2, 3, 3),
        (Tolerance(percent=Decimal(5)), 100, 5, "5%"),
        (Tolerance(percent=Decimal(5)), 99, 4, "5%"),
        (Tolerance(percent=Decimal(29)), 100, 29, "29%"),
        (Tolerance(percent=Decimal("0.1")), 100_000, 100, "0.1%"),
        (Tolerance(percent=Decimal(100)), 7, 7, "100%"),
    ],
)
def test_a_percentage_of_the_items_is_rounded_down(
    tolerance: Tolerance, total: int, may_fail: int, stored: object
) -> None:
    assert tolerance.of(total) == may_fail
    one = MapNode("x", node("pick"), tolerance=tolerance)
    assert one.tolerates(may_fail, total)
    assert not one.tolerates(may_fail + 1, total)
    assert one.as_data()["tolerate"] == stored


def test_no_other_node_tolerates_a_branch_that_has_failed() -> None:
    assert not [kind for kind, (one, _) in KINDS.items() if one.tolerates(1, 100)]


@pytest.mark.parametrize(("kind", "unit"), [("route", "x#route"), ("loop", "x#0")])
def test_a_run_that_comes_to_a_route_or_a_loop_is_at_its_first_part(kind: str, unit: str) -> None:
    assert KINDS[kind][0].first_unit == unit


def test_a_run_that_comes_to_any_other_node_is_at_the_node() -> None:
    for kind in KINDS.keys() - {"route", "loop"}:
        assert KINDS[kind][0].first_unit == "x"


def test_a_step_has_its_own_place_and_the_rest_the_run_s() -> None:
    assert node("x").routing == node("x").first_routing == place("x")
    assert CHILD.routing == Routing()
    for kind in ("child", "parallel", "map", "route", "sleep", "signal"):
        assert KINDS[kind][0].first_routing == Routing()


@each_kind
def test_what_is_stored_of_every_kind_of_node_is_json_that_an_outline_is_made_of(
    kind: str, one: Node, bodies: tuple[Body, ...]
) -> None:
    stored = json.loads(json.dumps(Plan("order", 1, (one, node("end"))).as_data()))
    outline = Outline.of(stored)
    assert outline.nodes == (("x", kind), ("end", "step"))
    assert outline.first == one.first_routing
    assert outline.first_unit == one.first_unit
    assert outline.first_position == (0 if kind == "loop" else None)
    assert all(body.name in json.dumps(stored["nodes"][0]) for body in bodies)


@pytest.mark.parametrize(
    ("one", "can_be"),
    [
        (ParallelNode("x", (node("a"), node("b", compensated=True))), True),
        (ParallelNode("x", (node("a"), CHILD)), False),
        (MapNode("x", node("a", compensated=True)), True),
        (RouteNode("x", (node("a"), node("b", compensated=True))), True),
        (LoopNode("x", node("a", compensated=True), 3), True),
        (LoopNode("x", node("a"), 3), False),
        (ChildNode("x", "stock", cascade=True), True),
        (ChildNode("x", "stock"), False),
        (SleepNode("x", 1.0), False),
        (SignalNode("x", "signoff"), False),
    ],
)
def test_a_node_can_be_undone_if_something_in_it_can(one: Node, can_be: bool) -> None:
    assert undoable(Plan("order", 1, (one,))) == (("x",) if can_be else ())


def test_a_node_of_another_kind_is_another_node() -> None:
    stored = Outline.of(Plan("order", 1, (node("x"), node("end"))).as_data())
    for kind in KINDS.keys() - {"step"}:
        edited = Plan("order", 1, (KINDS[kind][0], node("end")))
        assert incompatible(stored, edited, ["x", "end"]) == {"x", "end"}


@pytest.mark.parametrize(
    ("edited", "parked"),
    [
        pytest.param("abc", "", id="unchanged"),
        pytest.param("abcd", "#", id="added at the end"),
        pytest.param("abxc", "c#", id="added in the middle"),
        pytest.param("xabc", "abc#", id="added before all"),
        pytest.param("ab", "c#", id="last one removed"),
        pytest.param("ac", "bc#", id="middle one removed"),
        pytest.param("bac", "abc#", id="first two swapped"),
        pytest.param("acb", "bc#", id="last two swapped"),
        pytest.param("xyz", "abc#", id="renamed"),
    ],
)
def test_a_run_goes_on_if_its_node_and_all_before_it_are_as_they_were(
    edited: str, parked: str
) -> None:
    expected = {RETURNS if name == "#" else name for name in parked}
    in_flight = ["a", "b", "c", RETURNS]
    assert incompatible(outline(*"abc"), plan(*edited, returns=True), in_flight) == expected


def test_only_nodes_at_which_runs_stand_are_asked_about() -> None:
    assert incompatible(outline(*"abc"), plan(*"ac"), ["a"]) == frozenset()
    assert incompatible(outline(*"abc"), plan(*"ac"), []) == frozenset()
    assert incompatible(outline(*"abc"), plan(*"ac"), ["c", "c"]) == {"c"}


def test_a_node_that_neither_plan_has_cannot_be_gone_on_from() -> None:
    assert incompatible(outline(*"ab"), plan(*"ab"), ["gone"]) == {"gone"}


@given(node_names, node_names)
def test_compatible_means_that_the_same_nodes_lead_to_the_node(
    stored: list[str], edited: list[str]
) -> None:
    parked = incompatible(outline(*stored), plan(*edited), stored)
    for position, name in enumerate(stored):
        same = edited[: position + 1] == stored[: position + 1]
        assert (name in parked) is not same

"""Plans: position is a name, and which edited plan a run in flight can go on with (P10)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_durable.core.names import RETURNS
from celery_durable.core.plan import Outline, Placement, Plan, StepNode, incompatible
from tests.unit.values import RETRY, node, place, plan

ABC = plan("a", node("b", compensated=True), "c")

node_names = st.lists(st.sampled_from("abcdef"), min_size=1, unique=True)


def outline(*names: str) -> Outline:
    return Outline.of(plan(*names).as_data())


def test_position_is_a_name() -> None:
    assert ABC.names == ("a", "b", "c")
    assert ABC.first is ABC.nodes[0]
    assert ABC.find("b") is ABC.nodes[1]
    assert ABC.after("a") is ABC.nodes[1]


def test_nothing_follows_the_last_node() -> None:
    assert ABC.after("c") is None


def test_a_node_that_is_not_in_the_plan_is_not_found() -> None:
    assert ABC.find("x") is None


def test_a_plan_knows_which_nodes_can_be_undone() -> None:
    assert ABC.undoable == ("b",)


def test_equal_definitions_make_equal_plans() -> None:
    assert plan("a", node("b", compensated=True), "c") == ABC
    assert plan("a", "b", "c") != ABC
    assert plan("a", node("b", compensated=True), "c", returns=True) != ABC


def test_a_plan_that_was_looked_at_still_equals_its_twin() -> None:
    fresh = plan("a", node("b", compensated=True), "c")
    looked_at = plan("a", node("b", compensated=True), "c")
    assert looked_at.after(looked_at.names[0]) == looked_at.find(looked_at.undoable[0])
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


def test_an_outline_is_what_starting_a_run_needs_of_a_stored_plan() -> None:
    stored = json.loads(json.dumps(ABC.as_data()))
    assert Outline.of(stored) == Outline("order", 1, ("a", "b", "c"), place("a"))


def test_a_default_placement_is_stored_as_such() -> None:
    bare = Plan("order", 1, (StepNode("a", RETRY),))
    assert Outline.of(bare.as_data()).first == Placement(None, None)


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

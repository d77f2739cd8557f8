"""The geometry of graphs: whatever the workflow, nothing lies over anything else."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_durable.core.nodes import LoopNode, Node, ParallelNode, SleepNode
from celery_durable.view.picture.chart import Shown, chart_of
from celery_durable.view.picture.graph import Links, graph
from celery_durable.view.picture.layout import laid_out
from celery_durable.view.picture.places import Box, Flow, Layout, Point
from celery_durable.view.picture.text import cut, plain, width
from tests.unit.picturing import names, pictures, shown, step

FLOWS = st.sampled_from(Flow)
ALMOST = 0.02

SOME = settings(max_examples=40)


def overlap(one: Box, other: Box) -> bool:
    return (
        one.x < other.right - ALMOST
        and other.x < one.right - ALMOST
        and one.y < other.bottom - ALMOST
        and other.y < one.bottom - ALMOST
    )


def contains(frame: Box, box: Box) -> bool:
    return (
        frame.x - ALMOST <= box.x
        and box.right <= frame.right + ALMOST
        and frame.y - ALMOST <= box.y
        and box.bottom <= frame.bottom + ALMOST
    )


def is_at_border(point: Point, box: Box) -> bool:
    within_x = box.x - ALMOST <= point.x <= box.right + ALMOST
    within_y = box.y - ALMOST <= point.y <= box.bottom + ALMOST
    at_x = min(abs(point.x - box.x), abs(point.x - box.right)) <= ALMOST
    at_y = min(abs(point.y - box.y), abs(point.y - box.bottom)) <= ALMOST
    return within_x and within_y and (at_x or at_y)


@SOME
@given(pictures(), FLOWS)
def test_no_two_boxes_overlap_but_for_a_frame_and_what_is_in_it(picture: Shown, flow: Flow) -> None:
    layout = laid_out(chart_of(picture), flow)
    for one, other in combinations(layout.boxes, 2):
        if overlap(one, other):
            assert (one.is_frame and contains(one, other)) or (
                other.is_frame and contains(other, one)
            )


@SOME
@given(pictures(), FLOWS)
def test_every_edge_leads_from_the_border_of_a_box_to_that_of_another(
    picture: Shown, flow: Flow
) -> None:
    layout = laid_out(chart_of(picture), flow)
    boxes = {box.card.id: box for box in layout.boxes}
    assert len(boxes) == len(layout.boxes)
    for edge in layout.edges:
        assert is_at_border(edge.points[0], boxes[edge.source.id])
        assert is_at_border(edge.points[-1], boxes[edge.target.id])
        for before, after in zip(edge.points, edge.points[1:], strict=False):
            assert before.x == after.x or before.y == after.y


@SOME
@given(pictures(), FLOWS)
def test_every_card_is_reached(picture: Shown, flow: Flow) -> None:
    layout = laid_out(chart_of(picture), flow)
    reached = {edge.target.id for edge in layout.edges if edge.source.id != edge.target.id}
    heads = {box.card.id.removesuffix("##frame") for box in layout.boxes if box.is_frame}
    begin = "##begin" if not picture.is_child else f"{picture.run_id}###begin"
    assert {box.card.id for box in layout.boxes} - reached <= {begin, *heads}


@SOME
@given(pictures(), FLOWS)
def test_everything_lies_within_the_picture(picture: Shown, flow: Flow) -> None:
    layout = laid_out(chart_of(picture), flow)
    for box in layout.boxes:
        assert box.x >= 0
        assert box.y >= 0
        assert box.right <= layout.width
        assert box.bottom <= layout.height
    for label in layout.labels:
        assert label.at.x + width(label.text, 12) <= layout.width
        assert not any(
            box.y - 6 < label.at.y < box.bottom + 6
            and box.x < label.at.x + width(label.text, 12) - ALMOST
            and label.at.x < box.right
            for box in layout.boxes
            if not box.is_frame
        )


@SOME
@given(pictures(), FLOWS)
def test_the_same_run_makes_the_same_picture(picture: Shown, flow: Flow) -> None:
    assert graph(picture, flow=flow) == graph(picture, flow=flow)


def large(count: int) -> list[Node]:
    kinds: list[Callable[[int], Node]] = [
        lambda n: step(f"step {n}"),
        lambda n: ParallelNode(f"fork {n}", (step("a"), step("b"), step("c"))),
        lambda n: LoopNode(f"loop {n}", step("again"), 9),
        lambda n: SleepNode(f"sleep {n}", 60),
    ]
    return [kinds[number % len(kinds)](number) for number in range(count)]


def size_of(layout: Layout) -> float:
    return layout.width * layout.height


@pytest.mark.parametrize("flow", Flow)
def test_the_size_of_a_picture_grows_as_the_workflow_does(flow: Flow) -> None:
    small, big = shown(*large(40)), shown(*large(400))
    links = Links(run=str, fold=str)
    written = [len(graph(picture, flow=flow, links=links)) for picture in (small, big)]
    assert 8 < written[1] / written[0] < 12
    areas = [size_of(laid_out(chart_of(picture), flow)) for picture in (small, big)]
    assert 8 < areas[1] / areas[0] < 12


@given(names, st.floats(0, 400))
def test_text_is_cut_to_the_room_that_there_is(text: str, room: float) -> None:
    kept = cut(plain(text), 12, room)
    assert kept == plain(text) or kept.endswith("…")
    assert kept == "…" or width(kept, 12) <= room + ALMOST


@settings(max_examples=20)
@given(st.text(st.characters(categories=["Lu", "Ll", "Nd"]), min_size=200, max_size=200))
def test_a_card_is_never_wider_than_it_may_be(name: str) -> None:
    layout = laid_out(chart_of(shown(step(name))))
    assert layout.width < 400


def test_no_name_of_a_node_is_taken_for_a_part_of_the_picture() -> None:
    own = ["begin", "end", "join", "more", "nothing", "frame"]
    branches = tuple(map(step, own))
    layout = laid_out(chart_of(shown(*branches, ParallelNode("p", branches))))
    found = [box.card.id for box in layout.boxes]
    assert len(found) == len({*found}) == 2 * len(own) + 4

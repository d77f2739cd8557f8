"""Graphs say of each kind of node what it is, how it stands, and what it waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_durable.core.nodes import (
    ChildNode,
    LoopNode,
    MapNode,
    Node,
    ParallelNode,
    RouteNode,
    SignalNode,
    SleepNode,
)
from celery_durable.core.status import Status
from celery_durable.errors import ErrorRecord
from celery_durable.store.read.position import Forked, Progress
from celery_durable.view.nodes import NodeState, NodeView
from celery_durable.view.picture.blocks import Card
from celery_durable.view.picture.chart import MOST_BRANCHES, Shown, chart_of
from celery_durable.view.picture.graph import Links, graph
from celery_durable.view.picture.layout import laid_out
from celery_durable.view.picture.look import DOTS, SYMBOLS, state_class
from tests.unit.picturing import NOW, SVG, parsed, pictures, shown, step, tally, texts, unit

IN_A_PAGE = Links(run=lambda run_id: f"/runs/{run_id}", fold=lambda key: f"?open={key}")
CHILD = UUID(int=7)


def card(picture: Shown, id: str) -> Card:
    """The card of the picture with this id."""
    return next(box.card for box in laid_out(chart_of(picture)).boxes if box.card.id == id)


def lines(picture: Shown, id: str) -> list[str]:
    """What is said below the title of a card."""
    return [line.whole for line in card(picture, id).lines]


def of_run(node: Node, view: NodeView, **options: object) -> Shown:
    return shown(node, views=[replace(view, kind=node.kind)], **options)


def test_a_plan_alone_says_what_its_nodes_are() -> None:
    plan = shown(
        step("reserve", undoable=True),
        MapNode("lines", step("pick"), max_concurrency=10),
        SleepNode("cool", 90),
        SleepNode("as said"),
        SignalNode("sign_off", "go", 86400),
        ChildNode("fulfil", "fulfilment", 3),
        returns=True,
    )
    assert card(plan, "reserve").undoable
    assert lines(plan, "lines") == ["for each item, 10 at a time"]
    assert lines(plan, "cool") == ["for 1m 30s"]
    assert lines(plan, "as said") == ["for as long as its function says"]
    assert lines(plan, "sign_off") == ["for go, at most 1d"]
    assert lines(plan, "fulfil") == ["runs fulfilment v3"]
    assert card(plan, "##end").title == "result"
    assert not any(box.card.state for box in laid_out(chart_of(plan)).boxes)


@pytest.mark.parametrize("state", NodeState)
def test_a_state_is_told_by_word_symbol_and_colour(state: NodeState) -> None:
    view = NodeView("charge", state, units=(unit("charge", is_executing=True),))
    picture = parsed(graph(of_run(step("charge"), view)))
    node = next(g for g in picture.iter(f"{SVG}g") if "step" in g.get("class", "").split())
    assert state_class(state) in node.attrib["class"].split()
    assert [e.get("d") for e in node if e.get("class") == "symbol"] == [SYMBOLS[state]]
    assert any(text.startswith(state.value) for text in texts(node))
    assert SYMBOLS.keys() == {*NodeState}


def test_a_step_says_how_long_it_took_and_how_often_it_was_tried() -> None:
    ended = NodeView("charge", NodeState.COMPLETED, 3, took=timedelta(seconds=1.5))
    assert lines(of_run(step("charge"), ended), "charge") == ["completed · 1.50s", "3 attempts"]
    error = ErrorRecord("Declined", "no <money>", unit="charge")
    failed = NodeView("charge", NodeState.FAILED, took=timedelta(seconds=1), error=error)
    assert lines(of_run(step("charge"), failed), "charge") == [
        "failed · 1.00s",
        "Declined: no <money>",
    ]


def test_what_executes_moves_and_what_is_queued_does_not() -> None:
    executing = NodeView(
        "charge",
        NodeState.CURRENT,
        units=(unit("charge", is_executing=True),),
        progress={"charge": Progress(0.4, "page 3")},
    )
    picture = of_run(step("charge"), executing)
    assert lines(picture, "charge") == ["current · 10.0s so far", "40% page 3"]
    assert card(picture, "charge").moves
    drawn = parsed(graph(picture))
    assert [g.get("class") for g in drawn.iter(f"{SVG}g")].count("moving") == 1
    assert any(e.get("class") == "pulse" for e in drawn.iter())
    queued = of_run(step("charge"), replace(executing, units=(unit("charge"),), progress={}))
    assert lines(queued, "charge") == ["queued · for 10.0s"]
    assert not card(queued, "charge").moves
    still = parsed(graph(queued))
    assert [e.get("d") for e in still.iter() if e.get("class") == "symbol"][1] == DOTS
    assert not any(e.get("class") in ("pulse", "moving") for e in still.iter())


def test_a_step_that_will_be_tried_again_says_when() -> None:
    error = ErrorRecord("Timeout", "no answer", unit="charge")
    wake_at = NOW + timedelta(seconds=4)
    view = NodeView("charge", NodeState.WAITING, 2, 5, wake_at, error=error)
    view = replace(view, units=(unit("charge", wake_at=wake_at),))
    assert lines(of_run(step("charge"), view), "charge") == [
        "waiting",
        "attempt 2 of 5 in 4.00s",
        "Timeout: no answer",
    ]


def test_a_wait_says_for_what_and_until_when() -> None:
    until = NOW + timedelta(days=3)
    waits = unit("s", waits_for="signal", signal="go", wake_at=until)
    view = NodeView("s", NodeState.WAITING, wake_at=until, units=(waits,))
    expected = ["waiting · for 10.0s", "waits for go", "until 2026-03-04 12:00 UTC"]
    assert lines(of_run(SignalNode("s", "go", 9), view), "s") == expected
    assert lines(of_run(step("s"), view), "s") == expected  # a step that has suspended
    soon = NOW + timedelta(minutes=5)
    sleeps = NodeView("s", NodeState.WAITING, units=(unit("s", waits_for="timer", wake_at=soon),))
    assert lines(of_run(SleepNode("s", 900), sleeps), "s") == [
        "waiting · for 10.0s",
        "sleeps until 12:05 UTC",
    ]
    stuck = NodeView("s", NodeState.WAITING, units=(unit("s", waits_for="operator"),))
    assert "has used up its attempts" in lines(of_run(step("s"), stuck), "s")


def test_a_map_is_one_box_with_its_counts() -> None:
    forked = Forked(1000, 812, 3, 10, 2, 176)
    view = NodeView("lines", NodeState.CURRENT, forked=forked)
    picture = of_run(MapNode("lines", step("pick")), view)
    assert lines(picture, "lines") == [
        "current",
        "812 of 1000, 3 failed",
        "10 executing, 2 waiting",
        "176 queued",
    ]
    bar = card(picture, "lines").bar
    assert bar is not None
    assert (bar.done, bar.failed) == (0.809, 0.003)
    ended = NodeView("lines", NodeState.COMPLETED, tally=tally(997, 3, undone=4))
    assert lines(of_run(MapNode("lines", step("pick")), ended), "lines")[1] == (
        "1000 items, 3 failed, 4 undone"
    )
    assert (
        card(of_run(MapNode("lines", step("p")), NodeView("lines", NodeState.PENDING)), "lines").bar
        is None
    )


def test_items_that_wait_for_a_place_have_not_begun() -> None:
    view = NodeView("lines", NodeState.CURRENT, forked=Forked(300, 4, 0, 3, 2, 291), window=20)
    picture = of_run(MapNode("lines", step("pick"), max_concurrency=20), view)
    assert lines(picture, "lines")[1:] == [
        "4 of 300, 3 executing, 2 waiting",
        "15 queued, 276 not begun",
    ]
    queued = replace(view, forked=Forked(300, 0, 0, 0, 0, 300))
    picture = of_run(MapNode("lines", step("pick"), max_concurrency=20), queued)
    assert lines(picture, "lines")[0] == "queued"
    assert card(picture, "lines").is_queued


def test_what_was_skipped_says_so() -> None:
    skipped = ErrorRecord("Skipped", "recorded by hand; nothing was executed", unit="charge")
    view = NodeView("charge", NodeState.COMPLETED, error=skipped)
    picture = of_run(step("charge"), view)
    assert lines(picture, "charge") == ["skipped", "recorded by hand; nothing was executed"]
    assert not any(e.get("class") == "error" for e in parsed(graph(picture)).iter())


def test_a_page_counts_on_what_goes_on_and_an_image_does_not() -> None:
    wake_at = NOW + timedelta(seconds=4)
    trying = NodeView("b", NodeState.WAITING, 2, 5, wake_at, units=(unit("b", wake_at=wake_at),))
    executing = NodeView("a", NodeState.CURRENT, units=(unit("a", is_executing=True),))
    picture = shown(step("a"), step("b"), views=[executing, trying])
    drawn = parsed(graph(picture, links=IN_A_PAGE))
    counted = [
        (name, value, one.text)
        for one in drawn.iter(f"{SVG}tspan")
        for name, value in one.attrib.items()
        if name.startswith("data-")
    ]
    assert counted == [
        ("data-since", (NOW - timedelta(seconds=10)).isoformat(), "10.0s"),
        ("data-until", wake_at.isoformat(), "4.00s"),
    ]
    assert {"current · 10.0s so far", "attempt 2 of 5 in 4.00s"} <= {*texts(drawn)}
    alone = graph(picture)
    assert "data-" not in alone
    assert texts(parsed(alone)) == texts(drawn)


def test_no_state_and_no_count_is_cut() -> None:
    until = NOW + timedelta(days=3)
    waits = unit("s", waits_for="signal", signal="signoff_by_ann", wake_at=until)
    view = NodeView("s", NodeState.WAITING, 12, 20, until, units=(waits,))
    assert not any("…" in text for text in texts(parsed(graph(of_run(step("s"), view)))))
    lost = NodeView("s", NodeState.COMPENSATION_FAILED, 3, took=timedelta(minutes=3))
    assert not any("…" in text for text in texts(parsed(graph(of_run(step("s"), lost)))))
    counted = NodeView("s", NodeState.CURRENT, forked=Forked(9999, 999, 99, 99, 99, 9999))
    drawn = parsed(graph(of_run(MapNode("s", step("p")), replace(counted, window=999))))
    assert not any("…" in text for text in texts(drawn))


def branched(count: int, states: dict[int, NodeState], **options: object) -> Shown:
    names = [f"b{number}" for number in range(count)]
    parts = [
        NodeView(name, states.get(number, NodeState.COMPLETED)) for number, name in enumerate(names)
    ]
    view = NodeView("checks", NodeState.CURRENT, parts=tuple(parts))
    return of_run(ParallelNode("checks", tuple(map(step, names))), view, **options)


def ids(picture: Shown) -> list[str]:
    return [box.card.id for box in laid_out(chart_of(picture)).boxes]


def test_few_branches_are_all_drawn() -> None:
    found = ids(branched(MOST_BRANCHES, {}))
    assert {f"checks#b{number}" for number in range(MOST_BRANCHES)} <= {*found}
    assert "checks##more" not in found


def test_of_many_branches_those_that_matter_are_drawn() -> None:
    states = {17: NodeState.FAILED, 11: NodeState.CURRENT, 15: NodeState.WAITING}
    picture = branched(20, states)
    drawn = [one for one in ids(picture) if one.startswith("checks#b")]
    assert drawn == ["checks#b0", "checks#b1", "checks#b11", "checks#b15", "checks#b17"]
    more = card(picture, "checks##more")
    assert (more.title, more.lines[0].text) == ("15 more", "15 completed")
    assert more.fold is not None
    assert not more.fold.is_open
    opened = branched(20, states, opened=frozenset({more.fold.key}))
    assert len([one for one in ids(opened) if one.startswith("checks#b")]) == 20
    head = card(opened, "checks").fold
    assert head is not None
    assert (head.is_open, head.key) == (True, more.fold.key)


RAIL = RouteNode("rail", (step("wire"), step("card")), None)


def aside(picture: Shown) -> list[bool]:
    """Which ways of the route the run does not take."""
    return [card(picture, f"rail#{way}").aside for way in ("wire", "card", "#nothing")]


def test_the_taken_case_is_marked_and_the_others_are_put_aside() -> None:
    view = NodeView("rail", NodeState.COMPLETED, took=timedelta(seconds=2), branch="wire")
    picture = of_run(RAIL, view)
    assert lines(picture, "rail") == ["completed", "takes wire"]
    assert lines(picture, "rail#wire") == ["completed · 2.00s"]
    assert lines(picture, "rail#card") == ["not reached"]
    assert aside(picture) == [
        False,
        True,
        True,
    ]
    undecided = of_run(RAIL, NodeView("rail", NodeState.PENDING))
    assert aside(undecided) == [False, False, False]


def test_an_answer_that_names_no_case_goes_past_them() -> None:
    picture = of_run(RAIL, NodeView("rail", NodeState.COMPLETED))
    assert aside(picture) == [
        True,
        True,
        False,
    ]
    assert card(picture, "rail##nothing").state is NodeState.COMPLETED


def test_the_case_of_any_other_answer_says_so() -> None:
    plan = shown(RouteNode("rail", (step("wire"), step("card")), "card"))
    assert lines(plan, "rail#card") == ["or any other answer"]
    assert "rail##nothing" not in ids(plan)


def labels(picture: Shown) -> list[str]:
    return [label.text for label in laid_out(chart_of(picture)).labels]


def test_a_loop_leads_back_and_says_how_often() -> None:
    node = LoopNode("poll", step("ask"), 20, every=60)
    plan = shown(node)
    assert labels(plan) == ["again, at most 20 times", "every 1m"]
    back = [e for e in laid_out(chart_of(plan)).edges if e.source is e.target]
    assert len(back) == 1
    view = NodeView("poll", NodeState.CURRENT, tally=tally(3))
    assert labels(of_run(node, view)) == ["3 of at most 20 times", "every 1m"]
    undone = NodeView("poll", NodeState.COMPENSATED, tally=tally(3, undone=3))
    assert lines(of_run(node, undone), "poll") == ["compensated", "3 iterations undone"]


FULFIL = ChildNode("fulfil", "fulfilment")
WAITS = NodeView(
    "fulfil",
    NodeState.WAITING,
    units=(unit("fulfil", waits_for="child", child_run_id=CHILD),),
    child_run_id=CHILD,
)


def links(picture: ET.Element) -> list[tuple[str | None, str | None]]:
    return [(a.get("href"), a.get("aria-label")) for a in picture.iter(f"{SVG}a")]


def test_a_child_leads_to_its_run_and_opens() -> None:
    picture = parsed(graph(of_run(FULFIL, WAITS), links=IN_A_PAGE))
    assert links(picture) == [
        (f"/runs/{CHILD}", "fulfil: waiting · for 10.0s, runs fulfilment"),
        (f"?open={CHILD}", "Open the graph of fulfil"),
    ]
    assert not links(parsed(graph(of_run(FULFIL, WAITS))))


def test_an_open_child_is_drawn_in_a_frame() -> None:
    inner = shown(step("pack"), views=[NodeView("pack", NodeState.CURRENT)], run_id=CHILD)
    outer = of_run(FULFIL, WAITS, children={CHILD: replace(inner, is_child=True)})
    assert f"{CHILD}#pack" in ids(outer)
    layout = laid_out(chart_of(outer))
    frame = next(box for box in layout.boxes if box.is_frame)
    pack = next(box for box in layout.boxes if box.card.id == f"{CHILD}#pack")
    assert frame.x < pack.x
    assert pack.bottom < frame.bottom
    drawn = parsed(graph(outer, links=IN_A_PAGE))
    assert (f"?open={CHILD}", "Close the graph of fulfil") in links(drawn)


def test_the_end_says_how_the_run_has_ended() -> None:
    done = NodeView("a", NodeState.COMPLETED)
    for status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED):
        assert card(shown(step("a"), views=[done], status=status), "##end").title == status.value
    assert card(shown(step("a"), views=[done]), "##end").state is NodeState.PENDING
    making = NodeView("#returns", NodeState.CURRENT, units=(unit("#returns", is_executing=True),))
    assert card(shown(step("a"), views=[done, making], returns=True), "##end").moves


def test_a_node_that_the_stored_plan_does_not_have_is_drawn_too() -> None:
    gone = NodeView("old", NodeState.COMPLETED)
    picture = shown(step("a"), views=[NodeView("a", NodeState.PENDING), gone])
    assert lines(picture, "old") == ["completed", "not in the stored plan"]


def test_a_long_name_is_cut_and_its_title_has_it_whole() -> None:
    name = "a_name_that_is_longer_than_any_box " * 5
    picture = parsed(graph(shown(step(name))))
    assert not any(name.strip() in text for text in texts(picture))
    assert any(text.endswith("…") for text in texts(picture))
    assert name.strip() in texts(picture, "title")


@settings(max_examples=40)
@given(pictures(), st.booleans())
def test_no_name_breaks_a_picture_and_all_names_are_in_it(picture: Shown, in_a_page: bool) -> None:
    drawn = parsed(graph(picture, links=IN_A_PAGE if in_a_page else None))
    said = [whole.partition(":")[0] for whole in texts(drawn, "title")]
    assert len(said) >= len(picture.plan["nodes"])


def test_an_image_alone_has_its_looks_in_it_and_a_page_has_them_in_a_file() -> None:
    alone = parsed(graph(shown(step("a"))))
    assert "prefers-color-scheme: dark" in texts(alone, "style")[0]
    assert "prefers-reduced-motion" in texts(alone, "style")[0]
    assert alone.attrib["role"] == "img"
    inside = parsed(graph(shown(step("a")), links=IN_A_PAGE))
    assert texts(inside, "style") == []
    assert (inside.attrib["role"], inside.attrib["aria-label"]) == ("group", "Workflow order v2")
    roles = [element.get("role") for element in inside.iter()]
    assert roles.count("list") == 1
    assert roles.count("listitem") == 3


def edge_classes(views: Sequence[NodeView]) -> list[str | None]:
    picture = parsed(graph(shown(*(step(view.name) for view in views), views=views)))
    known = {"open", "planned", "passed", "moving"}
    return [g.get("class") for g in picture.iter(f"{SVG}g") if g.get("class") in known]


def test_edges_show_how_far_the_run_has_come() -> None:
    views = [NodeView("a", NodeState.COMPLETED), NodeView("b", NodeState.PENDING)]
    assert edge_classes(views) == ["open", "open", "passed"]
    failed = [NodeView("a", NodeState.FAILED), NodeView("b", NodeState.NOT_REACHED)]
    assert edge_classes(failed) == ["open", "open", "passed"]

"""Plans as Mermaid: every kind of node is drawn tellingly, and no name can break the drawing."""

from __future__ import annotations

import re
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from celery_durable.core.diagram import Colour, Mark, duration, escaped, flowchart
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
    Tolerance,
)
from celery_durable.core.plan import Plan
from celery_durable.core.retry import RetryPolicy

RETRY = RetryPolicy()

LINE = re.compile(
    r"""\x20{4}(
        \w+ (\[\[|\[/|\[\\|\(\[|\[|\{|>) "[^"]*" (\]\]|/\]|\\\]|\]\)|\]|\})
      | \w+ \s --> (\|"[^"]*"\|)? \s \w+
      | subgraph \s \w+ \["[^"]*"\]
      | end
      | classDef \s \w+ \s [\w:\#,-]+
      | class \s [\w,]+ \s \w+
    )""",
    re.VERBOSE,
)


def drawn(*nodes: Node, marks: dict[str, Mark] | None = None) -> list[str]:
    """The lines of the drawing, each of which has a shape that is known."""
    first, *lines = flowchart(Plan("order", 2, nodes).as_data(), marks).splitlines()
    assert first == "flowchart TD"
    for line in lines:
        assert LINE.fullmatch(line), line
    return [line.strip() for line in lines]


def step(name: str, *, undoable: bool = False) -> StepNode:
    return StepNode(name, RETRY, compensator=Compensator(RETRY) if undoable else None)


def test_steps_lead_from_one_to_the_next() -> None:
    assert drawn(step("a", undoable=True), step("b")) == [
        'begin(["order v2"])',
        "begin --> n0",
        'n0["a ↶"]',
        "n0 --> n1",
        'n1["b"]',
        "n1 --> finish",
        'finish(["end"])',
    ]


def test_branches_fan_out_and_in() -> None:
    lines = drawn(ParallelNode("p", (step("x"), ChildNode("y", "other", 3))), step("after"))
    assert {"n0 --> n0b0", "n0 --> n0b1", "n0b0 --> n0join", "n0b1 --> n0join"} <= set(lines)
    assert "n0join --> n1" in lines
    assert 'n0b1[["y<br/>runs other v3"]]' in lines


def test_a_map_is_a_frame_with_its_window() -> None:
    lines = drawn(MapNode("lines", step("pick"), max_concurrency=10), step("after"))
    at = lines.index(
        'subgraph n0["lines#58; each item, at most 10 at a time"]'.replace("#58;", ":")
    )
    assert lines[at + 1 : at + 4] == ['n0item["pick"]', "end", "n0 --> n1"]
    assert any("all at a time" in line for line in drawn(MapNode("lines", step("pick"))))
    few = MapNode("lines", step("pick"), tolerance=Tolerance(percent=Decimal(5)))
    assert any("all at a time, 5% may fail" in line for line in drawn(few))


def test_cases_lead_on_under_their_keys() -> None:
    cases = (step("wire"), step("card"))
    lines = drawn(RouteNode("rail", cases), step("after"))
    assert {'n0 -->|"wire"| n0c0', 'n0 -->|"card"| n0c1', "n0c0 --> n1", "n0c1 --> n1"} <= set(
        lines
    )
    assert 'n0 -->|"any other"| n1' in drawn(RouteNode("rail", cases, None), step("after"))
    named = drawn(RouteNode("rail", cases, "card"), step("after"))
    assert 'n0 -->|"card, or any other"| n0c1' in named


def test_a_loop_leads_back_with_its_limit() -> None:
    lines = drawn(LoopNode("poll", step("poll"), 20))
    assert 'n0["poll"]' in lines
    assert 'n0 -->|"again, at most 20 times"| n0' in lines


def test_waits_say_for_what_and_how_long() -> None:
    lines = drawn(SleepNode("a", 90), SleepNode("b"), SignalNode("c", "go", 86400), step("d"))
    assert 'n0(["a<br/>sleeps 1m 30s"])' in lines
    assert 'n1(["b<br/>sleeps as its function says"])' in lines
    assert 'n2>"c<br/>waits for go, at most 1d"]' in lines


def test_marks_colour_what_they_name() -> None:
    marks = {
        "p": Mark(Colour.RUNNING, "1/2"),
        "p#x": Mark(Colour.COMPLETED),
        "p#y": Mark(Colour.WAITING),
    }
    lines = drawn(ParallelNode("p", (step("x"), step("y"))), marks=marks)
    assert 'n0[/"p<br/>1/2"\\]' in lines
    assert {"class n0 running", "class n0b0 completed", "class n0b1 waiting"} <= set(lines)
    assert not any(line.startswith("classDef pending") for line in lines)


@given(st.text())
def test_no_name_can_break_the_drawing(name: str) -> None:
    label = escaped(name)
    assert "\n" not in label
    assert not set('"<>`|[]{}&\\') & set(label)
    assert re.fullmatch(r"([^#]|#\d+;)*", label)
    drawn(
        step(name),
        ParallelNode(name, (step(name), ChildNode(name, name))),
        MapNode(name, step(name)),
        RouteNode(name, (step(name),), name),
        LoopNode(name, step(name), 2),
        SleepNode(name, 1.5),
        SignalNode(name, name),
        marks={name: Mark(Colour.FAILED, name)},
    )


def test_a_duration_names_every_unit_that_is_not_nought() -> None:
    told = [duration(seconds) for seconds in (0, 0.5, 59, 60, 3661, 86400, 90061)]
    assert told == ["0s", "0.5s", "59s", "1m", "1h 1m 1s", "1d", "1d 1h 1m 1s"]

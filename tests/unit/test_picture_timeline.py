"""Timelines: each unit's attempts, waits and gaps, in the order in which units began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_durable.core.decision import Outcome
from celery_durable.core.failure import FailedAttempt
from celery_durable.core.status import Status
from celery_durable.errors import ErrorRecord
from celery_durable.store.read.folded import Trying
from celery_durable.store.read.history import JournalEntry
from celery_durable.store.read.position import Forked
from celery_durable.store.read.spans import COLUMNS, EARLIER, Density
from celery_durable.view.nodes import NodeState, NodeView
from celery_durable.view.picture.axis import MOST_TICKS, Axis
from celery_durable.view.picture.bars import BarRow, Look, Told
from celery_durable.view.picture.rows import NOT_EXECUTED, rows_of
from celery_durable.view.picture.timeline import Timeline, TimelineLinks, timeline
from celery_durable.view.run_page import growth_at
from tests.unit.picturing import NOW, SVG, parsed, texts, unit

BEGIN = NOW - timedelta(seconds=100)
ERROR = ErrorRecord("Timeout", "no <answer>", unit="u")
CHILD, WORKER = UUID(int=7), UUID(int=8)


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def entry(name: str, begin: float, end: float, **options: Any) -> JournalEntry:
    """A unit that was executed from one second of the run to another."""
    known = {
        "unit": name,
        "node": name.partition("#")[0],
        "outcome": Outcome.COMPLETED,
        "attempt": 1,
        "result": None,
        "error": None,
        "failures": (),
        "worker": WORKER,
        "started_at": at(begin),
        "finished_at": at(end),
    }
    return JournalEntry(**{**known, **options})


def failed(attempt: int, begin: float, end: float) -> FailedAttempt:
    return FailedAttempt(attempt, ERROR, at(begin), at(end))


def rows(
    entries: Sequence[JournalEntry], kinds: dict[str, str] | None = None, **options: Any
) -> list[BarRow]:
    """The rows of a run with nodes of these kinds; the others are steps."""
    names = dict.fromkeys([*(kinds or {}), *(one.node for one in entries)])
    views = {
        name: NodeView(name, NodeState.COMPLETED, kind=(kinds or {}).get(name, "step"))
        for name in names
    }
    views |= {view.name: view for view in options.pop("views", ())}
    return rows_of(Told(NOW, BEGIN, views, entries, **options))


def looks(row: BarRow) -> list[tuple[Look, NodeState]]:
    """The segments of a row but for the time before the first."""
    return [(one.look, one.state) for one in row.segments if one.text != NOT_EXECUTED]


def begins(row: BarRow) -> list[datetime]:
    return [segment.begin for segment in row.segments if segment.look is not Look.GAP]


def test_units_are_in_the_order_in_which_they_began() -> None:
    found = rows([entry("b", 5, 6), entry("a", 1, 9)])
    assert [row.label for row in found] == ["a", "b"]
    assert [row.note for row in found] == ["8.00s", "1.00s"]


def test_each_attempt_is_a_segment_and_so_is_each_gap() -> None:
    failures = (failed(1, 0, 1), failed(2, 3, 4))
    (row,) = rows([entry("a", 8, 9, attempt=3, failures=failures)])
    assert looks(row) == [
        (Look.RAN, NodeState.FAILED),
        (Look.GAP, NodeState.PENDING),
        (Look.RAN, NodeState.FAILED),
        (Look.GAP, NodeState.PENDING),
        (Look.RAN, NodeState.COMPLETED),
    ]
    assert [(s.begin, s.end) for s in row.segments][1] == (at(1), at(3))
    assert row.segments[2].text == "attempt 2 failed: Timeout: no <answer>"
    assert row.note == "1.00s, 3 attempts"


def test_a_unit_that_is_tried_again_has_its_attempts_and_waits_for_the_next() -> None:
    waiting = unit("a", wake_at=NOW + timedelta(seconds=4))
    trying = Trying("a", 2, (failed(1, 80, 85),), None, at(85), waiting.wake_at, 5)
    (row,) = rows([], {"a": "step"}, units=[waiting], trying={"a": trying})
    assert looks(row)[0] == (Look.RAN, NodeState.FAILED)
    assert looks(row)[-1] == (Look.GAP, NodeState.WAITING)
    assert row.segments[-1].end is None
    assert row.note == "goes on in 4.00s"


@pytest.mark.parametrize(
    ("options", "look", "state"),
    [
        ({"is_executing": True}, Look.RAN, NodeState.CURRENT),
        ({}, Look.GAP, NodeState.CURRENT),
        ({"waits_for": "signal", "signal": "go"}, Look.WAITED, NodeState.WAITING),
        ({"waits_for": "timer"}, Look.WAITED, NodeState.WAITING),
        ({"waits_for": "operator"}, Look.WAITED, NodeState.PAUSED),
        ({"waits_for": "child", "child_run_id": CHILD}, Look.CHILD, NodeState.WAITING),
    ],
)
def test_what_is_current_goes_on_to_now(
    options: dict[str, Any], look: Look, state: NodeState
) -> None:
    (row,) = rows([], {"a": "step"}, units=[unit("a", **options)])
    assert looks(row) == [(look, state)]
    assert row.segments[-1].end is None
    assert row.run == options.get("child_run_id")


def test_waits_and_children_look_like_waits_and_children() -> None:
    entries = [entry("s", 0, 1), entry("z", 1, 2), entry("c", 2, 3, child_run_id=CHILD)]
    signal, sleep, child = rows(entries, {"s": "signal", "z": "sleep", "c": "child"})
    assert looks(signal) == looks(sleep) == [(Look.WAITED, NodeState.COMPLETED)]
    assert looks(child) == [(Look.CHILD, NodeState.COMPLETED)]
    assert child.run == CHILD


def waits(row: BarRow) -> list[tuple[float, float]]:
    """From when to when what is recorded of a row says that nothing was executed."""
    return [
        ((one.begin - BEGIN).total_seconds(), (one.end - BEGIN).total_seconds())
        for one in row.segments
        if one.text == NOT_EXECUTED and one.end is not None
    ]


def test_the_time_before_a_unit_was_begun_is_a_thin_line() -> None:
    entries = [entry("a", 10, 12), entry("b", 30, 31), entry("c", 30.9, 32)]
    first, second, at_a_stretch = rows([*entries])
    assert waits(first) == [(0, 10)]
    assert waits(second) == [(12, 30)]
    assert waits(at_a_stretch) == []
    assert NOT_EXECUTED not in first.whole
    drawn = parsed(timeline(Timeline("t", BEGIN, NOW, [first, at_a_stretch])))
    assert texts(drawn, "title").count(NOT_EXECUTED) == 1
    short = rows([entry("a", 0.1, 100)])
    assert NOT_EXECUTED not in texts(parsed(timeline(Timeline("t", BEGIN, NOW, short))), "title")


def test_the_time_between_iterations_is_a_thin_line() -> None:
    entries = [entry(f"l#{n}", 5 * n, 5 * n + 1, position=n) for n in range(3)]
    (row,) = rows([*entries, entry("l", 10, 11)], {"l": "loop"})
    assert waits(row) == [(1, 5), (6, 10)]


def test_a_branch_was_queued_since_its_node_forked_or_another_ended() -> None:
    entries = [
        entry("a", 0, 8),
        entry("p#x", 10, 20, branch="x"),
        entry("p#y", 15, 40, branch="y"),
        entry("p#z", 30, 40, branch="z"),
        entry("p", 10, 40),
    ]
    _, head, x, y, z = rows(entries, {"p": "parallel"})
    assert [waits(row) for row in (head, x, y, z)] == [[(8, 10)], [], [(10, 15)], [(20, 30)]]


def test_what_was_skipped_or_cut_short_took_no_time_that_is_known() -> None:
    skipped = ErrorRecord("Skipped", "recorded by hand; nothing was executed", unit="a")
    failures = (failed(1, 0, 1),)
    entries = [
        entry("a", 1, 60, error=skipped, failures=failures),
        entry("b", 61, 90, outcome=Outcome.FAILED, error=ERROR, worker=None),
    ]
    first, second = rows(entries)
    assert first.note == "skipped"
    assert looks(first)[-1] == (Look.WAITED, NodeState.COMPLETED)
    assert second.note == ""
    assert looks(second) == [(Look.WAITED, NodeState.FAILED)]


def test_what_is_held_is_paused_and_not_queued() -> None:
    (row,) = rows([], {"a": "step"}, units=[unit("a")], status=Status.PAUSED)
    assert (row.state, row.note, row.is_queued) == (NodeState.PAUSED, "paused", False)
    (row,) = rows([], {"a": "step"}, units=[unit("a")])
    assert (row.note, row.is_queued) == ("queued for 10.0s", True)


def test_a_page_counts_on_what_goes_on_and_an_image_does_not() -> None:
    executing = unit("a", is_executing=True)
    waiting = unit("b", wake_at=NOW + timedelta(seconds=4))
    found = rows([], {"a": "step", "b": "step"}, units=[executing, waiting])
    shown = Timeline("t", BEGIN, NOW, found, is_running=True)
    drawn = parsed(timeline(shown, links=TimelineLinks(run=str, fold=str)))
    counted = [(one.attrib, one.text) for one in drawn.iter(f"{SVG}tspan")]
    assert counted == [
        ({"data-since": (NOW - timedelta(seconds=10)).isoformat()}, "10.0s"),
        ({"data-until": (NOW + timedelta(seconds=4)).isoformat()}, "4.00s"),
    ]
    assert {"10.0s so far", "goes on in 4.00s"} <= {*texts(drawn)}
    assert not list(parsed(timeline(shown)).iter(f"{SVG}tspan"))


def test_a_timeline_is_drawn_again_more_seldom_the_older_it_is() -> None:
    def drawn(begin: float, end: float) -> int:
        return growth_at(timedelta(seconds=end)) - growth_at(timedelta(seconds=begin))

    assert [growth_at(timedelta(seconds=second)) for second in range(7)] == [0, 0, 1, 1, 2, 2, 3]
    assert drawn(39, 41) == 1
    assert all(drawn(age, 2 * age) in (13, 14) for age in (60, 3600, 86_400))
    assert growth_at(timedelta(seconds=-1)) == 0


def test_names_and_notes_have_the_room_that_they_need() -> None:
    trying = Trying("a", 12, (failed(1, 80, 85),), None, at(85), None, 20)
    current = replace(unit("a", is_executing=True), attempt=12, max_attempts=20)
    found = rows([], {"a": "step"}, units=[current], trying={"a": trying})
    drawn = parsed(timeline(Timeline("t", BEGIN, NOW, found)))
    assert "10.0s so far, attempt 12 of 20" in texts(drawn)
    assert float(drawn.attrib["width"]) < 960


def test_branches_are_below_their_node() -> None:
    entries = [
        entry("p#y", 2, 3, branch="y"),
        entry("p#x", 1, 4, branch="x"),
        entry("p", 1, 4),
        entry("a", 0, 1),
        entry("p#compensate", 1, 2, branch="compensate"),
    ]
    found = rows(entries, {"p": "parallel"})
    assert [(row.label, row.depth) for row in found] == [
        ("a", 0),
        ("p", 0),
        ("x", 1),
        ("compensate", 1),
        ("y", 1),
    ]
    assert looks(found[1]) == [(Look.SPAN, NodeState.COMPLETED)]


def test_a_fork_that_has_not_ended_spans_its_parts() -> None:
    parts = [entry("m#0", 3, 4, position=0), entry("m#1", 5, 9, position=1)]
    head, first, second = rows(parts, {"m": "map"})
    assert (first.label, second.label) == ("#0", "#1")
    assert (head.segments[0].begin, head.segments[0].end) == (at(3), at(9))


def test_the_choice_of_a_route_is_in_its_row() -> None:
    (row,) = rows([entry("r#route", 0, 1), entry("r", 1, 5, branch="x")], {"r": "route"})
    assert [(s.begin, s.end) for s in row.segments] == [(at(0), at(1)), (at(1), at(5))]


def test_iterations_follow_one_another_in_one_row() -> None:
    entries = [entry(f"l#{n}", n, n + 0.5, position=n) for n in range(3)]
    (row,) = rows([*entries, entry("l", 2, 2.5)], {"l": "loop"})
    assert begins(row) == [at(0), at(1), at(2)]
    assert row.note == "3 iterations"


def test_compensations_have_rows_of_their_own_as_they_began() -> None:
    entries = [
        entry("a", 0, 1),
        entry("b", 1, 2),
        entry("c", 2, 3, outcome=Outcome.FAILED, error=ERROR),
        entry("b#compensate", 4, 5, node="b"),
        entry("a#compensate", 5, 6, node="a", outcome=Outcome.FAILED, error=ERROR),
    ]
    found = rows(entries)
    assert [row.label for row in found] == ["a", "b", "c", "undo b", "undo a"]
    assert found[3].state is NodeState.COMPENSATED
    assert found[4].state is NodeState.COMPENSATION_FAILED
    assert "Timeout: no <answer>" in found[4].whole


def test_what_an_earlier_run_has_done_is_said_to_be_so() -> None:
    old, new = rows([entry("a", -50, -40), entry("b", 1, 2)])
    assert (old.is_inherited, new.is_inherited) == (True, False)
    drawn = parsed(timeline(Timeline("t", BEGIN, NOW, [old, new])))
    assert "from an earlier run, 10.0s" in texts(drawn)


def test_parts_that_are_counted_are_one_row() -> None:
    density = Density({0: 700, 5: 112}, {5: 3}, at(2))
    forked = Forked(1000, 812, 3, 10, 0, 178)
    view = NodeView("m", NodeState.CURRENT, kind="map", forked=forked)
    densities = {("m", False): density, ("m", True): Density({9: 4}, {}, at(50))}
    found = rows([entry("a", 0, 1)], views=[view], densities=densities)
    assert [row.label for row in found] == ["a", "m", "undo m"]
    assert found[1].note == "812 of 1000, 3 failed, 10 executing, 178 queued"
    assert found[2].note == "4 undone"
    drawn = parsed(timeline(Timeline("t", BEGIN, NOW, found)))
    columns = [e.get("d", "") for e in drawn.iter() if "density" in e.get("class", "")]
    assert [path.count("z") for path in columns] == [2, 1, 1]


def test_what_ended_before_the_run_is_in_no_column() -> None:
    row = BarRow("m", NodeState.COMPLETED, density=Density({EARLIER: 9, 3: 1}, {}, at(-9)))
    drawn = parsed(timeline(Timeline("t", BEGIN, NOW, [row])))
    (path,) = [e.get("d", "") for e in drawn.iter() if "density" in e.get("class", "")]
    assert path.count("z") == 1


@given(st.floats(0.0005, 10 * 365 * 86400))
def test_an_axis_has_few_lines_and_they_stand_in_order(seconds: float) -> None:
    axis = Axis(BEGIN, BEGIN + timedelta(seconds=seconds), 200, 600)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= MOST_TICKS + 1
    places = [x for x, _ in ticks]
    assert places[0] == 200
    assert places == sorted(places)
    assert places[-1] <= 800.01
    assert len({label for _, label in ticks}) == len(ticks)


def test_lines_stand_where_people_count_time() -> None:
    def labels(seconds: float) -> list[str]:
        return [label for _, label in Axis(BEGIN, at(seconds), 0, 600).ticks()]

    assert labels(0.05) == ["0s", "0.01s", "0.02s", "0.03s", "0.04s", "0.05s"]
    assert labels(95) == ["0s", "15s", "30s", "45s", "1m", "1m 15s", "1m 30s"]
    assert labels(3 * 3600) == ["0s", "30m", "1h", "1h 30m", "2h", "2h 30m", "3h"]
    assert labels(3 * 86400) == ["0s", "12h", "1d", "1d 12h", "2d", "2d 12h", "3d"]


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_a_segment_lies_on_the_axis(begin: float, length: float) -> None:
    (row,) = rows([entry("a", begin, begin + length)])
    drawn = parsed(timeline(Timeline("t", BEGIN, NOW, [row])))
    segments = [e for e in drawn.iter() if "segment" in e.get("class", "").split()]
    left = min(
        float(e.attrib["d"][1:].split()[0]) for e in drawn.iter() if e.get("class") == "tick"
    )
    for segment in segments:
        x, width = float(segment.attrib["x"]), float(segment.attrib["width"])
        assert width > 0
        assert x >= left
        assert x + width <= left + 620.01


def test_a_running_run_ends_at_now_and_an_ended_one_does_not() -> None:
    found = rows([entry("a", 0, 1)])
    running = parsed(timeline(Timeline("t", BEGIN, NOW, found, is_running=True)))
    ended = parsed(timeline(Timeline("t", BEGIN, NOW, found)))
    assert "now" in texts(running)
    assert "now" not in texts(ended)


@given(st.text(), st.text())
def test_no_name_and_no_error_breaks_a_timeline(name: str, message: str) -> None:
    error = ErrorRecord(name, message, unit="u")
    found = [
        BarRow(name, NodeState.FAILED, row.segments, note=row.note)
        for row in rows([entry("a", 0, 1, outcome=Outcome.FAILED, error=error)])
    ]
    for links in (None, TimelineLinks(run=str, fold=str)):
        parsed(timeline(Timeline(name, BEGIN, NOW, found), links=links))


def test_a_timeline_in_a_page_has_links_and_a_list() -> None:
    child = BarRow("c", NodeState.COMPLETED, run=CHILD)
    folded = BarRow("m", NodeState.COMPLETED, density=Density({1: 2}, {}, BEGIN), fold="m")
    links = TimelineLinks(run=lambda run_id: f"/runs/{run_id}", fold=lambda node: f"?list={node}")
    shown = Timeline("t", BEGIN, NOW, [child, folded])
    drawn = parsed(timeline(shown, links=links))
    assert [a.get("href") for a in drawn.iter(f"{SVG}a")] == [f"/runs/{CHILD}", "?list=m"]
    roles = [element.get("role") for element in drawn.iter()]
    assert (roles.count("list"), roles.count("listitem")) == (1, 2)
    assert not list(parsed(timeline(shown)).iter(f"{SVG}a"))
    assert COLUMNS == 120

"""Pictures of real runs: every kind of node at each moment, and runs of very many units."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from celery_durable import Context, Durable, RetryPolicy
from celery_durable.run import Run
from celery_durable.view.nodes import NodeState
from celery_durable.view.picture.bars import BarRow, Look
from celery_durable.view.picture.blocks import Card
from celery_durable.view.picture.chart import chart_of
from celery_durable.view.picture.graph import graph
from celery_durable.view.picture.layout import laid_out
from celery_durable.view.picture.reading import MOST_PARTS, shown_of, timeline_of
from celery_durable.view.picture.rows import NOT_EXECUTED
from celery_durable.view.picture.timeline import MOST_ROWS, timeline
from celery_durable.view.run import RunView, read_run
from tests.addresses import conninfo
from tests.integration.driving import Gate, World, noting
from tests.integration.planning import rows_read
from tests.integration.watching import Executed, watch
from tests.integration.workflows import asking
from tests.unit.picturing import parsed
from tests.waiting import wait_until

DONE, WAITS, PENDING = NodeState.COMPLETED, NodeState.WAITING, NodeState.PENDING
ONCE = RetryPolicy(max_attempts=1)
LARGEST_PICTURE = 250_000
"""Bytes."""


def view_of(durable: Durable, run: Run) -> RunView:
    return read_run(durable, run, with_results=False)


def cards(durable: Durable, run: Run, *opened: object) -> dict[str, Card]:
    """The cards of the graph of a run, by their units."""
    now = datetime.now(UTC)
    shown = shown_of(durable, view_of(durable, run), now, frozenset(map(str, opened)))
    parsed(graph(shown))
    return {box.card.id: box.card for box in laid_out(chart_of(shown)).boxes}


def rows(durable: Durable, run: Run, *opened: str, first: int = 0) -> list[BarRow]:
    """The rows of the timeline of a run."""
    shown, _ = timeline_of(
        durable, view_of(durable, run), datetime.now(UTC), frozenset(opened), first
    )
    parsed(timeline(shown))
    return list(shown.rows)


def to_its_end(world: World, durable: Durable, run: Run) -> None:
    def has_ended() -> bool:
        world.drain(durable)
        return world.has_ended(run)

    wait_until(has_ended, message="the run to end")


class Order:
    """A run with every kind of node in it, driven from moment to moment."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.gate = Gate()
        self.durable = world.worker(self.define)
        self.run: Run = self.durable.start("order", 0)

    def define(self, durable: Durable) -> None:
        def undo(ctx: Context) -> None: ...

        def pick(ctx: Context) -> Any:
            return 1 / ctx.item

        def slow(ctx: Context) -> None:
            ctx.progress(0.4, "page 3")
            self.gate()

        def step(name: str, handler: Callable[[Any], Any] = undo) -> Any:
            return durable.step(name=name, compensate=undo, retry=ONCE)(handler)

        customs = durable.workflow("customs").step(step("declare")).wait_for_signal("stamp")
        durable.workflow("order").step(step("reserve")).parallel(
            "checks", {"fraud": step("fraud"), "customs": customs}
        ).map("lines", over=lambda _: [0, 1, 2], handler=step("pick", pick), on_error="keep").route(
            "rail", lambda _: "wire", {"wire": step("wire"), "card": step("card")}
        ).loop("poll", step("ask"), until=lambda _, n: n == 3, max_iterations=9).sleep(
            "cool", 3600
        ).step(asking(), name="ask_human").step(slow, name="slow", retry=ONCE).step(
            lambda ctx: 1 / ctx.input, name="ship", retry=ONCE
        )

    def go(self, node: str) -> None:
        """Until the run stands at `node`."""

        def is_there() -> bool:
            self.world.drain(self.durable)
            return node in self.run.status().current

        wait_until(is_there, message=f"the run to come to {node}")

    def cards(self, *opened: object) -> dict[str, Card]:
        return cards(self.durable, self.run, *opened)

    def states(self, *units: str) -> list[NodeState | None]:
        found = self.cards()
        return [found[unit].state for unit in units]


def said(card: Card) -> str:
    return " | ".join(line.whole for line in card.lines)


def child_of(run: Run) -> UUID:
    (child,) = run.status().children
    return child.run_id


def test_every_kind_of_node_is_drawn_at_every_moment(world: World) -> None:
    order = Order(world)
    assert {*order.states("reserve", "checks", "lines", "rail", "poll", "cool")} == {PENDING} | {
        NodeState.CURRENT
    }
    order.go("checks")
    wait_until(lambda: order.run.status().children, message="the child to have begun")
    world.drain(order.durable)
    child = child_of(order.run)
    assert order.states("reserve", "checks", "checks#fraud", "checks#customs", "lines") == [
        *(DONE, WAITS, DONE, WAITS, PENDING)
    ]
    assert order.cards()["checks#customs"].run == child
    opened = order.cards(child)
    assert opened[f"{child}#declare"].state is DONE
    assert "waits for stamp" in said(opened[f"{child}#stamp"])
    order.durable.resume(child, "stamp")

    order.go("cool")
    found = order.cards()
    assert order.states("checks", "lines", "rail", "rail#wire", "poll", "cool") == [
        *(DONE, DONE, DONE, DONE, DONE, WAITS)
    ]
    assert "3 items, 1 failed" in said(found["lines"])
    assert (found["rail#wire"].aside, found["rail#card"].aside) == (False, True)
    assert "sleeps until" in said(found["cool"])

    world.let_time_pass(3601)
    order.go("ask_human")
    assert order.states("cool", "ask_human", "slow") == [DONE, WAITS, PENDING]
    assert "waits for go" in said(order.cards()["ask_human"])
    order.run.resume("go")

    executing = order.gate.hold(to_its_end, world, order.durable, order.run)
    slow = order.cards()["slow"]
    assert slow.moves
    assert "so far | 40% page 3" in said(slow)
    order.gate.finish(executing)

    assert order.run.status().status == "failed"
    undone = NodeState.COMPENSATED
    assert order.states("reserve", "checks", "checks#fraud", "lines", "rail#wire", "poll") == [
        *(undone, undone, undone, undone, undone, undone)
    ]
    assert order.states("checks#customs", "ship", "##end") == [DONE, *2 * (NodeState.FAILED,)]
    assert "ZeroDivisionError" in said(order.cards()["ship"])
    assert order.cards()["##end"].title == "failed"


def test_a_timeline_has_every_unit_of_a_run(world: World) -> None:
    order = Order(world)
    order.go("checks")
    wait_until(lambda: order.run.status().children, message="the child to have begun")
    world.drain(order.durable)
    found = {row.label: row for row in rows(order.durable, order.run)}
    assert [*found] == ["reserve", "checks", "fraud", "customs"]
    assert found["customs"].segments[-1].look is Look.CHILD
    assert found["customs"].segments[-1].end is None
    assert found["customs"].run == child_of(order.run)
    order.durable.resume(child_of(order.run), "stamp")
    order.go("cool")
    found = {row.label: row for row in rows(order.durable, order.run)}
    assert [*found] == [
        *(
            "reserve",
            "checks",
            "fraud",
            "customs",
            "lines",
            "#0",
            "#1",
            "#2",
            "rail",
            "poll",
            "cool",
        )
    ]
    assert found["#0"].state is NodeState.FAILED
    assert [one.look for one in found["poll"].segments].count(Look.RAN) == 3
    assert found["cool"].segments[-1].look is Look.WAITED


def test_failed_attempts_are_in_a_timeline_while_the_unit_is_tried_again(world: World) -> None:
    def fail(_: Any) -> None:
        raise ValueError("no")

    def define(durable: Durable) -> None:
        durable.workflow("w").step(fail, retry=RetryPolicy(max_attempts=3))

    durable = world.worker(define)
    run = durable.start("w")
    world.drain(durable)
    (row,) = rows(durable, run)
    *_, failed, waits = row.segments
    assert [failed.state, waits.state] == [NodeState.FAILED, WAITS]
    assert failed.text == "attempt 1 failed: ValueError: no"
    for _ in range(2):
        world.let_time_pass(3600)
        world.drain(durable)
    (row,) = rows(durable, run)
    ran = [segment.state for segment in row.segments if segment.look is Look.RAN]
    assert ran == 3 * [NodeState.FAILED]
    assert row.note.endswith("3 attempts")


def test_what_has_used_up_its_tries_is_paused_until_it_is_skipped_or_cancelled(
    world: World,
) -> None:
    def fail(_: Any) -> None:
        raise ValueError("no")

    def define(durable: Durable) -> None:
        policy = RetryPolicy(max_attempts=1, on_exhausted="pause")
        durable.workflow("w").step(fail, name="charge", retry=policy)

    durable = world.worker(define)
    skipped, cancelled = durable.start("w"), durable.start("w")
    world.drain(durable)
    charge = cards(durable, skipped)["charge"]
    assert charge.state is NodeState.PAUSED
    assert said(charge).startswith("paused · for ")
    skipped.skip("charge", 3)
    cancelled.cancel()
    world.drain(durable)
    assert said(cards(durable, skipped)["charge"]) == (
        "skipped | recorded by hand; nothing was executed"
    )
    assert said(cards(durable, cancelled)["charge"]) == "failed | ValueError: no"
    notes = [row.note for run in (skipped, cancelled) for row in rows(durable, run)]
    assert notes == ["skipped", ""]


def test_a_run_that_is_held_is_paused_in_its_pictures(world: World) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").step(noting([], "a")).map(
            "lines", over=lambda _: [1, 2], handler=noting([], "pick")
        )

    durable = world.worker(define)
    run = durable.start("w")
    run.pause()
    assert said(cards(durable, run)["a"]) == "paused"
    assert [row.note for row in rows(durable, run)] == ["paused"]


def test_an_execution_that_was_lost_is_a_thin_line(world: World) -> None:
    gate = Gate()
    doomed = [gate]

    def work(_: Any) -> None:
        for one in doomed[:]:
            doomed.remove(one)
            one()

    def define(durable: Durable) -> None:
        durable.workflow("w").step(work, name="a")

    run = world.take_over(define, gate)
    durable = world.worker(define)
    (row,) = rows(durable, run)
    before, ran = row.segments
    assert (before.look, ran.look) == (Look.GAP, Look.RAN)
    assert before.begin == run.status().created_at
    assert before.text == NOT_EXECUTED


def test_a_run_in_place_of_another_says_what_it_has_taken_over(world: World) -> None:
    fails = [True]

    def fragile(_: Any) -> None:
        if fails.pop():
            raise ValueError("no")

    def define(durable: Durable) -> None:
        durable.workflow("w").step(noting([], "a")).step(fragile, retry=ONCE)

    durable = world.worker(define)
    run = durable.start("w")
    world.drain(durable)
    fails.append(False)
    again = run.retry()
    world.drain(durable)
    assert [(row.label, row.is_inherited) for row in rows(durable, again)] == [
        ("a", True),
        ("fragile", False),
    ]


UNITS = 10_000

MULTIPLY = """
    INSERT INTO durable_journal (run_id, unit, node, position, outcome, undoable, attempt, result,
                                 error, worker, started_at, finished_at)
    SELECT run_id, 'lines#' || n, node, n, outcome_of_n, false, 1, NULL,
        CASE outcome_of_n WHEN 'failed' THEN '{"type": "E", "message": "no"}'::json END,
        worker, started_at + n * interval '1 ms', finished_at + n * interval '2 ms'
    FROM durable_journal, generate_series(10, 9999) n,
        LATERAL (SELECT CASE n %% 100 WHEN 0 THEN 'failed' ELSE 'completed' END AS outcome_of_n) o
    WHERE run_id = %s AND unit = 'lines#9'
"""


@pytest.fixture
def large(world: World) -> tuple[Durable, Run]:
    """A run of 10,000 items, which waits for a signal."""

    def define(durable: Durable) -> None:
        durable.workflow("w").map(
            "lines", over=lambda _: list(range(10)), handler=noting([], "pick")
        ).wait_for_signal("go")

    durable = world.worker(define)
    run = durable.start("w")
    world.drain(durable)
    world.rows(MULTIPLY, run.id)
    return durable, run


def test_a_run_of_very_many_units_is_a_small_picture(
    large: tuple[Durable, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    durable, run = large
    read = [0]

    def count(executed: Executed) -> None:
        read[0] += len(executed.rows)

    watch(monkeypatch, count)
    now = datetime.now(UTC)
    shown, row_count = timeline_of(durable, view_of(durable, run), now)
    assert row_count == 2
    assert len(timeline(shown)) < 30_000
    assert len(graph(shown_of(durable, view_of(durable, run), now))) < 30_000
    assert read[0] < 500
    density = shown.rows[0].density
    assert density is not None
    assert density.total == UNITS
    assert sum(density.failed.values()) == 99
    assert len(density.ended) > 10


def test_each_unit_is_read_a_few_times_whatever_the_statistics_say(
    large: tuple[Durable, Run], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable, run = large
    seen: list[Executed] = []
    watch(monkeypatch, seen.append)
    timeline_of(durable, view_of(durable, run), datetime.now(UTC))
    read = 0
    with psycopg.connect(conninfo(world.url), cursor_factory=psycopg.ClientCursor) as connection:
        for one in (one for one in seen if one.text.startswith("SELECT")):
            text, literals = one.statement.compiled("public")
            explain = b"EXPLAIN (ANALYZE, FORMAT JSON) " + text
            row = connection.execute(explain, {**literals, **one.parameters}).fetchone()
            assert row is not None
            read += rows_read(row[0][0]["Plan"])
    assert UNITS < read < 100 * UNITS


def test_units_that_are_listed_are_so_many_and_no_more(large: tuple[Durable, Run]) -> None:
    durable, run = large
    shown, row_count = timeline_of(
        durable, view_of(durable, run), datetime.now(UTC), frozenset({"lines"})
    )
    assert MOST_ROWS < row_count <= MOST_ROWS + 2
    assert len(shown.rows) == MOST_ROWS
    assert len(timeline(shown)) < LARGEST_PICTURE


def test_a_timeline_of_many_nodes_comes_in_pages(world: World) -> None:
    names = [f"step {number}" for number in range(MOST_ROWS + 30)]

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w")
        for name in names:
            workflow.step(noting([], name), name=name)

    durable = world.worker(define)
    run = durable.start("w")
    to_its_end(world, durable, run)
    first, rest = rows(durable, run), rows(durable, run, first=MOST_ROWS)
    assert len(first) == MOST_ROWS
    assert [row.label for row in (*first, *rest)] == names
    assert rows(durable, run, first=10_000) == []


def test_parts_are_counted_where_there_is_no_room_for_all(world: World) -> None:
    def define(durable: Durable) -> None:
        workflow = durable.workflow("w")
        for number in range(8):
            workflow.map(
                f"map {number}",
                over=lambda _: list(range(MOST_PARTS)),
                handler=noting([], "pick"),
            )

    durable = world.worker(define)
    run = durable.start("w")
    to_its_end(world, durable, run)
    shown, count = timeline_of(durable, view_of(durable, run), datetime.now(UTC))
    assert sum(row.density is not None for row in shown.rows) == 4
    assert count == len(shown.rows) == 8 + 4 * MOST_PARTS
    assert len(timeline(shown)) < LARGEST_PICTURE

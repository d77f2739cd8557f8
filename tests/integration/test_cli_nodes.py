"""The commands on runs with branches, items, iterations, waits and children."""

from __future__ import annotations

import json
import re
import sys
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from celery_durable import Context, Durable, Run, Suspend
from celery_durable.store.connection import Statement
from celery_durable.store.read import overview
from celery_durable.view.run import RunReader, RunView
from tests.forms import short_or_long
from tests.integration.commanding import Answer, Cli, Terminal, is_plain
from tests.integration.driving import Gate, World, spawn
from tests.waiting import wait_until

ITEMS = short_or_long(200, 1_000)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def echo(ctx: Context) -> Any:
    return ctx.item


def nothing(ctx: Context) -> None: ...


def line_of(answer: Answer, name: str) -> list[str]:
    """The words of the line that begins with `name`."""
    assert answer.code == 0, answer.err
    return next(words for words in answer.fields if words[:1] == [name])


class Picking:
    """A run over many items: one fails, one waits for an answer, one is being executed."""

    def __init__(self, world: World, count: int = ITEMS) -> None:
        self.world = world
        self.gate = Gate()
        self.durable = world.worker(partial(self.define, count=count))
        self.run: Run = self.durable.start("w")
        self.executing: Future[None] | None = None

    def define(self, durable: Durable, *, count: int) -> None:
        def pick(ctx: Context) -> Any:
            match ctx.item:
                case 3:
                    raise ValueError("no such shelf")
                case 5 if not ctx.is_resumed:
                    return Suspend(signal="approve", timeout=3600)
                case 7:
                    ctx.progress(0.4, "reading page 3")
                    self.gate()
                case _:
                    pass
            return ctx.item

        durable.workflow("w").step(nothing).map(
            "lines",
            over=lambda _: list(range(count)),
            handler=durable.step(pick, compensate=nothing),
            on_error="keep",
        ).step(nothing, name="after")

    def go(self) -> None:
        """Until nothing moves but the item that is being executed."""
        while hints := self.world.publish():
            for token in hints:
                row = self.world.rows("SELECT position FROM durable_token WHERE id = %s", token)
                if row and row[0]["position"] == 7:
                    self.executing = self.gate.hold(self.durable.engine.advance, token)
                else:
                    self.durable.engine.advance(token)

    def end(self) -> None:
        self.gate.open()
        assert self.executing is not None
        self.executing.result(20)
        self.run.resume("approve")
        self.world.drain(self.durable)


@pytest.fixture
def picking(world: World) -> Picking:
    made = Picking(world)
    made.go()
    for _ in range(3):  # the tries of the item that fails
        world.let_time_pass(100)
        made.go()
    return made


def test_a_run_of_many_items_is_summarised(picking: Picking, call: Cli) -> None:
    run, app = str(picking.run.id), picking.durable.app
    answer = call(app, "show", run)
    counts = ["1", "failed", "1", "executing", "1", "waiting"]
    assert line_of(answer, "lines") == [
        *("lines", "current", "map", f"{ITEMS - 2}/{ITEMS}"),
        *counts,
    ]
    assert line_of(answer, "lines#7")[1:] == ["40%", "reading", "page", "3"]
    assert line_of(answer, "lines#5")[1:6] == ["waits", "for", "signal", "approve", "since"]
    assert len(TIME.findall(" ".join(line_of(answer, "lines#5")))) == 2
    assert len(answer.out.splitlines()) < 20
    assert is_plain(answer.out)

    told = call(app, "show", run, "--json").document
    assert told["forks"]["lines"] == {
        "total": ITEMS,
        "ended": ITEMS - 2,
        "failed": 0,
        "executing": 1,
        "waiting": 1,
        "queued": 0,
    }
    assert told["awaiting"] == ["approve"]
    assert told["progress"]["lines#7"]["message"] == "reading page 3"
    (waits,) = [unit for unit in told["units"] if unit["signal"]]
    assert (waits["unit"], waits["waits_for"], waits["signal"]) == ("lines#5", "signal", "approve")
    assert datetime.fromisoformat(waits["waiting_since"]) < datetime.fromisoformat(waits["wake_at"])
    (lines,) = [node for node in told["nodes"] if node["name"] == "lines"]
    assert (lines["tally"]["completed"], lines["tally"]["failed"]) == (ITEMS - 3, 1)

    picking.end()
    after = call(app, "show", run)
    assert line_of(after, "lines")[3:] == ["map", str(ITEMS), "items", "1", "failed"]


def test_a_terminal_gets_a_progress_bar(
    picking: Picking, call: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", screen)
        patched.setenv("COLUMNS", "120")
        assert call(picking.durable.app, "show", str(picking.run.id), flags=["-C"]).code == 0
    lines = next(line for line in screen.getvalue().splitlines() if f"/{ITEMS}" in line)
    assert lines.count("━") == 20
    reading = next(line for line in screen.getvalue().splitlines() if "reading page 3" in line)
    assert "━" in reading
    assert "40%" in reading
    picking.end()


def test_history_folds_items_unless_it_is_asked_for_all(picking: Picking, call: Cli) -> None:
    run, app = str(picking.run.id), picking.durable.app
    picking.end()
    folded = call(app, "history", run)
    assert [words[0] for words in folded.fields] == ["UNIT", "nothing", "lines#*", "lines", "after"]
    assert f"lines#* ({ITEMS})" in folded.out
    assert f"{ITEMS - 1} completed, 1 failed" in folded.out
    assert "ValueError: no such shelf" in folded.out
    assert is_plain(folded.out)
    whole = call(app, "history", run, "--all")
    assert len(whole.fields) == ITEMS + 4
    assert line_of(whole, "lines#3")[1:3] == ["failed", "3"]
    assert len(call(app, "history", run, "--json").document) == ITEMS + 3
    tracebacks = call(app, "history", run, "--traceback").out
    assert tracebacks.count("Traceback (most recent") == 1
    assert "lines#3, attempt 3:" in tracebacks
    assert "retried" not in call(app, "history", run, "--attempts").out
    assert call(app, "history", run, "--attempts", "--all").out.count("retried") == 2


def test_what_has_not_changed_is_not_read_again(
    picking: Picking, statements: list[Statement]
) -> None:
    statements.clear()
    reader = RunReader(picking.durable, picking.run, with_results=False)
    first = reader.read()
    assert overview._ENTRIES in statements
    statements.clear()
    assert reader.read() is first
    assert overview._ENTRIES not in statements
    assert len(statements) < 10
    picking.end()
    assert reader.read() is not first
    assert reader.read().has_ended


def test_follow_counts_items_and_shows_waits(
    world: World, call: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    views: list[RunView] = []
    read = RunReader.read

    def noticed(reader: RunReader) -> RunView:
        views.append(read(reader))
        return views[-1]

    monkeypatch.setattr(RunReader, "read", noticed)
    picking = Picking(world, count=10)
    picking.go()
    following = spawn(call, picking.durable.app, "show", str(picking.run.id), "--follow")
    wait_until(lambda: views, message="the run is read")
    for _ in range(3):
        world.let_time_pass(100)
        picking.go()
    picking.end()
    answer = following.result(30)
    assert answer.code == 0
    said = [line.split("  ", 1)[1] for line in answer.out.splitlines()]
    assert any(line.startswith("at lines") and "waits for signal approve" in line for line in said)
    assert any(re.fullmatch(r"lines \d+/10(, 1 failed)?", line) for line in said)
    assert {"lines 10, 1 failed", "lines 10/10, 1 failed"} & {*said}
    assert not any(line.startswith("lines#") for line in said)
    assert said[-1] == "run completed"


def many_kinds(durable: Durable) -> None:
    child = durable.workflow("child").step(echo)
    undoable = durable.step(echo, compensate=nothing)
    durable.workflow("w").parallel(
        "checks", {"fraud": undoable, "price": echo, "legal": child}
    ).route("rail", lambda _: "wire", {"wire": undoable, "card": echo}).loop(
        "poll", undoable, until=lambda _, n: n == 3, max_iterations=20
    ).sleep("cooldown", 3600).child_workflow("fulfil", child).step(
        lambda ctx: 1 / ctx.input, name="last"
    )


def test_show_has_branches_cases_iterations_and_sleeps(world: World, call: Cli) -> None:
    durable = world.worker(many_kinds)
    run = durable.start("w", 1)
    world.drain(durable)
    answer = call(durable.app, "show", str(run.id))
    assert line_of(answer, "status")[1] == "sleeping,"
    names = [words[0] for words in answer.fields if words]
    at = names.index("checks")
    assert names[at : at + 5] == ["checks", "fraud", "price", "legal", "rail"]
    assert "\n  fraud" in answer.out
    assert line_of(answer, "rail")[3:] == ["case", "wire"]
    assert line_of(answer, "poll")[3:] == ["loop", "3", "iterations"]
    assert line_of(answer, "cooldown")[:4] == ["cooldown", "waiting", "sleeps", "since"]
    assert len(TIME.findall(" ".join(line_of(answer, "cooldown")))) == 2
    (listed,) = call(durable.app, "list", "--status", "sleeping", "--json").document
    assert listed["run_id"] == str(run.id)
    below = call(durable.app, "list", "--parent", str(run.id), "--json").document
    assert [child["workflow"] for child in below] == ["child"]


def test_show_has_what_was_compensated(world: World, call: Cli) -> None:
    durable = world.worker(many_kinds, default_retry={"max_attempts": 1})
    run = durable.start("w", 0)
    world.drain(durable)
    world.let_time_pass(3600)
    world.drain(durable)
    told = call(durable.app, "show", str(run.id), "--json").document
    assert told["states"] == {
        "checks": "compensated",
        "rail": "compensated",
        "poll": "compensated",
        "cooldown": "completed",
        "fulfil": "completed",
        "last": "failed",
    }
    (checks,) = [node for node in told["nodes"] if node["name"] == "checks"]
    assert checks["branches"] == {
        "fraud": "compensated",
        "price": "completed",
        "legal": "completed",
    }
    answer = call(durable.app, "show", str(run.id))
    assert line_of(answer, "poll")[-2:] == ["3", "undone"]
    assert "poll#*#compensate (3)" in call(durable.app, "history", str(run.id)).out


def test_show_has_the_current_iteration(world: World, call: Cli) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").loop("poll", echo, max_iterations=20, every=60)

    durable = world.worker(define)
    run = durable.start("w")
    world.drain(durable)
    answer = call(durable.app, "show", str(run.id))
    words = line_of(answer, "poll")
    assert words[:9] == ["poll", "waiting", "loop", "1", "of", "at", "most", "20", "iterations"]
    assert words[9] == "in"


def test_many_children_are_counted(world: World, call: Cli) -> None:
    def define(durable: Durable) -> None:
        child = durable.workflow("child").wait_for_signal("go")
        durable.workflow("w").map("kids", over=lambda _: list(range(30)), handler=child)

    durable = world.worker(define)
    run = durable.start("w")
    world.drain(durable)
    for child in run.status().children[:4]:
        durable.resume(child.run_id, "go")
    world.drain(durable)
    answer = call(durable.app, "show", str(run.id))
    assert line_of(answer, "status")[1] == "suspended,"
    words = line_of(answer, "children")
    assert words == ["children", "30", "26", "suspended,", "4", "completed"]
    rows = [words for words in answer.fields if words[:1] == ["child"]]
    assert len(rows) == 10
    assert {words[4] for words in rows} == {"suspended"}
    assert line_of(answer, "kids")[1:] == ["waiting", "map", "4/30", "26", "waiting"]
    told = json.loads(call(durable.app, "show", str(run.id), "--json").out)
    assert told["children_by_status"] == {"suspended": 26, "completed": 4}
    assert len(told["children"]) == 30


def test_show_has_the_progress_of_steps_and_branches(world: World, call: Cli) -> None:
    gates = {"step": Gate(), "left": Gate()}

    def step(ctx: Context) -> None:
        ctx.heartbeat({"page": 3})
        gates["step"]()

    def left(ctx: Context) -> None:
        ctx.progress(0.5, "half\nway")
        gates["left"]()

    def define(durable: Durable) -> None:
        durable.workflow("w").step(step).parallel("both", {"left": left, "right": nothing})

    durable = world.worker(define)
    run = durable.start("w")
    draining = gates["step"].hold(world.drain, durable)
    answer = call(durable.app, "show", str(run.id))
    assert line_of(answer, "step") == ["step", "current", '{"page":', "3}"]
    gates["step"].open()
    gates["left"].wait_until_reached()
    answer = call(durable.app, "show", str(run.id))
    assert line_of(answer, "left") == ["left", "current", "50%", "half", "way"]
    gates["left"].finish(draining)
    assert run.status().status == "completed"

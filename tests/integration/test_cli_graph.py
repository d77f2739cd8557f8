"""`durable graph`: a plan, and a run's plan with its state, as Mermaid."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

from celery_durable import Context, Durable
from tests.integration.commanding import Answer, Cli, assert_refused, is_plain
from tests.integration.driving import World
from tests.unit.picturing import parsed, texts


def echo(ctx: Context) -> Any:
    return ctx.item


def nothing(ctx: Context) -> None: ...


def define(durable: Durable) -> None:
    durable.workflow("w").step(durable.step(echo, name="old"))
    undoable = durable.step(echo, compensate=nothing)
    durable.workflow("w", version=2).step(undoable, name="reserve").parallel(
        "checks", {"fraud": undoable, "price": echo}
    ).map("lines", over=lambda _: [1, 2, 3], handler=echo).route(
        "rail", lambda _: "wire", {"wire": echo, "card": echo}
    ).wait_for_signal("signoff", "go").step(lambda ctx: 1 / ctx.input, name="last")


def classes(answer: Answer) -> dict[str, str]:
    """The colour of each node, by its text."""
    labels = dict(re.findall(r'^    (\w+)[\[({>/\\]+"([^"<]+)', answer.out, re.MULTILINE))
    coloured = re.findall(r"^    class ([\w,]+) (\w+)$", answer.out, re.MULTILINE)
    return {labels[id_]: colour for ids, colour in coloured for id_ in ids.split(",")}


def test_a_stored_plan_is_drawn_by_a_process_that_does_not_know_it(world: World, call: Cli) -> None:
    world.worker(define).start("w", 1)
    stranger = world.worker().app
    answer = call(stranger, "graph", "w")
    assert answer.code == 0
    assert answer.out.startswith('flowchart TD\n    begin(["w v2"])\n')
    assert 'n0["reserve ↶"]' in answer.out
    assert is_plain(answer.out)
    document = call(stranger, "graph", "w", "--json").document
    assert [node["name"] for node in document["nodes"]][:3] == ["reserve", "checks", "lines"]


def test_a_plan_that_is_not_stored_is_drawn_from_the_app(world: World, call: Cli) -> None:
    app = world.worker(define).app
    assert 'begin(["w v2"])' in call(app, "graph", "w").out
    first = call(app, "graph", "w", "--version", "1").out
    assert 'begin(["w v1"])' in first
    assert 'n0["old"]' in first
    assert world.counts()["definition"] == 0


def test_a_graph_that_cannot_be_drawn_is_refused(world: World, call: Cli) -> None:
    durable = world.worker(define)
    run = durable.start("w", 1)
    assert_refused(call(durable.app, "graph", "v"), 3, "'v'", "known here: w")
    assert_refused(call(durable.app, "graph", "w", "--version", "9"), 3, "version 9")
    assert_refused(call(durable.app, "graph", str(uuid4())), 3, "durable list")
    assert_refused(call(durable.app, "graph", str(run.id), "--version", "1"), 2, "--version")
    assert_refused(call(durable.app, "graph"), 2, "WORKFLOW|RUN")
    assert_refused(call(durable.app, "graph", "--workflow", "w"), 2, "--run-key")
    assert_refused(call(durable.app, "graph", "w", "--workflow", "w"), 2, "WORKFLOW|RUN")
    assert_refused(call(durable.app, "graph", "--workflow", "w", "--run-key", "z"), 3, "'z'")


def test_a_run_is_drawn_with_its_state(world: World, call: Cli) -> None:
    durable = world.worker(define, default_retry={"max_attempts": 1})
    run = durable.start("w", 0, key="k")
    world.drain(durable)
    by_key = call(durable.app, "graph", "--workflow", "w", "--run-key", "k")
    assert by_key == call(durable.app, "graph", str(run.id))
    stranger = world.worker().app
    waits = call(stranger, "graph", str(run.id))
    assert classes(waits) == {
        "reserve ↶": "completed",
        "checks": "completed",
        "fraud ↶": "completed",
        "price": "completed",
        "echo": "completed",
        "rail": "completed",
        "wire": "completed",
        "card": "pending",
        "signoff": "waiting",
        "last": "pending",
    }
    assert "3 done" in waits.out
    run.resume("go")
    world.drain(durable)
    failed = call(stranger, "graph", str(run.id))
    assert classes(failed) == {
        **classes(waits),
        "reserve ↶": "compensated",
        "checks": "compensated",
        "fraud ↶": "compensated",
        "signoff": "completed",
        "last": "failed",
    }
    document = call(stranger, "graph", str(run.id), "--json").document
    assert (document["run_id"], document["status"]) == (str(run.id), "failed")
    assert document["plan"]["version"] == 2
    assert document["marks"]["checks#fraud"]["colour"] == "compensated"


def test_a_plan_and_a_run_are_drawn_as_an_image_that_stands_alone(world: World, call: Cli) -> None:
    durable = world.worker(define, default_retry={"max_attempts": 1})
    run = durable.start("w", 0)
    world.drain(durable)
    stranger = world.worker().app
    plan = parsed(call(stranger, "graph", "w", "--svg").out)
    assert {"reserve", "checks", "lines", "rail"} <= {*texts(plan)}
    assert not any("completed" in text for text in texts(plan))
    picture = parsed(call(stranger, "graph", str(run.id), "--svg").out)
    assert "waits for go" in texts(picture)
    assert "3 items" in texts(picture)
    assert picture.attrib["role"] == "img"
    assert texts(picture, "title")[0] == "Run of w v2, suspended"
    assert "signoff: waiting" in texts(picture, "desc")[0]
    right = parsed(call(stranger, "graph", "w", "--svg", "--right").out)
    assert float(right.attrib["width"]) > float(right.attrib["height"])
    assert float(plan.attrib["width"]) < float(plan.attrib["height"])
    assert_refused(call(stranger, "graph", "w", "--svg", "--json"), 2, "--json")
    assert_refused(call(stranger, "graph", "w", "--right"), 2, "--svg")

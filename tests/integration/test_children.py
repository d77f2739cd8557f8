"""A child is a run of its own; its result, its failure and its end reach whoever waits for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.core.status import Status
from celery_durable.run import Run
from tests.forms import short_or_long
from tests.integration.driving import ONCE, Gate, World, error_of


def echo(ctx: Any) -> Any:
    if ctx.input == "fail":
        raise ValueError("the child's own error")
    return ctx.input


def child_of(durable: Durable) -> Any:
    return durable.workflow("child").step(echo, name="e", retry=ONCE)


def in_a_step(durable: Durable) -> None:
    durable.workflow("w").step(child_of(durable), name="c")


def in_a_node(durable: Durable) -> None:
    child_of(durable)
    durable.workflow("w").child_workflow("c", "child", map_input=lambda ctx: [ctx.input])


def in_a_branch(durable: Durable) -> None:
    durable.workflow("w").parallel("p", {"c": child_of(durable), "o": lambda _: "other"})


def in_an_item(durable: Durable) -> None:
    durable.workflow("w").map("m", over=lambda _: [1, None, {"a": 2}], handler=child_of(durable))


def in_a_case(durable: Durable) -> None:
    durable.workflow("w").route("r", lambda _: "c", {"c": child_of(durable)})


def in_a_loop(durable: Durable) -> None:
    durable.workflow("w").loop(
        "l",
        child_of(durable),
        max_iterations=9,
        map_input=lambda _: 1,
        feedback=lambda result: result["e"] + 1,
        until=lambda result, done: result["e"] == 3 and done == 3,
    )


def in_a_loop_without_functions(durable: Durable) -> None:
    durable.workflow("w").loop("l", child_of(durable), max_iterations=2)


def children(world: World, run: Run) -> list[dict[str, Any]]:
    """The runs that this one started, the oldest first."""
    return world.rows(
        "SELECT id, status, version, input FROM durable_run WHERE parent_run_id = %s ORDER BY id",
        run.id,
    )


def child_run(worker: Durable, world: World, run: Run) -> Run:
    (row,) = children(world, run)
    return worker.run(row["id"])


@pytest.mark.parametrize("inline_steps", [1, 100])
@pytest.mark.parametrize(
    ("define", "inputs", "result"),
    [
        (in_a_step, ["run's"], {"c": {"e": "run's"}}),
        (in_a_node, [["run's"]], {"c": {"e": ["run's"]}}),
        (in_a_branch, ["run's"], {"p": {"c": {"e": "run's"}, "o": "other"}}),
        (in_an_item, [1, None, {"a": 2}], {"m": [{"e": 1}, {"e": None}, {"e": {"a": 2}}]}),
        (in_a_case, ["run's"], {"r": {"e": "run's"}}),
        (in_a_loop, [1, 2, 3], {"l": {"e": 3}}),
        (in_a_loop_without_functions, ["run's"] * 2, {"l": {"e": "run's"}}),
    ],
)
def test_a_workflow_runs_as_a_child_wherever_a_step_is_taken(
    world: World, define: Any, inputs: list[Any], result: Any, inline_steps: int
) -> None:
    worker = world.worker(define, inline_steps=inline_steps)
    run = worker.start("w", "run's")
    world.drain(worker)

    assert run.result(0) == result
    started = children(world, run)
    assert sorted(map(str, (row["input"] for row in started))) == sorted(map(str, inputs))
    assert {row["status"] for row in started} == {"completed"}
    of_children = [one for one in run.history() if one.child_run_id is not None]
    assert {one.child_run_id for one in of_children} == {row["id"] for row in started}


@pytest.mark.parametrize(
    ("define", "unit"),
    [
        (in_a_step, "c"),
        (in_a_branch, "p#c"),
        (in_a_case, "r"),
        (in_a_loop_without_functions, "l#0"),
    ],
)
def test_a_childs_failure_fails_the_unit_with_the_childs_error_in_it(
    world: World, define: Any, unit: str
) -> None:
    worker = world.worker(define)
    run = worker.start("w", "fail")
    world.drain(worker)

    status = run.status()
    child = child_run(worker, world, run)
    assert (status.status, child.status().status) == (Status.FAILED, Status.FAILED)
    assert status.error is not None
    assert (status.error.type, status.error.unit) == ("ChildFailed", unit)
    for told in ("ValueError", "the child's own error", str(child.id), " at e"):
        assert told in status.error.message
    assert "echo" in status.error.traceback
    assert f"{unit} failed" in world.units(run)


@pytest.mark.parametrize("define", [in_a_step, in_a_branch, in_a_loop_without_functions])
def test_a_cancel_of_the_child_alone_fails_the_unit(world: World, define: Any) -> None:
    """The ancestor's fault: a cancelled child strands its parent."""
    worker = world.worker(define)
    run = worker.start("w")
    while not children(world, run):
        for token_id in world.publish():
            worker.engine.advance(token_id)
    child = child_run(worker, world, run)
    child.cancel(reason="not needed")
    world.drain(worker)

    error = run.status().error
    assert (run.status().status, child.status().status) == (Status.FAILED, Status.CANCELLED)
    assert error is not None
    assert error.type == "ChildFailed"
    assert "cancelled" in error.message
    assert "not needed" in error.message


def test_three_levels_deep(world: World) -> None:
    def define(durable: Durable) -> None:
        low = durable.workflow("low").step(echo, name="e", retry=ONCE)
        middle = durable.workflow("middle").step(low, name="l")
        durable.workflow("w").child_workflow("m", middle)

    worker = world.worker(define, inline_steps=1)
    good, bad = worker.start("w", 1), worker.start("w", "fail")
    world.drain(worker)

    assert good.result(0) == {"m": {"l": {"e": 1}}}
    assert bad.status().status is Status.FAILED
    error = error_of(bad)
    assert error.message.count("ChildFailed") == 1
    assert "the child's own error" in error.message
    roots = world.rows("SELECT root_run_id FROM durable_run WHERE workflow = 'low' ORDER BY id")
    assert {row["root_run_id"] for row in roots} == {good.id, bad.id}


def test_a_parent_knows_its_children(world: World) -> None:
    worker = world.worker(in_an_item)
    run = worker.start("w")
    worker.engine.advance(world.publish()[0])
    assert run.status().children == ()
    for token_id in world.publish():
        worker.engine.advance(token_id)

    status = run.status()
    assert status.status is Status.SUSPENDED
    assert len(status.children) == 3
    assert {one.status for one in status.children} == {Status.RUNNING}
    listed = worker.list(parent=run.id)
    assert [one.run_id for one in listed] == [one.run_id for one in status.children]
    assert {one.parent_run_id for one in listed} == {run.id}
    assert worker.run(listed[0].run_id).status().parent_run_id == run.id
    assert worker.list(parent=listed[0].run_id) == []

    world.drain(worker)
    assert {one.status for one in run.status().children} == {Status.COMPLETED}


def test_many_children_of_one_parent(world: World) -> None:
    many = short_or_long(200, 1_000)

    def define(durable: Durable) -> None:
        durable.workflow("w").map(
            "m", over=lambda _: list(range(many)), handler=child_of(durable), max_concurrency=100
        )

    workers = [world.worker(define, inline_steps=steps) for steps in (1, 100)]
    run = workers[0].start("w")
    world.drain(*workers)

    assert run.result(0) == {"m": [{"e": n} for n in range(many)]}
    assert len(children(world, run)) == many
    assert len(run.status().children) == 100, "the newest"
    assert world.counts()["token"] == 0


@pytest.mark.parametrize("version", [None, 7])
def test_a_child_that_nobody_knows_fails_the_unit(world: World, version: int | None) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("known").step(echo, name="e")
        name = "unknown" if version is None else "known"
        durable.workflow("w").child_workflow("c", name, version=version)

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)

    error = run.status().error
    assert run.status().status is Status.FAILED
    assert error is not None
    assert (error.type, error.unit) == ("UnknownWorkflow", "c")
    assert children(world, run) == []


@pytest.mark.parametrize(("asked", "started"), [(None, 2), (1, 1), (2, 2)])
def test_a_child_has_the_version_asked_for_or_the_highest(
    world: World, asked: int | None, started: int
) -> None:
    """P10"""

    def define(durable: Durable) -> None:
        for version in (1, 2):
            durable.workflow("child", version=version).step(lambda _: 1, name="a")
        durable.workflow("w").child_workflow("c", "child", version=asked)

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    assert [row["version"] for row in children(world, run)] == [started]


def test_a_workflow_that_is_given_runs_in_its_own_version(world: World) -> None:
    """P10"""

    def define(durable: Durable) -> None:
        first = durable.workflow("child", version=1).step(lambda _: 1, name="a")
        durable.workflow("child", version=2).step(lambda _: 2, name="a")
        durable.workflow("w").step(first, name="s").child_workflow("c", first)

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    assert run.result(0) == {"s": {"a": 1}, "c": {"a": 1}}


@dataclass
class Order:
    sku: str


def test_an_input_that_the_child_refuses_fails_the_unit(world: World) -> None:
    """P12"""

    def define(durable: Durable) -> None:
        child = durable.workflow("child", input=Order).step(echo, name="e")
        durable.workflow("w").child_workflow("c", child, map_input=lambda ctx: ctx.input)

    worker = world.worker(define)
    good, bad = worker.start("w", {"sku": "A1"}), worker.start("w", {"skew": "A1"})
    world.drain(worker)

    assert good.result(0) == {"c": {"e": Order("A1")}}
    assert bad.status().status is Status.FAILED
    assert children(world, bad) == []
    assert world.units(bad) == ["c failed"]


@pytest.mark.parametrize("given", [object(), float("inf"), "x" * 2_000])
def test_an_input_that_cannot_be_stored_fails_the_unit(world: World, given: object) -> None:
    """P12"""

    def define(durable: Durable) -> None:
        child_of(durable)
        durable.workflow("w").child_workflow("c", "child", map_input=lambda _: given)

    worker = world.worker(define, max_payload_bytes=1_000)
    run = worker.start("w")
    world.drain(worker)
    assert world.units(run) == ["c failed"]
    assert children(world, run) == []


def test_the_worker_of_a_child_may_die(world: World) -> None:
    """P5"""
    gates = [Gate(), Gate()]
    gates[1].open()

    def define(durable: Durable) -> None:
        child = durable.workflow("child").step(lambda _: gates.pop(0)(), name="g")
        durable.workflow("w").step(child, name="c")

    first, second = world.worker(define), world.worker(define)
    run = first.start("w")
    at_gate = gates[0]
    at_work = at_gate.hold(world.drain, first)
    world.kill(first)
    assert world.reap(second) == 1
    world.drain(second)

    assert run.status().status is Status.COMPLETED
    at_gate.finish(at_work)
    assert [row["status"] for row in children(world, run)] == ["completed"]


def test_a_child_pushes_its_parent_past_no_gate_that_it_was_not_waiting_for(world: World) -> None:
    """The ancestor's fault, with a hint for every child's end, late and doubled."""

    def define(durable: Durable) -> None:
        child = child_of(durable)
        workflow = durable.workflow("w").step(child, name="first").wait_for_signal("s")
        workflow.child_workflow("second", durable.workflow("long").wait_for_signal("s2"))

    worker = world.worker(define, inline_steps=1)
    run = worker.start("w")
    world.drain(worker)
    token_id = world.token_id(run)
    first = child_run(worker, world, run)
    for expected in (("s",), ()):
        assert first.status().status is Status.COMPLETED
        for _ in range(3):
            worker.engine.advance(token_id)
        assert run.status().awaiting == expected
        assert run.status().status is Status.SUSPENDED
        run.resume("s")
        world.drain(worker)
    (long,) = [one for one in run.status().children if one.run_id != first.id]
    assert worker.run(long.run_id).resume("s2", 1).accepted
    world.drain(worker)
    assert run.result(0)["second"] == {"s2": 1}

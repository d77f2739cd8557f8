"""P10: nodes may change while runs stand at them; who cannot go on leaves the run alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.run import Run
from tests.integration.driving import ONCE, Define, World, noting
from tests.integration.forks import advance, ended, standing
from tests.integration.workflows import failing, saying

Build = Callable[[Any, list[str]], Any]
"""Appends nodes to a workflow; they leave their units in the log."""


def with_nodes(log: list[str], build: Build) -> Define:
    """A workflow of the nodes, between two steps."""

    def define(durable: Durable) -> None:
        build(durable.workflow("w").step(noting(log, "first")), log).step(noting(log, "last"))

    return define


def parallel(*names: str, node: str = "n") -> Build:
    return lambda w, log: w.parallel(node, {name: saying(log) for name in names})


def mapping(node: str = "n", **options: Any) -> Build:
    return lambda w, log: w.map(node, over=lambda _: [0, 1, 2], handler=saying(log), **options)


def route(*names: str, node: str = "n") -> Build:
    return lambda w, log: w.route(node, lambda _: "x", {name: saying(log) for name in names})


def loop(node: str = "n", most: int = 3) -> Build:
    return lambda w, log: w.loop(node, saying(log), max_iterations=most)


def sleep(node: str = "n", seconds: float = 60.0) -> Build:
    return lambda w, _: w.sleep(node, seconds)


def step(node: str = "n") -> Build:
    return lambda w, log: w.step(saying(log), name=node)


def nothing(workflow: Any, _: list[str]) -> Any:
    return workflow


def another_before(build: Build) -> Build:
    return lambda w, log: build(w.step(saying(log), name="new"), log)


def at(world: World, define: Define, *units: str) -> Run:
    """A run that an older release has brought to its second node, and past these units."""
    old = world.worker(define, inline_steps=1)
    run = old.start("w", {})
    advance(world, old, run, "first", *units)
    return run


CHANGES = {
    "parallel removed": (parallel("x", "y"), ["n", "n#y"], nothing),
    "parallel renamed": (parallel("x", "y"), ["n"], parallel("x", "y", node="other")),
    "parallel is a map now": (parallel("x", "y"), ["n", "n#y"], mapping()),
    "a node put before a parallel": (parallel("x"), ["n"], another_before(parallel("x"))),
    "a branch removed": (parallel("x", "y"), ["n", "n#y"], parallel("y")),
    "a branch renamed": (parallel("x", "y"), ["n", "n#y"], parallel("z", "y")),
    "map removed": (mapping(), ["n", "n#1"], nothing),
    "map renamed": (mapping(max_concurrency=1), ["n", "n#0"], mapping("other")),
    "map is a parallel now": (mapping(), ["n"], parallel("0", "1", "2")),
    "route removed": (route("x", "y"), ["n#route"], nothing),
    "route renamed": (route("x", "y"), ["n#route"], route("x", "y", node="other")),
    "route is a step now": (route("x", "y"), ["n#route"], step()),
    "the case removed": (route("x", "y"), ["n#route"], route("y")),
    "the case renamed": (route("x", "y"), ["n#route"], route("z", "y")),
    "loop removed": (loop(), ["n#0"], nothing),
    "loop renamed": (loop(), ["n#0"], loop("other")),
    "loop is a step now": (loop(), ["n#0"], step()),
    "loop is a sleep now": (loop(), ["n#0"], sleep()),
    "sleep removed": (sleep(), ["n"], nothing),
    "sleep renamed": (sleep(), ["n"], sleep("other")),
    "sleep is a step now": (sleep(), ["n"], step()),
}


def places(world: World, run: Run) -> list[tuple[Any, ...]]:
    """Where the run stands, whatever has become of its times."""
    columns = ("unit", "node", "part", "attempt", "crashes", "claimed_by", "wait", "remaining")
    return [tuple(row[c] for c in columns) for row in standing(world, run).values()]


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_whose_node_has_changed_is_left_alone_until_someone_knows_it(
    world: World, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P10: it is neither failed nor completed."""
    before, units, after = CHANGES[change]
    log: list[str] = []
    old = with_nodes(log, before)
    run = at(world, old, *units)
    done, stood = list(log), places(world, run)

    changed = world.worker(with_nodes(log, after))
    for _ in range(3):
        world.drain(changed)
        world.let_time_pass(1000)
    assert log == done
    assert places(world, run) == stood
    assert "is left to other workers" in caplog.text

    knowing = world.worker(old)
    world.drain(knowing)
    world.let_time_pass(1000)
    world.drain(knowing)
    assert log[-1] == "last"
    assert len(log) == len(set(log)), "nothing was done twice"
    assert ended(world, run) == "completed"


ADDITIONS = {
    "a branch added": (parallel("x", "y"), ["n", "n#y"], parallel("z", "x", "y"), ["n#x"]),
    "branches in another order": (parallel("x", "y"), ["n", "n#y"], parallel("y", "x"), ["n#x"]),
    "a case added": (route("x"), ["n#route"], route("y", "x"), ["n"]),
    "a loop is longer": (loop(most=2), ["n#0"], loop(most=3), ["n#1", "n#2"]),
    "a loop is shorter": (loop(most=9), ["n#0"], loop(most=2), ["n#1"]),
    "a sleep is longer": (sleep(), ["n"], sleep(seconds=10_000), []),
}


@pytest.mark.parametrize("change", ADDITIONS)
def test_a_run_goes_on_where_its_node_still_has_what_it_stands_at(
    world: World, change: str
) -> None:
    """P10: what was forked, chosen or begun to be waited for stays as it was."""
    before, units, after, expected = ADDITIONS[change]
    log: list[str] = []
    run = at(world, with_nodes(log, before), *units)
    log.clear()

    changed = world.worker(with_nodes(log, after))
    world.drain(changed)
    world.let_time_pass(100)
    world.drain(changed)
    assert log == [*expected, "last"]
    assert ended(world, run) == "completed"


def test_a_branch_that_a_worker_does_not_know_is_done_by_another_beside_it(world: World) -> None:
    """P10: a rolling deploy; each does what it knows."""
    log: list[str] = []
    old = world.worker(with_nodes(log, parallel("x", "y")))
    run = at(world, with_nodes(log, parallel("x", "y")), "n")
    new = world.worker(with_nodes(log, parallel("y")))
    world.drain(new)
    assert log == ["first", "n#y"]
    world.let_time_pass(100)
    world.drain(old)

    assert log == ["first", "n#y", "n#x", "last"]
    assert ended(world, run) == "completed"


@pytest.mark.parametrize(
    ("before", "unit", "changed"),
    [
        (parallel("x", "y"), "n#x", parallel("y")),
        (route("x", "y"), "n", route("y")),
    ],
    ids=["branch", "case"],
)
def test_what_undoes_a_part_is_left_to_a_worker_that_has_it(
    world: World, before: Build, unit: str, changed: Build
) -> None:
    """P8, P10"""
    log: list[str] = []

    def saga(build: Build) -> Define:
        def define(durable: Durable) -> None:
            def undoing(handler: Any) -> Any:
                made = durable.step(name="part")(handler)
                made.compensate(saying(log))
                return made

            class Undoable:
                """The builder, with steps that can be undone."""

                def parallel(self, name: str, branches: dict[str, Any]) -> Any:
                    return workflow.parallel(
                        name, {key: undoing(one) for key, one in branches.items()}
                    )

                def route(self, name: str, selector: Any, cases: dict[str, Any]) -> Any:
                    return workflow.route(
                        name, selector, {key: undoing(one) for key, one in cases.items()}
                    )

            workflow = durable.workflow("w")
            build(Undoable(), log).step(failing(), name="last", retry=ONCE)

        return define

    old = world.worker(saga(before), inline_steps=1)
    run = old.start("w", {})
    while f"{unit}#compensate" not in standing(world, run):
        for token_id in world.publish():
            old.engine.advance(token_id)
    stood = places(world, run)

    world.drain(world.worker(saga(changed)))
    assert places(world, run) == stood
    assert world.status(run) == "compensating"
    world.let_time_pass(100)
    world.drain(old)
    assert f"{unit}#compensate" in log
    assert ended(world, run) == "failed"


@pytest.mark.parametrize(
    ("before", "units", "after"),
    [
        (loop(), ["n#0"], step()),
        (route("x"), ["n#route"], step()),
        (step(), [], loop()),
        (sleep(), ["n"], step()),
        (mapping(), ["n", "n#1"], step()),
        (mapping(), ["n", "n#1"], parallel("0", "1", "2")),
        (parallel("x"), ["n"], mapping()),
    ],
    ids=["loop", "route", "step to loop", "sleep", "map", "map to parallel", "parallel to map"],
)
def test_a_run_that_comes_to_a_node_of_another_kind_later_is_left_alone_too(
    world: World, before: Build, units: list[str], after: Build
) -> None:
    """P10: the worker had looked at the workflow before the run got there."""
    log: list[str] = []
    old = world.worker(with_nodes(log, before), inline_steps=1)
    changed = world.worker(with_nodes(log, after), inline_steps=1)
    for worker in (old, changed):
        one = worker.start("w", {})
        worker.engine.advance(world.token_id(one))
        one.cancel()
        world.drain(worker)
    run = old.start("w", {})
    advance(world, old, run, "first", *units)
    log.clear()

    world.drain(changed)
    assert log == []
    world.let_time_pass(1000)
    world.drain(old)
    world.let_time_pass(1000)
    world.drain(old)
    assert log[-1] == "last"
    assert ended(world, run) == "completed"

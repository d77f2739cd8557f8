"""`durable check`: whether unfinished runs could go on with the code of an app."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from celery_durable import Durable
from tests.integration.commanding import Cli, assert_refused, is_plain
from tests.integration.driving import Define, World, noting
from tests.integration.forks import advance
from tests.integration.test_cli import shop


def steps(*names: str, version: int = 1, undo: str = "", queue: str | None = None) -> Define:
    """A workflow `w`; the steps whose names are in `undo` can be undone."""

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w", version=version)
        for name in names:
            compensate = noting([], "undo") if name in undo else None
            workflow.step(noting([], name), compensate=compensate, queue=queue)

    return define


def fork(*branches: str) -> Define:
    def define(durable: Durable) -> None:
        named: Any = {name: noting([], name) for name in branches}
        durable.workflow("w").step(noting([], "a")).parallel("fork", named)

    return define


def started(world: World, define: Define, *units: str, times: int = 1) -> Durable:
    """Runs that an app has advanced past these units."""
    durable = world.worker(define, inline_steps=1)
    for _ in range(times):
        run = durable.start("w", {})
        advance(world, durable, run, *units)
    return durable


def verdict(call: Cli, app: Celery) -> tuple[int, dict[str, tuple[str, int]], dict[str, int]]:
    """The exit code; for each version its verdict and runs; where runs would be stuck."""
    answer = call(app, "check", "--json")
    document = answer.document
    assert document["ok"] is (answer.code == 0)
    versions = {
        f"{one['workflow']} v{one['version']}": (one["verdict"], one["runs"])
        for one in document["workflows"]
    }
    stuck = {at["place"]: at["runs"] for one in document["workflows"] for at in one["stuck"]}
    return answer.code, versions, stuck


def test_a_first_release_is_fine(world: World, call: Cli) -> None:
    app = world.worker(steps("a", "b")).app
    assert verdict(call, app) == (0, {"w v1": ("new", 0)}, {})


FITS = {
    "nothing": ("as stored", steps("a", "b", "c")),
    "a step added after": ("edited, fits", steps("a", "b", "c", "d")),
    "a step removed after": ("edited, fits", steps("a", "b")),
    "a queue": ("edited, fits", steps("a", "b", "c", queue="other")),
    "a compensator added": ("edited, fits", steps("a", "b", "c", undo="abc")),
}


@pytest.mark.parametrize("change", FITS)
def test_what_fits_the_runs_in_flight_is_fine(world: World, call: Cli, change: str) -> None:
    """P10"""
    said, after = FITS[change]
    started(world, steps("a", "b", "c"), "a", times=3)
    assert verdict(call, world.worker(after).app) == (0, {"w v1": (said, 3)}, {})


def test_an_edit_that_affects_no_run_in_flight_is_fine(world: World, call: Cli) -> None:
    """P10"""
    durable = started(world, steps("a", "b", "c"))
    world.drain(durable)
    assert verdict(call, world.worker(steps("x")).app) == (0, {"w v1": ("edited, fits", 0)}, {})


STUCK = {
    "its step is gone": (steps("a", "c"), {"b": 2}),
    "its step has another name": (steps("a", "x", "c"), {"b": 2}),
    "a step was put before it": (steps("x", "a", "b"), {"b": 2, "a": 1}),
    "the first is gone": (steps("b"), {"b": 2, "a": 1}),
}


@pytest.mark.parametrize("change", STUCK)
def test_runs_that_would_be_stuck_are_listed_with_where(
    world: World, call: Cli, change: str
) -> None:
    """P10: exactly those that a worker with this code leaves alone."""
    after, stuck = STUCK[change]
    before = started(world, steps("a", "b", "c"), "a", times=2)
    before.start("w", {})
    changed = world.worker(after)
    before_check = rows(world)
    assert verdict(call, changed.app) == (1, {"w v1": ("does not fit", 3)}, stuck)
    assert rows(world) == before_check, "it writes nothing"
    world.drain(changed)
    left = world.rows("SELECT node, count(*) AS runs FROM durable_token GROUP BY 1")
    assert {row["node"]: row["runs"] for row in left} == stuck


def rows(world: World) -> list[Any]:
    tables = ("run", "token", "outbox", "worker", "definition")
    return [world.rows(f"SELECT * FROM durable_{table} ORDER BY 1") for table in tables]


def test_a_version_that_is_gone_while_runs_need_it_is_named(world: World, call: Cli) -> None:
    """P10"""
    started(world, steps("a", "b"), "a", times=2)
    app = world.worker(steps("a", version=2)).app
    assert verdict(call, app) == (
        1,
        {"w v1": ("not known here", 2), "w v2": ("new", 0)},
        {"b": 2},
    )


def test_a_version_that_is_gone_and_not_needed_is_fine(world: World, call: Cli) -> None:
    durable = started(world, steps("a"))
    world.drain(durable)
    app = world.worker(steps("a", version=2)).app
    assert verdict(call, app) == (0, {"w v2": ("new", 0)}, {})


def test_a_branch_that_is_gone_is_named_with_its_node(world: World, call: Cli) -> None:
    """P10"""
    started(world, fork("x", "y"), "a", "fork", "fork#x", times=2)
    assert verdict(call, world.worker(fork("x")).app)[2] == {"fork#y": 2}
    assert verdict(call, world.worker(fork("x", "y", "z")).app)[0] == 0
    gone = world.worker(steps("a", "last")).app
    assert verdict(call, gone)[2] == {"fork": 2}


def test_a_compensator_that_a_run_may_need_is_missed(world: World, call: Cli) -> None:
    """P8: also where the run stands at another step."""
    before = started(world, steps("a", "b", "c", undo="a"), "a", times=2)
    before.start("w", {})
    without = world.worker(steps("a", "b", "c")).app
    assert verdict(call, without) == (1, {"w v1": ("does not fit", 3)}, {"a#compensate": 2})
    world.drain(before)
    assert verdict(call, without)[0] == 0


def test_a_piped_check_is_aligned_and_plain(world: World, call: Cli) -> None:
    started(world, steps("a", "b"), "a", times=2)

    def define(durable: Durable) -> None:
        steps("x", "b")(durable)
        durable.workflow("another").step(noting([], "z"))

    answer = call(world.worker(define).app, "check")
    assert answer.code == 1
    assert is_plain(answer.out)
    lines = [line.split("  ") for line in answer.out.splitlines()]
    table = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert table[:3] == [
        ["WORKFLOW", "RUNS", "DEFINITION", "STUCK AT"],
        ["another v1", "0", "new"],
        ["w v1", "2", "does not fit", "b (2 runs)"],
    ]
    assert answer.out.splitlines()[3].startswith("w v1: ")
    assert "another version" in answer.out
    gone = call(world.worker().app, "check")
    assert "w v1: 2 runs in flight, and this app does not define it." in gone.out


def test_a_database_that_is_away_or_empty_is_refused_as_elsewhere(
    call: Cli, empty_database_url: str
) -> None:
    """P12"""
    away = shop("postgresql://postgres@127.0.0.1:1/nowhere")
    assert_refused(call(away, "check"), 4, "port 1", "durable_database_url")
    assert_refused(call(shop(empty_database_url), "check"), 4, "durable migrate")

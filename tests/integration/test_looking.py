"""Reading a run: one state of it, to any depth, and no result that is not shown."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.engine.ids import uuid7
from celery_durable.errors import ConfigurationError, RunNotFound
from celery_durable.run import Run
from celery_durable.store.connection import Statement
from celery_durable.store.read import results, views
from tests.integration.commanding import Cli, Terminal, assert_refused
from tests.integration.driving import Gate, World, defining, noting
from tests.integration.watching import Executed, watch
from tests.integration.workflows import fail

LARGE = 50_000
ITEMS = 30


def large(ctx: Any) -> str:
    """A result that Postgres cannot compress."""
    return random.Random(str(ctx.item)).randbytes(LARGE // 2).hex()


def of_large_results(durable: Durable) -> None:
    durable.workflow("w").step(large, name="first").map(
        "m", over=lambda _: list(range(ITEMS)), handler=large
    ).loop("l", large, max_iterations=3)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Count the characters that were read from Postgres since the last call."""
    sizes = [0]

    def count(executed: Executed) -> None:
        sizes[0] += sum(len(v) for row in executed.rows for v in row.values() if isinstance(v, str))

    def since() -> int:
        found, sizes[0] = sizes[0], 0
        return found

    watch(monkeypatch, count)
    return since


@pytest.fixture
def read_rows(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Count the rows that were read from Postgres since the last call."""
    counted = [0]

    def count(executed: Executed) -> None:
        counted[0] += len(executed.rows)

    def since() -> int:
        found, counted[0] = counted[0], 0
        return found

    watch(monkeypatch, count)
    return since


def done(world: World, worker: Durable) -> Run:
    run = worker.start("w", key="k")
    world.drain(worker)
    return run


@pytest.mark.parametrize("statement", ["results", "position"])
def test_a_status_is_one_state_of_its_run(
    world: World, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """The run ends just before `statement`, and the status still shows the state before."""
    worker = world.worker(defining([], "a", "b"))
    run = worker.start("w")
    module, name = (results, "of_run") if statement == "results" else (views, "position")
    read = getattr(module, name)

    def read_late(*arguments: Any) -> Any:
        world.drain(worker)
        return read(*arguments)

    monkeypatch.setattr(module, name, read_late)
    snapshot = run.status()
    assert world.status(run) == "completed"
    assert (snapshot.status, snapshot.current) == ("running", ("a",))
    assert (snapshot.completed_steps, snapshot.results, snapshot.result) == (0, {}, None)
    assert run.status().result == {"a": None, "b": None}


def test_a_status_without_results_reads_none(world: World, read: Callable[[], int]) -> None:
    run = done(world, world.worker(of_large_results))
    read()
    slim = run.status(results=False)
    assert read() < LARGE
    whole = run.status()
    assert read() > ITEMS * LARGE
    assert (slim.results, slim.result, slim.input, whole.sizes) == ({}, None, None, {})
    assert slim.completed_steps == whole.completed_steps == 3
    assert list(slim.sizes) == ["first", "m", "l"]
    assert slim.sizes["m"] > ITEMS * LARGE / 2
    assert (slim.status, slim.children) == (whole.status, whole.children)


def test_a_status_has_the_input_as_it_was(world: World) -> None:
    worker = world.worker(defining([], "a"))
    given = {"at": datetime(2026, 3, 1, tzinfo=UTC), "lines": (1, 2)}
    run = worker.start("w", given)
    assert run.status().input == given
    world.drain(worker)
    assert run.status().input == given


def test_a_history_without_results_reads_none(world: World, read: Callable[[], int]) -> None:
    run = done(world, world.worker(of_large_results))
    whole = run.history()
    read()
    slim = run.history(results=False)
    assert read() < LARGE
    assert [entry.unit for entry in slim] == [entry.unit for entry in whole]
    assert {entry.result for entry in slim} == {None}
    assert slim[0].size == whole[0].size
    assert slim[0].size is not None
    assert slim[0].size > LARGE / 2
    assert next(entry for entry in slim if entry.unit == "m").size is None


def test_a_history_comes_in_pages(world: World, read: Callable[[], int]) -> None:
    run = done(world, world.worker(of_large_results))
    whole = run.history()
    read()
    pages = [run.history(limit=10)]
    assert read() < 12 * LARGE, "what is on another page is not read"
    while page := run.history(limit=10, after=pages[-1][-1].unit):
        pages.append(page)
    assert [entry for page in pages for entry in page] == whole
    assert [len(page) for page in pages][:3] == [10, 10, 10]
    assert run.history(after=whole[-1].unit) == []


def test_an_invalid_page_is_refused(world: World) -> None:
    """P12"""
    worker = world.worker(defining([], "a"))
    run = done(world, worker)
    for wrong in ({"limit": 0}, {"limit": True}, {"after": "nobody"}, {"after": "\0"}):
        with pytest.raises(ConfigurationError):
            run.history(**wrong)
    with pytest.raises(RunNotFound):
        worker.history(uuid7(), limit=1, after="a")


def test_the_command_line_reads_no_result_that_it_does_not_show(
    world: World,
    call: Cli,
    read: Callable[[], int],
) -> None:
    worker = world.worker(of_large_results)
    run = done(world, worker)
    read()
    commands = (
        *(("show",), ("history",), ("history", "--all"), ("graph",), ("cancel",)),
        *(("show", "--json", "--no-results"), ("history", "--json", "--no-results")),
        *(("show", "--follow"), ("show", "--follow", "--json", "--no-results")),
    )
    for command, *options in commands:
        assert call(worker.app, command, str(run.id), *options).code == 0
        assert read() < LARGE, command
    call(worker.app, "list")
    assert read() < LARGE
    shown = call(worker.app, "show", str(run.id)).out
    assert "result    1." in shown
    assert "MiB as it is stored; --json has it" in shown
    assert len(call(worker.app, "show", str(run.id), "--json").document["results"]["m"]) == ITEMS


def test_of_a_loop_only_the_last_result_is_read(world: World, read: Callable[[], int]) -> None:
    worker = world.worker(lambda durable: durable.workflow("w").loop("l", large, max_iterations=20))
    run = done(world, worker)
    read()
    assert set(run.result()) == {"l"}
    assert LARGE <= read() < 2 * LARGE


DEEP = """
WITH RECURSIVE level AS (
    SELECT 1 AS n, %(root)s::uuid AS id, gen_random_uuid() AS child
    UNION ALL SELECT n + 1, child, gen_random_uuid() FROM level WHERE n < %(levels)s
), runs AS (
    INSERT INTO durable_run (id, workflow, version, status, input, parent_run_id, finished_at)
    SELECT level.id, 'w', 1, 'completed', 'null', above.id, clock_timestamp()
    FROM level LEFT JOIN level above ON above.n = level.n - 1
)
INSERT INTO durable_journal (
    run_id, unit, node, outcome, undoable, attempt, result, gathers, child_run_id, worker,
    started_at
)
SELECT id, 'c', 'c', 'completed', false, 1,
    CASE WHEN n = %(levels)s THEN '"the lowest"'::json END,
    CASE WHEN n < %(levels)s THEN 'child' END,
    CASE WHEN n < %(levels)s THEN child END, id, clock_timestamp()
FROM level
"""


def test_children_may_be_nested_to_any_depth(world: World, statements: list[Statement]) -> None:
    levels, root = 500, uuid7()
    with world.connect() as connection:
        connection.execute(DEEP, {"root": root, "levels": levels})
    client = world.worker()
    run = client.run(root)
    statements.clear()
    for whole in (run.result(timeout=0), run.status().result):
        below = whole
        for _ in range(levels - 1):
            assert list(below) == ["c"]
            below = below["c"]
        assert below == {"c": "the lowest"}
    assert len(statements) < 20, "not a statement for each level"


def failing_twice(gate: Gate | None = None) -> Callable[[Durable], None]:
    """Workflows whose step fails and is tried again an hour later; attempt 3 waits at `gate`."""

    def charge(ctx: Any) -> None:
        if gate is not None and ctx.attempt == 3:
            gate()
        raise ConnectionError(f"no answer {ctx.attempt}")

    policy = RetryPolicy(max_attempts=5, initial=3600, jitter=False)

    def define(durable: Durable) -> None:
        durable.workflow("w").step(durable.step(charge, retry=policy))
        durable.workflow("many").map(
            "m", over=lambda _: [1, 2], handler=durable.step(charge, name="c", retry=policy)
        )
        durable.workflow("two").parallel(
            "p", {"x": durable.step(charge, name="c", retry=policy), "y": noting([], "y")}
        )

    return define


def test_the_error_of_a_unit_between_two_attempts_is_in_its_status(world: World) -> None:
    gate = Gate()
    worker = world.worker(failing_twice(gate))
    run = worker.start("w", key="k")
    world.drain(worker)

    (unit,) = run.status().units
    assert (unit.unit, unit.attempt, unit.is_executing, unit.worker) == ("charge", 2, False, None)
    assert unit.max_attempts == 5
    assert unit.error is not None
    assert (unit.error.type, unit.error.message) == ("ConnectionError", "no answer 1")
    assert "in charge" in unit.error.traceback
    assert unit.failure is not None
    assert unit.since is not None
    assert unit.wake_at is not None
    assert unit.failure.started_at <= unit.failure.failed_at <= unit.since < unit.wake_at
    (summary,) = worker.list()
    assert summary.error is not None
    assert (summary.error.message, summary.error.traceback) == ("no answer 1", "")

    world.let_time_pass(3601)
    world.drain(worker)
    world.let_time_pass(7201)
    (token_id,) = world.publish()
    at_work = gate.hold(worker.engine.advance, token_id)
    (unit,) = run.status().units
    assert (unit.attempt, unit.is_executing) == (3, True)
    assert unit.worker is not None
    assert unit.worker.id == worker.liveness.worker_id()
    assert unit.worker.pid == os.getpid()
    assert unit.worker.hostname
    assert str(unit.worker) == f"{unit.worker.hostname}, pid {os.getpid()}"
    assert unit.error is not None
    assert unit.error.message == "no answer 2"
    gate.finish(at_work)


def tried(attempts: int) -> RetryPolicy:
    return RetryPolicy(max_attempts=attempts, initial=3600, jitter=False)


def failing_everywhere(durable: Durable) -> None:
    """A workflow for each place in which a step fails."""

    def failing(name: str, attempts: int) -> Any:
        return durable.step(name=name, retry=tried(attempts))(fail)

    durable.workflow("step").step(failing("s", 2))
    durable.workflow("parallel").parallel("p", {"x": failing("s", 3)})
    durable.workflow("map").map("m", over=lambda _: [1], handler=failing("s", 4))
    durable.workflow("route").route("r", lambda _: "c", {"c": failing("s", 5)})
    durable.workflow("loop").loop("l", failing("s", 6), max_iterations=2)
    undone = durable.step(name="u")(lambda _: None)
    undone.compensate(fail, retry=tried(7))
    durable.workflow("compensation").step(undone).step(fail, retry=tried(1), name="f")


WHERE = {
    "step": ("s", 2),
    "parallel": ("p#x", 3),
    "map": ("m#0", 4),
    "route": ("r", 5),
    "loop": ("l#0", 6),
    "compensation": ("u#compensate", 7),
}


@pytest.mark.parametrize("workflow", WHERE)
def test_a_unit_between_two_attempts_says_of_how_many(
    world: World, call: Cli, workflow: str
) -> None:
    """In a status, in a list, and where it is explained."""
    worker = world.worker(failing_everywhere)
    run = worker.start(workflow)
    world.drain(worker)
    unit, most = WHERE[workflow]
    (found,) = [one for one in run.status().units if one.failure is not None]
    assert (found.unit, found.attempt, found.max_attempts) == (unit, 2, most)
    text = f"attempt 2 of {most}"
    assert text in str(run.why())
    assert text in call(worker.app, "why", str(run.id)).out
    assert text in call(worker.app, "show", str(run.id)).out
    listed = call(worker.app, "list", "--workflow", workflow).out
    assert "ValueError: no" in listed
    assert (text in listed) is (workflow not in ("parallel", "map"))
    told = call(worker.app, "history", str(run.id), "--attempts").fields
    (last,) = [words for words in told if words[:3] == [unit, "tried", "again"]]
    assert last[3:6] == ["2", "of", str(most)]


def test_a_plan_that_does_not_say_how_often_leaves_it_out(world: World, call: Cli) -> None:
    """One that an earlier release has stored."""
    worker = world.worker(failing_everywhere)
    run = worker.start("step")
    world.drain(worker)
    world.rows("UPDATE durable_definition SET plan = plan - 'max_attempts'")
    (unit,) = run.status().units
    assert (unit.attempt, unit.max_attempts) == (2, None)
    assert "s is tried again, attempt 2, after" in call(worker.app, "why", str(run.id)).out
    assert "attempt 2  in " not in call(worker.app, "list").out
    worker = world.worker(failing_everywhere)
    worker.start("step")
    (unit,) = run.status().units
    assert unit.max_attempts == 2


def test_a_status_of_many_branches_reads_few_of_them(
    world: World, read_rows: Callable[[], int]
) -> None:
    """P11"""
    worker = world.worker(
        lambda durable: durable.workflow("w").map(
            "m", over=lambda _: [*range(3000)], handler=durable.step(name="i")(fail)
        )
    )
    run = worker.start("w")
    worker.engine.advance(world.token_id(run))
    world.rows("UPDATE durable_token SET claimed_by = gen_random_uuid() WHERE position < 500")
    read_rows()
    snapshot = run.status()
    assert read_rows() < 150
    assert (len(snapshot.units), snapshot.forks["m"].executing) == (100, 500)
    assert snapshot.units[0].unit == "m"
    worker.list()
    assert read_rows() == 1


def test_the_error_of_a_unit_between_two_attempts_is_shown(world: World, call: Cli) -> None:
    worker = world.worker(failing_twice())
    runs = [worker.start(name) for name in ("w", "many", "two")]
    world.drain(worker)
    error = "ConnectionError: no answer 1"
    for run in runs:
        assert error in call(worker.app, "show", str(run.id)).out
        told = call(worker.app, "history", str(run.id)).out
        assert error in told
        assert "tried again" in told
        assert "in charge" in call(worker.app, "history", str(run.id), "--traceback").out
    world.let_time_pass(3601)
    world.drain(worker)
    for run in runs:
        told = call(worker.app, "history", str(run.id), "--attempts").out
        assert error in told
        assert "ConnectionError: no answer 2" in told
    listed = call(worker.app, "list").out
    assert "ConnectionError: no answer 2" in listed
    documents = json.loads(call(worker.app, "list", "--json").out)
    assert UUID(documents[-1]["run_id"]) == runs[0].id
    assert documents[-1]["error"]["message"] == "no answer 2"


def test_the_command_line_pages_through_a_history(
    world: World, call: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = world.worker(defining([], "a", "b", "c"))
    run = done(world, worker)

    def page(*options: str) -> list[str]:
        answer = call(worker.app, "history", str(run.id), *options)
        assert answer.code == 0
        return [words[0] for words in answer.fields[1:]]

    assert page("--limit", "2") == ["a", "b"]
    assert page("--limit", "2", "--after", "b") == ["c"]
    assert page("--after", "c") == []
    answer = call(worker.app, "history", str(run.id), "--after", "z")
    assert_refused(answer, 2, "none that ended in run", "'z'")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", screen := Terminal())
        call(worker.app, "history", str(run.id), "--limit", "2", flags=["-C"])
    assert "There may be more: --after b" in screen.getvalue()


def test_a_unit_that_is_tried_again_is_on_the_last_page_of_a_history(
    world: World, call: Cli
) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").step(noting([], "a")).step(noting([], "b")).step(
            fail, name="f", retry=tried(3)
        )

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    world.let_time_pass(3601)
    world.drain(worker)

    def units(*options: str) -> list[str]:
        answer = call(worker.app, "history", str(run.id), *options)
        return [words[0] for words in answer.fields[1:]]

    assert units("--limit", "1") == ["a"]
    assert units("--limit", "5", "--after", "a") == ["b", "f"]
    assert units("--attempts") == ["a", "b", "attempt", "attempt", "f"]
    document = call(worker.app, "history", str(run.id), "--json", "--attempts").document
    assert [one["unit"] for one in document] == ["a", "b", "f"]
    trying = document[-1]
    assert (trying["outcome"], trying["attempt"], trying["max_attempts"]) == (None, 3, 3)
    assert [one["attempt"] for one in trying["failures"]] == [1, 2]
    assert {one["error"]["message"] for one in trying["failures"]} == {"no"}
    plain = call(worker.app, "history", str(run.id), "--json").document
    assert [one["unit"] for one in plain] == ["a", "b"]

"""`durable bulk`: what it shows first, whether it asks, and what it says at the end."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from celery_durable import Durable, Run
from celery_durable.bulk import actions
from celery_durable.cli import bulk as command
from tests.integration.commanding import Cli, Terminal, assert_refused, is_plain
from tests.integration.driving import ONCE, World


def define(durable: Durable) -> None:
    for name in ("order", "parcel"):
        durable.workflow(name).wait_for_signal("go")

    def fails(_: Any) -> None:
        raise ValueError("no money")

    durable.workflow("fails").step(fails, retry=ONCE)


def started(world: World, *workflows: str) -> tuple[Durable, list[Run]]:
    worker = world.worker(define)
    runs = [worker.start(name, key=f"{name}-{n}") for n, name in enumerate(workflows)]
    world.drain(worker)
    return worker, runs


def statuses(runs: list[Run]) -> list[str]:
    return [run.status().status.value for run in runs]


def test_in_a_pipe_it_only_says_what_it_would_do(world: World, call: Cli) -> None:
    worker, runs = started(world, "order", "parcel", "order")
    said = call(worker.app, "bulk", "cancel", "--since", "1h")
    assert said.code == 2
    assert said.fields[:3] == [
        ["WORKFLOW", "STATUS", "RUNS"],
        ["order", "suspended", "2"],
        ["parcel", "suspended", "1"],
    ]
    assert said.fields[3] == [str(runs[0].id), "order", "v1", "suspended", "order-0"]
    assert said.err == (
        "Error: Nothing was done: add --yes to do it, or --dry-run to say that you only look.\n"
    )
    assert is_plain(said.out)
    assert statuses(runs) == ["suspended"] * 3


def test_with_yes_it_does_it_and_says_how_many(world: World, call: Cli) -> None:
    worker, runs = started(world, "order", "parcel", "order")
    said = call(worker.app, "bulk", "cancel", "--workflow", "order", "--reason", "closed", "--yes")
    assert (said.code, said.out) == (0, "2 runs cancelled.\n")
    assert said.err == "Cancelling: 2 of 2\n"
    assert statuses(runs) == ["cancelled", "suspended", "cancelled"]
    assert world.one("SELECT count(*) FROM durable_run WHERE cancel_reason = 'closed'") == 2


def test_a_filter_that_matches_nothing_says_so(world: World, call: Cli) -> None:
    worker, _ = started(world, "order")
    for more in ((), ("--yes",), ("--dry-run",)):
        said = call(worker.app, "bulk", "pause", "--workflow", "nobody", *more)
        assert (said.code, said.out, said.err) == (0, "No run matches.\n", "")
    found = call(worker.app, "bulk", "pause", "--workflow", "nobody", "--json").document
    assert (found["matched"], found["runs"], found["first"]) == (0, [], [])


def test_a_dry_run_never_does_it(world: World, call: Cli) -> None:
    worker, runs = started(world, "order")
    said = call(worker.app, "bulk", "pause", "--workflow", "order", "--dry-run", "--yes")
    assert (said.code, said.err) == (0, "")
    assert "suspended" in said.out
    assert statuses(runs) == ["suspended"]


def test_all_runs_are_meant_only_with_all(world: World, call: Cli) -> None:
    worker, runs = started(world, "order", "parcel")
    assert_refused(call(worker.app, "bulk", "pause", "--yes"), 2, "--workflow", "--all")
    assert_refused(
        call(worker.app, "bulk", "pause", "--all", "--workflow", "order", "--yes"), 2, "leave out"
    )
    assert statuses(runs) == ["suspended", "suspended"]
    assert call(worker.app, "bulk", "pause", "--all", "--yes").out == "2 runs paused.\n"


def test_json_has_what_it_would_do_and_what_it_did(world: World, call: Cli) -> None:
    worker, runs = started(world, "order", "order")
    would = call(worker.app, "bulk", "pause", "--workflow", "order", "--json")
    assert would.code == 2
    assert would.err.startswith("Error: Nothing was done: add --yes")
    found = would.document
    assert (found["action"], found["matched"], found["is_all"]) == ("pause", 2, True)
    assert found["runs"] == [{"workflow": "order", "status": "suspended", "runs": 2}]
    assert [one["run_id"] for one in found["first"]] == [str(run.id) for run in runs]
    did = call(worker.app, "bulk", "pause", "--workflow", "order", "--json", "--yes")
    assert (did.code, did.err) == (0, "")
    assert did.document == {
        "action": "pause",
        "matched": 2,
        "done": 2,
        "unchanged": 0,
        "refused": [],
    }


def at_a_terminal(
    monkeypatch: pytest.MonkeyPatch, app: Any, call: Cli, answer: str, *arguments: str
) -> tuple[int, str]:
    """What the command says to somebody who answers so."""

    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", screen)
        patched.setattr(sys, "stdin", Keyboard(answer))
        code = call(app, "bulk", *arguments).code
    return code, screen.getvalue()


def test_on_a_terminal_it_asks(world: World, call: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, runs = started(world, *["order"] * 7)
    named = ("cancel", "--workflow", "order")
    code, shown = at_a_terminal(monkeypatch, worker.app, call, "n\n", *named)
    assert code == 0
    assert "and 2 more" in shown
    assert "Cancel 7 runs? [y/N]" in shown
    assert "Nothing was done." in shown
    assert set(statuses(runs)) == {"suspended"}
    code, shown = at_a_terminal(monkeypatch, worker.app, call, "y\n", *named)
    assert code == 0
    assert "7/7" in shown
    assert "7 runs cancelled." in shown
    assert set(statuses(runs)) == {"cancelled"}


def test_what_is_refused_has_an_exit_code_and_the_first_runs(world: World, call: Cli) -> None:
    worker, runs = started(world, *["fails"] * 5)
    world.rows("DELETE FROM durable_definition WHERE workflow = 'fails'")
    said = call(worker.app, "bulk", "retry", "--error", "ValueError", "--yes")
    assert said.code == 1
    done, refused = said.out.splitlines()
    assert done == "0 runs tried again."
    assert refused.startswith("5 runs refused: The plan of fails 1 is not stored.")
    assert [str(run.id) in refused for run in runs] == [True] * 3 + [False] * 2
    found = call(worker.app, "bulk", "retry", "--error", "ValueError", "--yes", "--json")
    assert found.code == 1
    (one,) = found.document["refused"]
    assert (one["reason"], one["runs"], len(one["first"])) == (
        "The plan of fails 1 is not stored.",
        5,
        3,
    )


@pytest.mark.parametrize("key", ["incident-7", None])
def test_an_interruption_says_how_far_it_came_and_how_to_go_on(
    world: World, call: Cli, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    worker, runs = started(world, *["order"] * 5)
    monkeypatch.setattr(actions, "PAGE", 2)
    pages = iter([actions.Resume.together])

    def once(self: actions.Resume, found: Any) -> Any:
        try:
            return next(pages)(self, found)
        except StopIteration:
            raise KeyboardInterrupt from None

    named = ("resume", "go", "--workflow", "order", "--yes")
    with monkeypatch.context() as patched:
        patched.setattr(actions.Resume, "together", once)
        said = call(worker.app, "bulk", *named, *(("--key", key) if key else ()))
    assert said.code == 130
    last = said.err.splitlines()[-1]
    assert last.startswith("Interrupted after 2 of 5 runs; 2 got the signal. Run it again to go on")
    key = key or last.rpartition(" ")[2]
    assert key.startswith("incident-7" if "Add" not in last else "bulk-")
    assert call(worker.app, "bulk", *named, "--key", key).out == "3 runs got the signal.\n"
    world.drain(worker)
    assert set(statuses(runs)) == {"completed"}


def test_a_preview_says_that_it_did_not_count_all(
    world: World, call: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from celery_durable.bulk import walk  # noqa: PLC0415 - beside the command's own name for it

    worker, _ = started(world, *["order"] * 7)
    for module in (walk, command):
        monkeypatch.setattr(module, "COUNTED", 6)
    said = call(worker.app, "bulk", "pause", "--workflow", "order", "--dry-run")
    assert said.out.splitlines()[-1] == "and 1 more, at least: no more are counted"


EACH: dict[str, tuple[str, ...]] = {
    "cancel": ("--compensate", "--reason", "x"),
    "retry": ("--from", "go", "--status", "cancelled"),
    "retry-now": (),
    "resume": ("go", "--data", "1", "--key", "k"),
    "pause": ("--reason", "x"),
    "unpause": (),
    "retry-compensation": (),
    "prune": ("--older-than", "0"),
}


@pytest.mark.parametrize("action", EACH)
def test_each_action_is_a_command(world: World, call: Cli, action: str) -> None:
    worker, _ = started(world, "order")
    said = call(worker.app, "bulk", action, *EACH[action], "--workflow", "order", "--yes")
    assert (said.code, said.out.count("\n")) == (0, 1)
    assert set(EACH) == set(command.bulk.commands)


def test_wrong_usage_is_refused(world: World, call: Cli) -> None:
    """P12"""
    app = started(world, "order")[0].app
    assert_refused(call(app, "bulk", "resume", "--workflow", "order", "--yes"), 2, "SIGNAL")
    assert_refused(call(app, "bulk", "cancle", "--all", "--yes"), 2, "cancle")
    wrong = call(app, "bulk", "cancel", "--status", "completed", "--yes")
    assert_refused(wrong, 2, "cancel is nothing for runs that are completed")
    assert_refused(call(app, "bulk", "prune", "--all", "--older-than", "x"), 2, "is no duration")

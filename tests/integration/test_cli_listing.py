"""`durable list`: filters, times that are so long ago, and columns."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from celery_durable import Durable, RetryPolicy, Run
from tests.integration.commanding import Answer, Cli, Terminal, assert_refused
from tests.integration.driving import ONCE, World, noting
from tests.integration.workflows import fail


def define(durable: Durable) -> None:
    undone = durable.step(name="u")(lambda _: None)
    undone.compensate(fail, retry=ONCE)
    durable.workflow("fails").step(undone).step(fail, retry=ONCE)
    durable.workflow("tries").step(fail, name="t", retry=RetryPolicy(max_attempts=4, initial=3600))
    durable.workflow("works").step(noting([], "a"))


@pytest.fixture
def durable(world: World) -> Durable:
    """A run of each workflow: the first two days old, the next an hour, the last new."""
    durable = world.worker(define)
    ages = {"fails": timedelta(days=2), "tries": timedelta(hours=1), "works": timedelta()}
    for name, age in ages.items():
        run = durable.start(name, key=f"{name}-1", tags={"shop": "north", "kind": name})
        world.drain(durable)
        make_older(world, run, age)
    return durable


def make_older(world: World, run: Run, age: timedelta) -> None:
    """The run was created so much earlier, as its id says too."""
    run_id = UUID(int=run.id.int - (int(age.total_seconds() * 1000) << 80))
    world.rows("UPDATE durable_run SET created_at = created_at - %s WHERE id = %s", age, run.id)
    for table, column in (("run", "id"), ("token", "run_id"), ("journal", "run_id")):
        world.rows(f"UPDATE durable_{table} SET {column} = %s WHERE {column} = %s", run_id, run.id)


def workflows(answer: Answer) -> list[str]:
    assert (answer.code, answer.err) == (0, "")
    return [run["workflow"] for run in answer.document]


def ago(**since: float) -> str:
    return (datetime.now(UTC) - timedelta(**since)).isoformat()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--since", "30m"], ["works"]),
        (["--since", "2h"], ["works", "tries"]),
        (["--since", "1.5d"], ["works", "tries"]),
        (["--since", "1w"], ["works", "tries", "fails"]),
        (["--until", "30m"], ["tries", "fails"]),
        (["--since", "3d", "--until", "86400s"], ["fails"]),
        (["--since", ago(hours=3)], ["works", "tries"]),
        (["--until", ago(hours=3).replace("+00:00", "Z")], ["fails"]),
        (["--key", "tries-1"], ["tries"]),
        (["--tag", "shop=north", "--tag", "kind=works"], ["works"]),
        (["--error", "ValueError"], ["tries", "fails"]),
        (["--error", "ValueError: no", "--status", "failed"], ["fails"]),
        (["--compensation-failed"], ["fails"]),
        (["--compensation-failed", "--workflow", "tries"], []),
        (["--since", "2h", "--tag", "shop=north", "--error", "ValueError"], ["tries"]),
    ],
)
def test_list_filters(durable: Durable, call: Cli, options: list[str], found: list[str]) -> None:
    assert workflows(call(durable.app, "list", "--json", *options)) == found


def test_a_time_without_a_zone_is_of_this_machine(durable: Durable, call: Cli) -> None:
    here = datetime.now(UTC).astimezone().replace(tzinfo=None)
    for at in (here - timedelta(hours=3), here - timedelta(days=1)):
        assert workflows(call(durable.app, "list", "--json", "--until", str(at))) == ["fails"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--since", "yesterday"], "'yesterday' is neither so long ago (30m, 2h, 1d) nor a time"),
        (["--until", "999999999d"], "is neither so long ago"),
        (["--since", "-2h"], "is neither so long ago"),
        (["--error", ": no"], "error= takes the type of an error"),
        (["--error", "RunCancelled"], "status='cancelled' finds it"),
        (["--tag", "x"], "name=value"),
    ],
)
def test_a_wrong_filter_is_wrong_usage(
    durable: Durable, call: Cli, options: list[str], said: str
) -> None:
    """P12"""
    assert_refused(call(durable.app, "list", *options), 2, said)


def test_a_list_in_which_nothing_is_says_so(
    world: World, call: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard error, so that a script gets the titles alone."""
    app = world.worker(define).app
    none = call(app, "list")
    assert (none.code, len(none.fields), none.err) == (0, 1, "No runs.\n")
    filtered = call(app, "list", "--since", "1h")
    assert (filtered.code, len(filtered.fields), filtered.err) == (0, 1, "No run matches.\n")
    as_json = call(app, "list", "--json", "--key", "k")
    assert (as_json.code, as_json.document, as_json.err) == (0, [], "")
    assert "No run matches." in on_a_terminal(monkeypatch, call, app, "--key", "k")


def test_a_piped_list_says_where_each_run_stands(durable: Durable, call: Cli) -> None:
    answer = call(durable.app, "list")
    titles, *rows = answer.out.splitlines()
    works, tries, fails = rows
    at, tags, error = (titles.index(f" {title}") + 1 for title in ("AT ", "TAGS", "ERROR"))
    assert tries[at:].startswith("t since 20")
    assert ", attempt 2 of 4 " in tries[at:tags]
    assert tries[tags:error].split() == ["kind=tries", "shop=north"]
    assert tries[error:] == "ValueError: no"
    assert works[at:tags].strip() == fails[at:tags].strip() == ""
    assert fails[error:] == "ValueError: no"


def test_json_says_where_each_run_stands(durable: Durable, call: Cli) -> None:
    _, tries, fails = call(durable.app, "list", "--json").document
    standing = tries["standing"]
    assert (standing["unit"], standing["attempt"], standing["max_attempts"]) == ("t", 2, 4)
    assert standing["failure"]["error"]["message"] == tries["error"]["message"] == "no"
    assert standing["since"]
    assert fails["standing"] is None


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, call: Cli, app: Any, *options: str) -> str:
    with monkeypatch.context() as patched:
        patched.setenv("COLUMNS", "200")
        patched.setattr(sys, "stdout", screen := Terminal())
        call(app, "list", *options, flags=["-C"])
    return screen.getvalue()


def test_a_terminal_shows_no_empty_column(
    durable: Durable, call: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = on_a_terminal(monkeypatch, call, durable.app)
    for text in ("at", "tags", "error", "attempt 2 of 4", "ValueError: no", "kind=works"):
        assert text in shown
    titles = on_a_terminal(monkeypatch, call, durable.app, "--workflow", "works").split("\n")[0]
    assert "tags" in titles
    assert not {"at", "error"} & {*titles.split()}

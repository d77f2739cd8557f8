"""`celery -A app durable ...`, in this process or, where the process matters, in another.

A run moves when `advance_all` follows its hint: steps are executed for real, without a worker.
This module is also the app of the other processes, `-A tests.integration.test_cli`.
"""

import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import sqlalchemy as sa
from celery import Celery

from celery_durable import Context, Durable, GiveUp, RetryPolicy, Run, Status
from celery_durable.view.formatting import coarse, one_line, span
from tests.addresses import ROOT, conninfo
from tests.cluster.forked import celery_command
from tests.integration.commanding import ESCAPE, Answer, Cli, Terminal, assert_refused, is_plain
from tests.integration.driving import end
from tests.waiting import wait_until

APP = "tests.integration.test_cli"
AT_ONCE = RetryPolicy(max_attempts=3, backoff="fixed", initial=0.001, jitter=False)
TOMORROW = RetryPolicy(max_attempts=3, backoff="fixed", initial=86400, maximum=86400, jitter=False)


def shop(url: str | None = None) -> Celery:
    """An app whose input says which units fail, and how often."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.durable_database_url = url
    durable = Durable(app)

    def obey(ctx: Context) -> None:
        if ctx.attempt <= ctx.input.get(ctx.unit, 0):
            raise ValueError(f"{ctx.unit} said\nno")

    @durable.step(retry=AT_ONCE)
    def reserve(ctx: Context) -> dict[str, timedelta]:
        obey(ctx)
        return {"held": timedelta(minutes=5)}

    @reserve.compensate(retry=RetryPolicy(max_attempts=1))
    def release(ctx: Context) -> None:
        if "locked" in ctx.input:
            raise GiveUp("the shelf is locked")

    @durable.step(retry=AT_ONCE)
    def charge(ctx: Context) -> str:
        obey(ctx)
        return "paid"

    @charge.compensate
    def refund(ctx: Context) -> None: ...

    @durable.step(retry=TOMORROW)
    def later(ctx: Context) -> None:
        obey(ctx)

    durable.workflow("order", version=1).step(reserve).step(charge)
    durable.workflow("order", version=2).step(reserve).step(charge)
    durable.workflow("patience").step(later).step(charge)
    return app


app = shop()


@pytest.fixture
def durable(database_url: str) -> Iterator[Durable]:
    made: Durable = shop(database_url).durable
    yield made
    end(made)


@pytest.fixture
def cli(durable: Durable, call: Cli) -> Cli:
    """`called`, for the app of `durable`."""
    return partial(call, durable.app)


def environment(url: str) -> dict[str, str]:
    return {**os.environ, "DURABLE_DATABASE_URL": url, "COLUMNS": "120", "TERM": "xterm-256color"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "celery", *arguments]


def process(
    url: str, *arguments: str, celery: Sequence[str] | None = None, **options: Any
) -> "subprocess.Popen[str]":
    """Start a command in another process, piped; by default one that is forked."""
    return subprocess.Popen(
        [*(celery or celery_command()), "-A", APP, "durable", *arguments],
        cwd=ROOT,
        env=environment(url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finished(running: "subprocess.Popen[str]") -> Answer:
    out, err = running.communicate(timeout=60)
    return Answer(running.returncode, out, err)


def on_a_terminal(url: str, *arguments: str) -> str:
    """The output of a command on a terminal of 120 columns."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command(*arguments), cwd=ROOT, env=environment(url), stdout=theirs, stderr=theirs
    ) as running:
        os.close(theirs)
        sent = b""
        try:
            while piece := os.read(ours, 65536):
                sent += piece
        except OSError:  # Linux says EIO when the other end is closed
            pass
        finally:
            os.close(ours)
        running.wait(timeout=60)
    return sent.decode()


def tokens(durable: Durable) -> Sequence[UUID]:
    with durable.database.autocommit() as connection:
        return [row[0] for row in connection.raw.execute("SELECT id FROM durable_token").fetchall()]


def is_waiting(durable: Durable) -> bool:
    """True if every token that is left waits for tomorrow."""
    query = "SELECT 1 FROM durable_token WHERE wake_at < clock_timestamp() + interval '1 hour'"
    with durable.database.autocommit() as connection:
        return not connection.raw.execute(query).fetchall()


def advance_all(durable: Durable) -> None:
    """Follow the hints of every run until all have ended or wait for tomorrow."""

    def follow() -> bool:
        for token in tokens(durable):
            durable.engine.advance(token)
        return is_waiting(durable)

    wait_until(follow, message="every run ended or waits")


def ran(durable: Durable, given: object, workflow: str = "order", **options: Any) -> Run:
    """Start a run and advance it until it has ended or waits for tomorrow."""
    run = durable.start(workflow, given, **options)
    advance_all(durable)
    return run


def test_without_an_app_it_says_how_to_name_one() -> None:
    environ = {name: value for name, value in os.environ.items() if name != "CELERY_APP"}
    done = subprocess.run(
        command("durable", "list"), env=environ, capture_output=True, text=True, check=False
    )
    assert_refused(Answer(done.returncode, done.stdout, done.stderr), 2, "celery -A <your app>")


def test_an_app_without_durable_gets_the_line_to_add(call: Cli) -> None:
    plain = Celery("plain", set_as_current=False)
    assert_refused(call(plain, "list"), 2, "'plain'", "durable = Durable(app)")


def test_an_app_with_a_missing_module_gets_its_name(call: Cli) -> None:
    broken = Celery("broken", set_as_current=False, include=["no_such_module_here"])
    assert_refused(call(broken, "list"), 2, "no_such_module_here")


def test_an_app_without_a_database_url_gets_the_name_of_the_setting() -> None:
    # In a process of its own: where Django is set up, it would know the address.
    assert_refused(finished(process("", "list")), 2, "durable_database_url")


@pytest.mark.parametrize("arguments", [["list"], ["migrate"], ["start", "order", "{}"]])
def test_a_database_that_is_away_is_exit_code_4(call: Cli, arguments: list[str]) -> None:
    away = shop("postgresql://postgres@127.0.0.1:1/nowhere")
    assert_refused(call(away, *arguments), 4, "port 1", "durable_database_url")


def test_a_database_that_does_not_exist_is_said_to(call: Cli, database_url: str) -> None:
    url = sa.make_url(database_url).set(database="no_such_database")
    missing = shop(url.render_as_string(hide_password=False))
    answer = call(missing, "list")
    assert_refused(answer, 4, 'database "no_such_database" does not exist. Create it')
    assert "that Postgres runs there" not in answer.err


@pytest.mark.parametrize("arguments", [["list"], ["show", str(uuid4())], ["relay"]])
def test_a_missing_schema_is_exit_code_4_and_names_migrate(
    call: Cli, empty_database_url: str, arguments: list[str]
) -> None:
    assert_refused(call(shop(empty_database_url), *arguments), 4, "durable migrate")


def test_a_broken_database_url_leaves_no_traceback_in_a_process() -> None:
    nowhere = "postgresql://postgres@127.0.0.1:1/nowhere"
    answer = finished(process(nowhere, "list", celery=command()))
    assert_refused(answer, 4, "durable_database_url")


def test_the_entry_point_loads_no_command_before_it_is_called() -> None:
    """`celery worker` must not import what only the commands need."""
    program = (
        "import sys, celery.bin.celery as c; assert 'durable' in c.celery.commands;"
        "print(*(m for m in sys.modules if m.startswith('celery_durable.cli.') or m == 'rich'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == {
        "celery_durable.cli.exit_codes",
        "celery_durable.cli.json_argument",
        "celery_durable.cli.group",
    }


@pytest.mark.parametrize("arguments", [["list"], ["--help"]], ids=" ".join)
def test_without_rich_it_says_what_to_install(arguments: list[str]) -> None:
    """A process that only starts runs does not need it."""
    program = (
        "import sys; sys.modules['rich'] = None; from celery.__main__ import main;"
        f"sys.argv = ['celery', '-A', 'tests.apps.shop', 'durable', *{arguments!r}]; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert 'Run: pip install "celery-durable[cli]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_that_starts_runs_loads_what_it_needs(database_url: str) -> None:
    program = (
        "import sys; from celery import Celery; from celery_durable import Durable;"
        f"app = Celery('shop'); app.conf.durable_database_url = {database_url!r};"
        "order = Durable(app).workflow('order').step(print); order.start({});"
        "print(*{module.partition('.')[0] for module in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {*done.stdout.split()}
    assert "celery_durable" in loaded
    assert not loaded & {"alembic", "mako", "rich", "pydantic", "pytest"}


def test_migrate_says_from_where_to_where(call: Cli, empty_database_url: str) -> None:
    empty = shop(empty_database_url)
    first = call(empty, "migrate", "--json")
    reached = first.document["to"]
    assert first.code == 0
    assert first.document == {"schema": "public", "from": None, "to": reached}
    assert reached
    again = call(empty, "migrate")
    assert again.code == 0
    assert again.out == f"Schema 'public' is at revision {reached} already.\n"
    assert call(empty, "list").code == 0


def test_a_schema_of_a_newer_release_is_refused(
    call: Cli, durable: Durable, database_url: str
) -> None:
    with psycopg.connect(conninfo(database_url)) as connection:
        connection.execute("UPDATE durable_alembic_version SET version_num = 'f00'")
    assert_refused(call(durable.app, "migrate"), 4, "'public'", "f00", "newer release")


def test_start_prints_only_the_id_and_writes_to_stderr_that_it_is_new(
    cli: Cli, durable: Durable
) -> None:
    answer = cli("start", "order", '{"a": 1}', "--key", "k", "--tag", "x=1", "--tag", "y=a=b")
    assert (answer.code, answer.err) == (0, "new\n")
    snapshot = durable.status(answer.out.strip())
    assert (snapshot.version, snapshot.key) == (2, "k")
    assert snapshot.tags == {"x": "1", "y": "a=b"}
    again = cli("start", "order", "{}", "--key", "k")
    assert (again.code, again.out) == (0, answer.out)
    assert "exists already" in again.err


def test_start_says_what_becomes_of_a_run_with_the_key(cli: Cli, durable: Durable) -> None:
    first = cli("start", "order", "{}", "--key", "k").out.strip()
    refused = cli("start", "order", "{}", "--key", "k", "--on-conflict", "raise")
    assert_refused(refused, 1, first, "'k'", "running")
    other = cli("start", "order", "{}", "--key", "k", "--on-conflict", "cancel")
    assert (other.code, other.err) == (0, "new\n")
    assert durable.status(first).status == "cancelled"
    advance_all(durable)
    again = cli("start", "order", "{}", "--key", "k", "--reuse-key", "always")
    assert again.out.strip() not in (first, other.out.strip())


def test_start_takes_deadlines_and_show_has_them(
    cli: Cli, durable: Durable, database_url: str
) -> None:
    answer = cli("start", "order", "{}", "--timeout", "7200", "--expires", "86400")
    run_id = answer.out.strip()
    lines = [line.split() for line in cli("show", run_id).out.splitlines()]
    snapshot = durable.status(run_id)
    for name, at in (("timeout", snapshot.times_out_at), ("expires", snapshot.expires_at)):
        assert at is not None
        (shown,) = (words[1] for words in lines if words[:1] == [name])
        assert shown.startswith(f"{at:%Y-%m-%d}")
    assert "in 1h" in on_a_terminal(database_url, "-A", APP, "durable", "show", run_id)


def test_start_without_input_passes_null(cli: Cli, durable: Durable) -> None:
    answer = cli("start", "order")
    assert (answer.code, answer.err) == (0, "new\n")
    assert [str(run.run_id) for run in durable.list()] == [answer.out.strip()]


def test_start_takes_version_delay_and_priority(cli: Cli, durable: Durable) -> None:
    options = ["--version", "1", "--delay", "86400", "--priority", "3"]
    answer = cli("start", "order", "{}", *options, "--json")
    assert answer.document["created"] is True
    snapshot = durable.status(answer.document["run_id"])
    assert (snapshot.version, snapshot.status) == (1, Status.PENDING)
    assert snapshot.wake_at is not None


@pytest.mark.parametrize("source", ["@file", "-"])
def test_start_reads_its_input_from_a_file_or_standard_input(
    cli: Cli, durable: Durable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    text = '\ufeff{"charge": 3}'  # as some editors write it
    (tmp_path / "input.json").write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    answer = cli("start", "order", source.replace("file", str(tmp_path / "input.json")))
    advance_all(durable)
    error = durable.status(answer.out.strip()).error
    assert error is not None
    assert error.message == "charge said\nno"


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_commands_work_under_a_locale_that_knows_only_ascii(
    durable: Durable, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ASCII.items():
        monkeypatch.setenv(name, value)
    words = ("start", "order", '["größe"]', "--key", "größe")
    started = finished(process(database_url, *words, celery=command()))
    assert (started.code, started.err) == (0, "new\n")
    assert durable.run(workflow="order", key="größe").id == UUID(started.out.strip())
    named = ("--workflow", "order", "--key", "größe")
    shown = on_a_terminal(database_url, "-A", APP, "durable", "show", *named)
    assert "größe" in shown
    assert "Traceback" not in shown
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    printed = finished(process(database_url, "show", *named, "--json", celery=command()))
    assert json.loads(printed.out)["key"] == "größe"
    assert '"größe"' in printed.out


@pytest.mark.parametrize(
    "named", [["graph", "\udcff"], ["show", "--workflow", "\udcff", "--key", "k"]]
)
def test_a_name_that_is_no_text_is_wrong_usage(cli: Cli, named: list[str]) -> None:
    assert_refused(cli(*named), 2, "workflow=")


def test_an_unforeseen_error_has_its_own_exit_code(
    cli: Cli, durable: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script must not mistake it for a run that failed."""

    def broken(**_: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(durable, "list", broken)
    answer = cli("list")
    assert answer.code == 70
    assert "ZeroDivisionError: a defect" in answer.err


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["order", "{x"], 2, "not JSON"),
        (["order", "@/no/such/file"], 2, "/no/such/file"),
        (["order", "NaN"], 2, "nan"),
        (["order", "[" * 100_000 + "]" * 100_000], 2, "nested too deep"),
        (["order", "[" * 101 + "]" * 101], 2, "nested deeper than 100 levels"),
        (["order", "{}", "--key", "a\udcff"], 2, "key="),
        (["\udcff", "{}"], 2, "workflow="),
        (["order", "{}", "--tag", "x"], 2, "name=value"),
        (["order", "{}", "--reuse-key", "always"], 2, "key="),
        (["order", "{}", "--timeout", "0"], 2, "--timeout"),
        (["order", "{}", "--delay", "9", "--expires", "9"], 2, "expires=9"),
        (["order", "{}", "--key", "k", "--on-conflict", "x"], 2, "--on-conflict"),
        (["order", "{}", "--delay", "-1"], 2, "--delay"),
        (["order", "{}", "--version", "9"], 3, "version 9"),
        (["ordr", "{}"], 3, "Did you mean 'order'"),
    ],
)
def test_a_refused_start_leaves_nothing(
    cli: Cli, durable: Durable, arguments: list[str], code: int, word: str
) -> None:
    assert_refused(cli("start", *arguments), code, word)
    assert durable.list() == []


@pytest.mark.parametrize(("given", "code"), [("{}", 0), ('{"charge": 3}', 1)])
def test_the_exit_code_of_start_wait_follows_the_run(
    database_url: str, durable: Durable, given: str, code: int
) -> None:
    waiting = process(database_url, "start", "order", given, "--wait")
    assert waiting.stdout is not None
    run_id = waiting.stdout.readline().strip()
    advance_all(durable)
    answer = finished(waiting)
    assert answer.code == code
    assert answer.out == ""
    assert ("charge said no" in answer.err) is bool(code)
    assert ("failed at charge" if code else "completed\n") in answer.err
    assert durable.status(run_id).finished_at is not None


def test_list_filters_and_pages(cli: Cli, durable: Durable) -> None:
    done = ran(durable, {}, key="first", tags={"tenant": "a"})
    failed = ran(durable, {"charge": 3}, version=1)
    waits = ran(durable, {"later": 1}, "patience", tags={"tenant": "a", "x": "y"})
    every = [str(run.id) for run in (waits, failed, done)]
    assert ids(cli("list", "--json")) == every
    assert ids(cli("list", "--json", "--limit", "2")) == every[:2]
    assert ids(cli("list", "--json", "--limit", "2", "--before", every[1])) == every[2:]
    assert ids(cli("list", "--json", "--status", "failed")) == [every[1]]
    assert ids(cli("list", "--json", "--workflow", "order")) == every[1:]
    assert ids(cli("list", "--json", "--tag", "tenant=a")) == [every[0], every[2]]
    assert ids(cli("list", "--json", "--tag", "tenant=a", "--tag", "x=y")) == [every[0]]


def ids(answer: Answer) -> list[str]:
    assert answer.code == 0
    return [run["run_id"] for run in answer.document]


def test_a_piped_list_is_aligned_and_plain(cli: Cli, durable: Durable) -> None:
    run = ran(durable, {}, key=f"[red]{ESCAPE}[31m")
    short = ran(durable, {"charge": 3}, key="k")
    answer = cli("list")
    header, *rows = answer.out.splitlines()
    titles = ["RUN", "WORKFLOW", "STATUS", "KEY", "AGE", "TOOK", "AT", "TAGS", "ERROR"]
    assert header.split() == titles
    assert [row.split()[:5] for row in rows] == [
        [str(short.id), "order", "v2", "failed", "k"],
        [str(run.id), "order", "v2", "completed", "[red]"],
    ]
    assert {row.index("order") for row in rows} == {header.index("WORKFLOW")}
    assert {rows[0].index("failed"), rows[1].index("completed")} == {header.index("STATUS")}
    assert is_plain(answer.out)


@pytest.mark.parametrize("what", ["list", "show", "history"])
def test_a_terminal_gets_colours_unless_they_are_off(
    cli: Cli, durable: Durable, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    run = ran(durable, {"charge": 3})
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    arguments = [what] if what == "list" else [what, str(run.id)]
    coloured, colourless = Terminal(), Terminal()
    for screen, flags in ((coloured, []), (colourless, ["-C"])):
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", screen)
            assert cli(*arguments, flags=flags).code == 0
    assert f"{ESCAPE}[1;31mfailed" in coloured.getvalue()
    assert "failed" in colourless.getvalue()
    assert "31m" not in colourless.getvalue()


def test_show_lists_every_step_of_a_completed_run(cli: Cli, durable: Durable) -> None:
    run = ran(durable, {"charge": 1}, key="k", tags={"tenant": "a"})
    answer = cli("show", str(run.id))
    assert answer.code == 0
    assert ["workflow", "order", "v2"] in answer.fields
    assert ["status", "completed,", "2", "of", "2", "steps", "completed"] in answer.fields
    assert ["key", "k"] in answer.fields
    assert ["tags", "tenant=a"] in answer.fields
    steps = [words for words in answer.fields if words and words[0] in ("reserve", "charge")]
    assert [words[:2] for words in steps] == [["reserve", "completed"], ["charge", "completed"]]
    assert steps[1][3:] == ["attempt", "2"]
    assert is_plain(answer.out)


def test_show_json_has_the_snapshot_and_the_states(cli: Cli, durable: Durable) -> None:
    run = ran(durable, {})
    found = cli("show", str(run.id), "--json").document
    assert found["run_id"] == str(run.id)
    assert found["steps"] == ["reserve", "charge"]
    assert found["states"] == {"reserve": "completed", "charge": "completed"}
    assert found["result"] == {"reserve": {"held": 300.0}, "charge": "paid"}


def test_show_has_a_rollback_and_its_errors(cli: Cli, durable: Durable) -> None:
    run = ran(durable, {"charge": 3, "locked": True})
    found = cli("show", str(run.id), "--json")
    assert found.code == 0
    assert found.document["states"] == {"reserve": "compensation failed", "charge": "failed"}
    said = cli("show", str(run.id)).out
    assert "ValueError: charge said no" in said
    assert "GiveUp: the shelf is locked" in said


def test_show_has_what_a_run_waits_for(cli: Cli, durable: Durable) -> None:
    run = ran(durable, {"later": 1}, "patience")
    answer = cli("show", str(run.id))
    node = ["later", "waiting", "attempt", "2", "of", "3", "in"]
    assert node in [words[:7] for words in answer.fields]
    assert ["input", '{"later":', "1}"] in answer.fields
    assert ["charge", "pending"] in answer.fields
    states = cli("show", str(run.id), "--json").document["states"]
    assert states == {"later": "waiting", "charge": "pending"}


def test_a_run_is_named_by_its_id_or_its_key(cli: Cli, durable: Durable) -> None:
    run = ran(durable, {}, key="k")
    for command_ in ("show", "history", "cancel"):
        by_id = cli(command_, str(run.id), "--json")
        assert by_id == cli(command_, "--workflow", "order", "--run-key", "k", "--json")
        assert by_id.code == 0
        assert_refused(cli(command_), 2, "--workflow and --run-key")
        assert_refused(cli(command_, "--run-key", "k"), 2, "--workflow and --run-key")
        assert_refused(cli(command_, str(run.id), "--run-key", "k"), 2, "Name one run")
        assert_refused(cli(command_, "abc"), 2, "'abc' is not a valid UUID")
        assert_refused(cli(command_, str(uuid4())), 3, "durable list")
        assert_refused(cli(command_, "--workflow", "order", "--run-key", "z"), 3, "'z'")


@pytest.mark.parametrize(
    ("given", "code", "lines"),
    [
        ({}, 0, ["reserve completed", "charge completed", "run completed"]),
        (
            {"charge": 3},
            1,
            ["reserve completed", "charge failed", "reserve#compensate completed", "run failed"],
        ),
    ],
)
def test_follow_prints_each_change_until_the_end(
    durable: Durable, database_url: str, given: object, code: int, lines: list[str]
) -> None:
    run = durable.start("order", given)
    following = process(database_url, "show", str(run.id), "--follow")
    assert following.stdout is not None
    assert following.stdout.readline().endswith("  run running\n")
    advance_all(durable)
    answer = finished(following)
    assert answer.code == code
    said = [line.split("  ", 1)[1] for line in answer.out.splitlines()]
    assert [line for line in said if line.startswith(tuple(lines))] == [
        line for line in said if not line.startswith(("at ", "compensating ", "run compensating"))
    ]
    assert len([line for line in said if line.startswith(tuple(lines))]) == len(lines)
    assert is_plain(answer.out)


def test_a_closed_pipe_ends_a_command_quietly(durable: Durable, database_url: str) -> None:
    """As `| head -1` does."""
    run = durable.start("order", "x")
    following = process(database_url, "show", str(run.id), "--follow")
    assert following.stdout is not None
    assert following.stderr is not None
    following.stdout.readline()
    following.stdout.close()
    advance_all(durable)

    assert following.wait(timeout=60) == 0
    assert following.stderr.read() == ""


@pytest.mark.parametrize("command", ["start", "show"])
def test_who_waits_for_a_run_that_stands_is_told_why(
    durable: Durable, database_url: str, command: str
) -> None:
    """P11: and goes on to wait."""
    durable.pause(workflow="order", reason="stocktaking")
    if command == "start":
        waiting = process(database_url, "start", "order", "{}", "--wait")
        told = waiting.stderr
    else:
        run = durable.start("order", {})
        waiting = process(database_url, "show", str(run.id), "--follow")
        told = waiting.stdout
    assert told is not None
    said = next(line for line in told if "stocktaking" in line)
    assert "order is paused" in said
    assert "unpause" in told.readline()
    durable.unpause(workflow="order")
    advance_all(durable)
    assert finished(waiting).code == 0


@pytest.mark.parametrize(
    ("output", "code", "told"),
    [
        (">/dev/full", 4, "Error: Standard output cannot be written: No space left on device.\n"),
        (">&-", 2, "Error: Standard output is closed; > /dev/null leaves it out.\n"),
    ],
)
def test_an_output_that_cannot_be_written_is_one_line(
    durable: Durable, database_url: str, output: str, code: int, told: str
) -> None:
    durable.start("order", "x")
    listing = command("-A", APP, "durable", "list")
    shell = ["sh", "-c", f'exec "$@" {output}', "sh", *listing]
    ended = subprocess.run(
        shell, cwd=ROOT, env=environment(database_url), capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (code, told)


def test_follow_json_is_a_document_per_line(durable: Durable, database_url: str) -> None:
    run = durable.start("order", {"charge": 3})
    following = process(database_url, "show", str(run.id), "--follow", "--json")
    assert following.stdout is not None
    first = json.loads(following.stdout.readline())
    assert first["status"] == "running"
    advance_all(durable)
    answer = finished(following)
    assert answer.code == 1
    documents = [json.loads(line) for line in answer.out.splitlines()]
    assert documents[-1]["status"] == "failed"
    assert documents[-1]["states"] == {"reserve": "compensated", "charge": "failed"}


def test_follow_on_a_terminal_leaves_the_whole_picture(durable: Durable, database_url: str) -> None:
    run = ran(durable, {})
    sent = on_a_terminal(database_url, "-C", "-A", APP, "durable", "show", str(run.id), "--follow")
    assert "reserve" in sent
    assert sent.count("2 of 2 steps completed") == 1
    assert "✓" in sent


def test_an_interrupted_follow_prints_nothing_more(durable: Durable, database_url: str) -> None:
    run = durable.start("order", {})
    following = process(database_url, "show", str(run.id), "--follow")
    assert following.stdout is not None
    following.stdout.readline()
    following.send_signal(signal.SIGINT)
    answer = finished(following)
    assert (answer.code, answer.err) == (130, "")


def test_history_lists_units_attempts_and_tracebacks(cli: Cli, durable: Durable) -> None:
    run = ran(durable, {"reserve": 2, "charge": 3})
    units = ["reserve", "charge", "reserve#compensate"]
    answer = cli("history", str(run.id))
    assert [words[0] for words in answer.fields] == ["UNIT", *units]
    assert [words[1:3] for words in answer.fields[1:]] == [
        ["completed", "3"],
        ["failed", "3"],
        ["completed", "1"],
    ]
    assert "charge said no" in answer.out
    assert "Traceback" not in answer.out
    tries = cli("history", str(run.id), "--attempts")
    assert [words[:3] for words in tries.fields[1:3]] == [
        ["attempt", "retried", "1"],
        ["attempt", "retried", "2"],
    ]
    assert cli("history", str(run.id), "--traceback").out.count("Traceback (most recent") == 1
    both = cli("history", str(run.id), "--attempts", "--traceback").out
    assert both.count("Traceback (most recent") == 5
    assert is_plain(both)


def test_history_json_has_everything(cli: Cli, durable: Durable) -> None:
    run = ran(durable, {"charge": 3})
    reserved, charged, released = cli("history", str(run.id), "--json").document
    assert reserved["result"] == {"held": 300.0}
    assert (charged["outcome"], charged["error"]["type"]) == ("failed", "ValueError")
    assert [failed["attempt"] for failed in charged["failures"]] == [1, 2]
    assert released["unit"] == "reserve#compensate"
    assert str(UUID(reserved["worker"])) == reserved["worker"]


def test_the_history_of_a_run_without_ended_units_is_empty(cli: Cli, durable: Durable) -> None:
    run = durable.start("order", {})
    assert len(cli("history", str(run.id)).fields) == 1
    assert cli("history", str(run.id), "--json").document == []


def test_cancel_ends_a_run_and_keeps_the_reason(cli: Cli, durable: Durable) -> None:
    run = ran(durable, {"later": 1}, "patience")
    answer = cli("cancel", str(run.id), "--reason", "had enough")
    assert (answer.code, answer.out.split(";")[0]) == (0, "Asked to end")
    for token in tokens(durable):
        durable.engine.advance(token)
    snapshot = run.status()
    assert snapshot.status is Status.CANCELLED
    assert snapshot.error is not None
    assert snapshot.error.message == "had enough"
    again = cli("cancel", str(run.id), "--json")
    assert again.code == 0
    assert again.document == {"run_id": str(run.id), "asked": False, "status": "cancelled"}


def test_cancel_compensate_undoes_what_was_done(cli: Cli, durable: Durable) -> None:
    run = ran(durable, {"charge": 1, "later": 1}, "patience")
    assert cli("cancel", str(run.id), "--compensate", "--json").document["asked"] is True
    advance_all(durable)
    assert run.status().status is Status.CANCELLED


def test_recover_says_how_many_tokens_it_moved(
    cli: Cli, durable: Durable, database_url: str
) -> None:
    assert cli("recover").out == "0\n"
    durable.start("order", {})
    with psycopg.connect(conninfo(database_url)) as connection:
        connection.execute("DELETE FROM durable_outbox")
        connection.execute(
            "UPDATE durable_token SET hinted_at = hinted_at - interval '1 hour',"
            " wake_at = wake_at - interval '1 hour'"
        )
    answer = cli("recover", "--json")
    assert (answer.code, answer.document) == (0, {"moved": 1})


def test_the_relay_empties_the_outbox_and_stops_cleanly(
    durable: Durable, database_url: str
) -> None:
    relaying = process(database_url, "relay", "--json")
    assert relaying.stderr is not None
    assert any("The relay publishes schema 'public'" in line for line in relaying.stderr)
    durable.start("order", {})  # now: a hint that has waited for long may be put once more
    wait_until(lambda: not outbox(database_url), timeout=60, message="the outbox is empty")
    relaying.send_signal(signal.SIGTERM)
    answer = finished(relaying)
    assert answer.code == 0
    assert answer.document == {"published": 1}


def outbox(url: str) -> int:
    with psycopg.connect(conninfo(url)) as connection:
        row = connection.execute("SELECT count(*) FROM durable_outbox").fetchone()
    assert row is not None
    count: int = row[0]
    return count


@pytest.mark.parametrize(
    ("seconds", "long", "short"),
    [
        (-1, "0.00s", "0s"),
        (0.416, "0.41s", "0s"),
        (9.999, "9.99s", "9s"),
        (59.99, "59.9s", "59s"),
        (60, "1m 00s", "1m"),
        (3599, "59m 59s", "59m"),
        (7380, "2h 03m", "2h"),
        (100_000, "1d 3h", "1d"),
    ],
)
def test_durations_have_two_units_or_one(seconds: float, long: str, short: str) -> None:
    duration = timedelta(seconds=seconds)
    assert (span(duration), coarse(duration)) == (long, short)


def test_a_users_text_cannot_move_the_cursor() -> None:
    assert one_line(f"a\r\n{ESCAPE}[2J\tb\u202ec") == "a  [2J b c"

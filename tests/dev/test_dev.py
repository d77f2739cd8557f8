"""`durable dev` in a folder with a file of twenty lines, on a machine where nothing is set."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from celery_durable import Durable
from celery_durable.run import Run
from tests.dev.projects import (
    DEV,
    SHOP,
    URL,
    database_of,
    dev,
    environment,
    project,
    wait_until_up,
)
from tests.dev.running import PATIENCE, Running, words_of
from tests.integration.driving import make_durable
from tests.waiting import wait_until

pytest.importorskip("pgmq", reason="the pgmq extra is not installed")

pytestmark = pytest.mark.timeout(600)  # four interpreters are started, again and again


@pytest.fixture(scope="module")
def started() -> Iterator[Running]:
    with project() as folder, dev(folder) as running:
        wait_until_up(running)
        yield running


@pytest.fixture
def durable(started: Running) -> Iterator[Durable]:
    made = make_durable(database_of(started))
    yield made
    made.database.close()


def start(durable: Durable, **more: object) -> Run:
    return durable.start("order", {"item": "lamp", "price": 7, **more})


def stands_at(run: Run, node: str) -> None:
    wait_until(
        lambda: node in run.status().current, timeout=PATIENCE, message=lambda: f"{run.status()}"
    )


def shop_of(started: Running) -> Path:
    return started.folder / "shop.py"


def test_a_file_is_enough(started: Running, durable: Durable) -> None:
    run = start(durable)
    stands_at(run, "signoff")
    run.resume("signoff")
    assert run.result(timeout=PATIENCE)["charge"] == {"charged": 7}
    started.wait_for(r"worker +\| reserving \{'item': 'lamp', 'price': 7\}$")
    # The signal may come while the message that has reserved is at work: one line says both then.
    started.wait_for(rf"worker +\| order {run.id}: (reserve, )?signoff, charge; completed$")


def test_it_says_what_it_has_put_in_place(started: Running) -> None:
    started.wait_for(r"database: an embedded Postgres, whose data are kept in \.durable$")
    started.wait_for(
        r"broker: an embedded Postgres in \.durable, since the app has none configured$"
    )


def test_in_a_pipe_its_lines_are_plain_and_calm(started: Running) -> None:
    assert not started.has_colours
    lines = started.text.splitlines()
    assert all(
        re.match(r"\d\d:\d\d:\d\d (durable|worker|beat|page) +\| \S", line) for line in lines
    )
    before = started.text.partition("reserving")[0]
    assert len(before.splitlines()) < 10


def test_the_link_opens_the_page(started: Running) -> None:
    with httpx.Client(follow_redirects=True) as browser:
        page = browser.get(started.wait_for(URL)[1])
    assert page.status_code == 200
    assert "Workflows" in page.text


def test_it_listens_on_loopback_only(started: Running) -> None:
    listening = {
        connection.laddr.ip
        for process in started.living()
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_a_second_one_says_that_one_is_running(started: Running) -> None:
    url = started.wait_for(URL)[1]
    second = subprocess.run(
        DEV, cwd=started.folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert second.returncode == 2
    assert (
        f"is running in {started.folder} already (process {started.process.pid})" in second.stderr
    )
    assert url in second.stderr


def test_git_ignores_what_it_keeps(started: Running) -> None:
    assert (started.folder / ".durable" / ".gitignore").read_text() == "*\n"
    for name in ("token", "lock"):
        assert (started.folder / ".durable" / name).stat().st_mode & 0o077 == 0


def test_a_change_starts_everything_anew_and_runs_go_on(started: Running, durable: Durable) -> None:
    run = start(durable)
    stands_at(run, "signoff")
    step = '@durable.step\ndef ship(ctx):\n    return "shipped"\n\n\norder ='
    shop_of(started).write_text(SHOP.replace("order =", step).rstrip() + ".step(ship)\n")
    started.wait_for(r"durable +\| shop\.py changed: starting anew$", again=True)
    wait_until_up(started, again=True)
    run.resume("signoff")
    assert run.result(timeout=PATIENCE)["ship"] == "shipped"


def test_a_syntax_error_shows_and_waits_for_the_next_change(
    started: Running, durable: Durable
) -> None:
    before = {name: started.part(name).pid for name in ("worker", "page")}
    good = shop_of(started).read_text()
    shop_of(started).write_text(good + "\ndef (:\n")
    started.wait_for(r"check +\| SyntaxError: invalid syntax$", again=True)
    started.wait_for(r"shop\.py changed and cannot be loaded: everything goes on", again=True)
    stands_at(start(durable), "signoff")
    assert {name: started.part(name).pid for name in before} == before
    shop_of(started).write_text(good)
    started.wait_for(r"shop\.py changed: starting anew$", again=True)
    wait_until_up(started, again=True)
    stands_at(start(durable), "signoff")


def test_an_import_that_hangs_waits_for_the_next_change(started: Running) -> None:
    good = shop_of(started).read_text()
    shop_of(started).write_text("import time\ntime.sleep(100_000)\n")
    started.wait_for(r"shop\.py changed, and is being loaded for 10 s already", again=True)
    shop_of(started).write_text(good)
    started.wait_for(r"shop\.py changed: starting anew$", again=True)
    wait_until_up(started, again=True)


@pytest.mark.parametrize("name", ["worker", "beat", "page"])
def test_a_killed_part_is_started_again(started: Running, durable: Durable, name: str) -> None:
    url = started.wait_for(URL)[1]
    started.part(name).kill()
    started.wait_for(rf"{name} ended by SIGKILL; it is started again in \d+ s$", again=True)
    started.wait_for(rf"{name} +\| ready", again=True)
    stands_at(start(durable), "signoff")
    assert httpx.get(url, timeout=PATIENCE).status_code == 303


def is_postgres(words: list[str]) -> bool:
    return words[:1] != [] and words[0].endswith("/postgres") and "-D" in words


def test_a_killed_postgres_is_started_again(started: Running, durable: Durable) -> None:
    run = start(durable)
    stands_at(run, "signoff")
    (server,) = (each for each in started.children() if is_postgres(words_of(each)))
    server.kill()
    started.wait_for(r"postgres has ended; it is started again in \d+ s$", again=True)
    started.wait_for(r"postgres runs again$", again=True)
    run.resume("signoff")
    assert run.result(timeout=PATIENCE)["charge"] == {"charged": 7}

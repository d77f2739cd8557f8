"""`celery -A app durable web` as a process: what it prints, whom it lets in, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.apps.shop import CONFIG
from tests.integration.driving import World
from tests.services import free_port
from tests.waiting import wait_until

TOKEN = "a token that is long enough"
SHOP = [sys.executable, "-m", "celery", "-A", "tests.apps.shop:app", "durable", "web"]

Started = Callable[..., "Process"]


class Process:
    """The command, and what it has printed."""

    def __init__(self, world: World, log: Path, options: tuple[str, ...], conf: Any) -> None:
        self.port = free_port()
        self._log = log
        env = {
            **os.environ,
            "TEST_BROKER_URL": "memory://",
            "DURABLE_DATABASE_URL": world.url,
            CONFIG: json.dumps(conf),
            "PYTHONUNBUFFERED": "1",
        }
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [*SHOP, "--port", str(self.port), *options],
                env=env, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return self._log.read_text()

    def url(self) -> str:
        """The link that it prints, once it answers."""

        def answers() -> bool:
            assert self.process.poll() is None, self.said
            try:
                httpx.get(f"http://127.0.0.1:{self.port}/login")
            except httpx.TransportError:
                return False
            return True

        wait_until(answers, timeout=60, message=lambda: f"the page to answer: {self.said}")
        found = re.search(r"http://\S+", self.said)
        assert found, self.said
        return found[0]

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def started(world: World, tmp_path: Path) -> Iterator[Started]:
    made: list[Process] = []

    def start(*options: str, **conf: Any) -> Process:
        made.append(Process(world, tmp_path / f"{len(made)}.log", options, conf))
        return made[-1]

    yield start
    for one in made:
        one.process.kill()
        one.process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_printed_link_opens_the_page_until_a_signal_ends_it(
    started: Started, number: signal.Signals
) -> None:
    process = started()
    with httpx.Client(follow_redirects=True) as viewer:
        answer = viewer.get(process.url())
        assert (answer.status_code, answer.url.path) == (200, "/")
        assert "Overview" in answer.text
        assert "server" not in answer.headers
    assert process.end(number) == 0
    assert process.said.count("token=") == 1, "the log of requests has none"


def test_a_token_that_is_set_is_not_printed(started: Started) -> None:
    process = started(durable_web_token=TOKEN)
    url = process.url()
    assert TOKEN not in process.said
    with httpx.Client(follow_redirects=True) as viewer:
        assert "Log in" in viewer.get(url).text
        assert viewer.post(f"{url}login", data={"token": TOKEN}).url.path == "/"


def test_at_an_address_that_others_reach_a_token_has_to_be_set(started: Started) -> None:
    process = started("--host", "0.0.0.0")
    assert process.process.wait(60) == 2
    assert "Set durable_web_token" in process.said
    started("--host", "0.0.0.0", durable_web_token=TOKEN).url()


def test_only_a_proxy_that_is_named_is_believed(started: Started) -> None:
    """Else whoever tries tokens would name another address each time."""
    forwarded = {"x-forwarded-for": "10.1.2.3", "x-forwarded-proto": "https"}
    for options, seen in ((), "127.0.0.1"), (("--forwarded-allow-ips", "127.0.0.1"), "10.1.2.3"):
        process = started(*options)
        answer = httpx.get(process.url(), headers=forwarded)
        assert ("Secure" in answer.headers["set-cookie"]) is bool(options)
        cookie = answer.headers["set-cookie"].partition(";")[0]
        page = httpx.get(f"http://127.0.0.1:{process.port}/", headers={"cookie": cookie})
        assert f"token@{seen}" in page.text


def test_with_read_only_nobody_acts(started: Started) -> None:
    process = started("--read-only")
    with httpx.Client(follow_redirects=True) as viewer:
        assert "reads only" in viewer.get(process.url()).text


def test_at_port_0_the_link_names_the_port_that_was_free(started: Started) -> None:
    process = started("--port", "0")
    wait_until(lambda: "http://" in process.said, timeout=60, message="the link")
    found = re.search(r"http://127\.0\.0\.1:(\d+)/\S+", process.said)
    assert found, process.said
    assert found[1] != "0"
    with httpx.Client(follow_redirects=True) as viewer:
        assert "Overview" in viewer.get(found[0]).text
    assert process.end(signal.SIGINT) == 0

"""The examples run to their end, and leave nothing behind. Under ``--long`` each on each broker."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from tests.addresses import ROOT, conninfo
from tests.brokers.examples import broker_of, environment_in, need_demo_extra, passable_folder
from tests.forms import short_or_long
from tests.waiting import wait_until

ENDS_WITHIN = 120.0


@pytest.fixture
def environment(broker: str, database_url: str, request: pytest.FixtureRequest) -> dict[str, str]:
    return {**broker_of(broker, request), "DURABLE_DATABASE_URL": database_url}


@pytest.fixture
def folder() -> Iterator[Path]:
    with passable_folder() as made:
        yield made


def started(words: list[str], environment: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env={**environment_in(folder, environment), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(words: list[str], environment: dict[str, str], folder: Path) -> str:
    """What an example prints; nothing of it is left."""
    process = started(words, environment, folder)
    try:
        output, _ = process.communicate(timeout=ENDS_WITHIN)
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert list(folder.iterdir()) == []
    assert_nothing_is_left(environment)
    return output


def assert_nothing_is_left(environment: dict[str, str]) -> None:
    """No schema in a database that was given, and no key in a Redis."""
    if url := environment.get("DURABLE_DATABASE_URL"):
        with psycopg.connect(conninfo(url)) as connection:
            like = "SELECT FROM pg_namespace WHERE nspname LIKE 'durable_example%'"
            assert connection.execute(like).rowcount == 0
    if (url := environment.get("CELERY_BROKER_URL", "")).startswith("redis"):
        with Redis.from_url(url) as client:
            assert list(client.scan_iter("durable_example*")) == []


@pytest.mark.parametrize("broker", short_or_long(["redis"], ["redis", "rabbitmq"]))
def test_the_agent_uses_its_tools_once_they_are_approved(
    environment: dict[str, str], folder: Path
) -> None:
    output = run(["examples.agent", "--answer", "yes"], environment, folder)
    assert output.count("[yes/no] yes") == 2
    assert "-> {'refunded': 40}" in output
    assert "completed: 4 turns, 1 refund, 1 letter" in output


@pytest.mark.parametrize("broker", short_or_long(["rabbitmq"], ["redis", "rabbitmq"]))
def test_every_node_is_shipped_and_undone(environment: dict[str, str], folder: Path) -> None:
    output = run(["examples.every_node"], environment, folder)
    shipped, undone = output.split("to be undone")
    assert "completed: {'ending': 'shipped', 'signed_off_by': 'the founder'}" in shipped
    assert len(re.findall(r"#compensate +completed", undone)) == 10
    assert "failed: no such address" in undone


def test_the_agent_leaves_what_is_not_approved_and_needs_nothing_but_itself(folder: Path) -> None:
    need_demo_extra()
    output = run(["examples.agent", "--answer", "no"], {}, folder)
    assert output.count("[yes/no] no") == 1
    assert "completed: 3 turns, 0 refund, 0 letter" in output


def test_an_example_that_is_interrupted_leaves_nothing(
    database_url: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    environment = {**broker_of("redis", request), "DURABLE_DATABASE_URL": database_url}
    process = started(["examples.agent", "--answer", "yes"], environment, folder)
    wait_until(lambda: list(folder.glob("*/worker.log")), timeout=60)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=ENDS_WITHIN)
    assert process.returncode == 128 + signal.SIGINT, output
    assert "Traceback" not in output
    assert list(folder.iterdir()) == []
    assert_nothing_is_left(environment)


AWAY = [
    {"DURABLE_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/x"},
    {"CELERY_BROKER_URL": "redis://127.0.0.1:1/0"},
]


@pytest.mark.parametrize("variables", short_or_long(AWAY[:1], AWAY))
def test_a_service_that_is_not_there_is_named(
    variables: dict[str, str], database_url: str, folder: Path
) -> None:
    given = {"DURABLE_DATABASE_URL": database_url, "CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}
    process = started(["examples.every_node"], {**given, **variables}, folder)
    output, _ = process.communicate(timeout=ENDS_WITHIN)
    assert process.returncode == 1
    assert "The example could not be run" in output
    assert "127.0.0.1" in output
    assert "Traceback" not in output
    assert list(folder.iterdir()) == []

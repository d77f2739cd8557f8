"""How `durable dev` ends: nothing is left of it but what it keeps for the next one."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from celery_durable import Durable
from celery_durable.run import Run
from tests.dev.projects import database_of, dev, project, wait_until_up
from tests.dev.running import PATIENCE, Running
from tests.integration.driving import make_durable
from tests.waiting import wait_until

pytest.importorskip("pgmq", reason="the pgmq extra is not installed")

pytestmark = pytest.mark.timeout(600)  # four interpreters are started, again and again


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One for all of these tests: each finds what those before it have kept."""
    with project() as made:
        yield made


@contextmanager
def client_of(started: Running) -> Iterator[Durable]:
    made = make_durable(database_of(started))
    try:
        yield made
    finally:
        made.database.close()


def waiting_run(started: Running) -> Run:
    """Start a run, and see it wait."""
    wait_until_up(started)
    with client_of(started) as durable:
        run = durable.start("order", {"item": "lamp", "price": 7})
        wait_until(lambda: "signoff" in run.status().current, timeout=PATIENCE)
    return run


def test_ctrl_c_ends_everything_and_the_next_one_has_its_runs(folder: Path) -> None:
    with dev(folder, terminal=True) as started:
        run = waiting_run(started)
        assert started.has_colours
        started.type(b"\x03")
        assert started.wait() == 0
        started.wait_until_nothing_lives()
    with dev(folder) as started:
        wait_until_up(started)
        with client_of(started) as durable:
            durable.resume(run.id, "signoff")
            assert durable.run(run.id).result(timeout=PATIENCE)["charge"] == {"charged": 7}
        started.send(signal.SIGTERM)
        assert started.wait() == 0
        started.wait_until_nothing_lives()


def test_the_hang_up_of_its_terminal_ends_everything(folder: Path) -> None:
    with dev(folder, terminal=True) as started:
        wait_until_up(started)
        started.send(signal.SIGKILL)  # to the terminal
        started.wait_until_nothing_lives()


def test_nothing_outlives_one_that_is_killed_and_the_next_one_goes_on(folder: Path) -> None:
    with dev(folder) as started:
        run = waiting_run(started)
        started.send(signal.SIGKILL)
        started.wait()
        with dev(folder) as at_once:
            wait_until_up(at_once)
            with client_of(at_once) as durable:
                durable.resume(run.id, "signoff")
                assert durable.run(run.id).result(timeout=PATIENCE)["charge"] == {"charged": 7}
            at_once.send(signal.SIGTERM)
            assert at_once.wait() == 0
            at_once.wait_until_nothing_lives()


def test_fresh_begins_with_nothing(folder: Path) -> None:
    with dev(folder) as started:
        waiting_run(started)
    with dev(folder, "--fresh") as started:
        wait_until_up(started)
        with client_of(started) as durable:
            assert durable.list() == []

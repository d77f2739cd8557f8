"""What a worker logs of a unit that has failed: an ERROR is for somebody to act on."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable import Durable, GiveUp
from celery_durable.errors import DatabaseUnavailable
from celery_durable.worker.tasks import RECOVER
from tests.integration.driving import ONCE, World


def logged(caplog: pytest.LogCaptureFixture, unit: str) -> tuple[str, bool]:
    """The level of the one line about the unit, and whether it has a traceback."""
    (record,) = [one for one in caplog.records if f"w.{unit} of run" in one.getMessage()]
    return record.levelname, bool(record.exc_info)


def raising(error: Exception) -> Any:
    def handler(_: Any) -> None:
        raise error

    return handler


def run_one(world: World, step: Exception, undo: Exception | None = None) -> None:
    """A run whose second step fails, and whose first step may fail to be undone."""

    def define(durable: Durable) -> None:
        first = durable.step(name="a")(lambda _: None)
        if undo is not None:
            first.compensate(retry=ONCE)(raising(undo))
        durable.workflow("w").step(first).step(durable.step(name="b", retry=ONCE)(raising(step)))

    worker = world.worker(define)
    worker.start("w", {})
    world.drain(worker)


def test_a_handler_that_gives_up_is_a_warning_in_one_line(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """It has decided so, and the run is rolled back as it was written."""
    run_one(world, GiveUp("card declined"))
    assert logged(caplog, "b") == ("WARNING", False)
    assert "card declined" in caplog.text


def test_a_failure_that_nobody_has_decided_is_an_error_with_its_traceback(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    run_one(world, ValueError("a bug"))
    assert logged(caplog, "b") == ("ERROR", True)


def test_a_compensator_that_gives_up_is_an_error(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """What it should have undone is left as it is."""
    run_one(world, GiveUp("card declined"), GiveUp("the parcel is gone"))
    assert logged(caplog, "a#compensate") == ("ERROR", True)


def test_recovery_that_comes_again_and_again_says_once_that_postgres_is_away(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable = world.worker()

    def away() -> int:
        raise DatabaseUnavailable("no route to host")

    recover = durable.app.tasks[RECOVER]
    with monkeypatch.context() as outage:
        outage.setattr(durable, "recover", away)
        recover()
        recover()
    recover()
    assert [message.partition(" ")[0] for message in caplog.messages] == ["Postgres"] * 2

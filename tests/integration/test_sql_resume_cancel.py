"""Signals and cancels that are sent in SQL, by `durable_resume` and `durable_cancel`."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from celery_durable import Durable
from celery_durable.run import Run
from tests.addresses import conninfo
from tests.integration.driving import World, defining, noting, spawn
from tests.waiting import wait_until

RESUME = "SELECT durable_resume(%s, %s, %s::json, %s) AS outcome"
CANCEL = "SELECT durable_cancel(%s, %s)"


def waiting(durable: Durable) -> None:
    """A run that waits, between steps of which the first can be undone."""
    done = durable.step(lambda _: 1, name="done", compensate=noting([], "undo"))
    durable.workflow("w").step(done).wait_for_signal("go").step(
        noting([], "after")
    ).wait_for_signal("more")


@pytest.fixture
def worker(world: World) -> Durable:
    return world.worker(waiting)


@pytest.fixture
def run(world: World, worker: Durable) -> Run:
    """A run that waits for `go`."""
    run = worker.start("w")
    world.drain(worker)
    return run


def resume(
    world: World, run: UUID, signal: str = "go", data: str = "1", key: str | None = None
) -> str:
    found: str = world.one(RESUME, run, signal, data, key)
    return found


def test_a_signal_reaches_the_run_that_waits(world: World, worker: Durable, run: Run) -> None:
    assert resume(world, run.id, data='{"ok": true}') == "stored"
    world.drain(worker)
    assert run.status().results["go"] == {"ok": True}


def test_a_signal_is_sent_with_the_transaction_of_its_caller(
    world: World, worker: Durable, run: Run
) -> None:
    """P7"""
    before = world.counts()
    with psycopg.connect(conninfo(world.url)) as connection:
        connection.execute(RESUME, (run.id, "go", "1", None))
        connection.rollback()
        assert world.counts() == before
        connection.execute(RESUME, (run.id, "go", "1", None))
        connection.commit()
    assert world.counts()["inbox"] == 1


def test_a_signal_before_its_wait_is_kept(world: World, worker: Durable) -> None:
    """P9"""
    run = worker.start("w")
    assert resume(world, run.id) == "stored"
    world.drain(worker)
    assert "go" in run.status().results


def test_a_key_that_has_come_before_is_a_duplicate(world: World, worker: Durable, run: Run) -> None:
    """P9"""
    assert [resume(world, run.id, key="k") for _ in "12"] == ["stored", "duplicate"]
    assert run.resume("go", 2, key="k").outcome == "duplicate"
    world.drain(worker)
    assert resume(world, run.id, key="k") == "duplicate"


def test_of_two_signals_with_a_key_at_once_the_later_one_waits_and_is_a_duplicate(
    world: World, run: Run
) -> None:
    with psycopg.connect(conninfo(world.url)) as first, world.connect() as other:
        first.execute(RESUME, (run.id, "go", "1", "k"))
        second = spawn(lambda: other.execute(RESUME, (run.id, "go", "2", "k")).fetchone())
        wait_until(lambda: world.waiting_for_locks() == 1, message="the second to wait")
        first.commit()
        assert second.result(30) == {"outcome": "duplicate"}


def test_a_run_that_has_ended_refuses(world: World, worker: Durable, run: Run) -> None:
    world.rows(CANCEL, run.id, False)
    world.drain(worker)
    assert run.status().status == "cancelled"
    assert resume(world, run.id) == run.resume("go").outcome == "refused"
    assert world.counts()["inbox"] == 0


def test_a_name_that_no_node_waits_for_is_warned_of_and_kept(world: World, run: Run) -> None:
    told: list[str] = []
    with world.connect() as connection:
        connection.add_notice_handler(lambda one: told.append(str(one.message_primary)))
        for name in ("go", "done", "after#0", "og"):
            row = connection.execute(RESUME, (run.id, name, "1", None)).fetchone()
            assert row == {"outcome": "stored"}
    assert told == ["No node of w version 1 waits for the signal 'og'"]


def test_a_cancel_ends_what_waits(world: World, worker: Durable, run: Run) -> None:
    world.one(CANCEL, run.id, False)
    world.drain(worker)
    assert run.status().status == "cancelled"
    assert world.units(run) == ["done completed"]


def test_a_cancel_undoes_what_has_completed_if_it_is_asked_to(
    world: World, worker: Durable, run: Run
) -> None:
    world.one(CANCEL, run.id, True)
    world.drain(worker)
    assert "done#compensate completed" in world.units(run)


def test_a_cancel_is_undone_with_the_transaction_of_its_caller(
    world: World, worker: Durable, run: Run
) -> None:
    """P7"""
    with psycopg.connect(conninfo(world.url)) as connection:
        connection.execute(CANCEL, (run.id, False))
        connection.rollback()
    world.drain(worker)
    worker.recover()
    assert run.status().status == "suspended"


def test_a_cancel_leaves_a_run_that_has_ended_as_it_is(world: World) -> None:
    worker = world.worker(defining([], "a"))
    run = worker.start("w")
    world.drain(worker)
    world.one(CANCEL, run.id, True)
    assert (run.status().status, world.counts()["inbox"], world.hints()) == ("completed", 0, 0)


NOBODY = uuid4()
TOO_LONG = f'"{"x" * 100}"'

REFUSED: dict[str, tuple[str, tuple[Any, ...], str, str, str]] = {
    "no run": (RESUME, (None, "go", "1", None), "22004", "run is NULL", "id of a run"),
    "no signal": (RESUME, (..., None, "1", None), "22004", "signal is NULL", "name of the"),
    "no data": (RESUME, (..., "go", None, None), "22004", "data is NULL", "'null'::json"),
    "no such run": (RESUME, (NOBODY, "go", "1", None), "P0002", str(NOBODY), "deleted"),
    "empty name": (RESUME, (..., "", "1", None), "22023", "signal is 0", "1 to 500"),
    "empty key": (RESUME, (..., "go", "1", ""), "22023", "key is 0", "1000 bytes"),
    "large": (RESUME, (..., "go", TOO_LONG, None), "54000", "The data of go is 102", "reference"),
    "cancel no run": (CANCEL, (None, False), "22004", "run is NULL", "id of a run"),
    "cancel no such run": (CANCEL, (NOBODY, False), "P0002", str(NOBODY), "another schema"),
    "cancel how": (CANCEL, (..., None), "22004", "compensate is NULL", "true undoes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_with_a_state_and_a_hint(world: World, name: str) -> None:
    """P12"""
    query, arguments, state, message, hint = REFUSED[name]
    worker = world.worker(waiting, max_payload_bytes=101)
    run = worker.start("w")
    world.drain(worker)
    before = world.counts()
    with pytest.raises(psycopg.Error) as caught:
        world.rows(query, *(run.id if one is ... else one for one in arguments))
    assert caught.value.sqlstate == state
    assert message in (caught.value.diag.message_primary or "")
    assert hint in (caught.value.diag.message_hint or "")
    assert world.counts() == before

"""Whoever waits for a run is told of its end; nobody is told anything where nobody waits."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import inf
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from celery_durable import Durable
from celery_durable import run as runs
from celery_durable.database import ends, notify
from celery_durable.database.ends import Listening
from celery_durable.errors import ResultTimeout, RunCancelled
from celery_durable.run import Run
from celery_durable.store.read import outcome
from tests.addresses import ROOT
from tests.integration.driving import LOCKED_HERE, PATIENCE, World, spawn
from tests.integration.watching import Executed, watch
from tests.waiting import wait_until

ON_THE_CHANNEL = notify.channel("public", notify.ENDED_CHANNEL)
LISTENING = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted"
    f" AND classid::bigint = hashtext('{ON_THE_CHANNEL}') & 4294967295 AND {LOCKED_HERE}"
)
"""The sessions that say that they listen."""


def define(durable: Durable) -> None:
    durable.workflow("w").wait_for_signal("go")
    durable.workflow("parent").step(durable.workflow("child").wait_for_signal("go"))

    def step(_: Any) -> int:
        return 1

    durable.workflow("once").step(durable.step(step, transactional=True), name="step")


@pytest.fixture
def worker(world: World) -> Durable:
    return world.worker(define)


@pytest.fixture
def client(world: World) -> Iterator[Durable]:
    """A process of its own; its thread has ended before the database is emptied."""
    made = world.worker(define)
    yield made
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ends, "KEPT", 0.0)
        wait_until(lambda: listening(made)._thread is None, message="the thread to end")


@pytest.fixture(autouse=True)
def _soon_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "LOOKS_UP", 0.02)


@pytest.fixture
def looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits looks when it begins to, and then only when it is told."""
    for pause in ("FIRST_PAUSE", "LAST_PAUSE", "PAUSE_OF_THE_TOLD"):
        monkeypatch.setattr(runs, pause, 10 * PATIENCE)


def listening(durable: Durable) -> Listening:
    return durable.ends._of_process()


def waiting_in(durable: Durable) -> int:
    """How many threads and coroutines of the process wait."""
    return sum(map(len, listening(durable)._waiting.values()))


def wait_until_known(durable: Durable) -> None:
    wait_until(lambda: listening(durable).is_known, message="others to know that it listens")


def finish(world: World, worker: Durable, run: Run, data: object = 1) -> None:
    worker.resume(run.id, "go", data)
    world.drain(worker)


@contextmanager
def hearing(world: World, *, says_so: bool) -> Iterator[psycopg.Connection[Any]]:
    """A session that listens, and maybe says so; it gets what others get."""
    with world.connect() as connection:
        connection.execute(f"LISTEN {ON_THE_CHANNEL}".encode())
        if says_so:
            connection.execute(
                f"SELECT pg_advisory_lock_shared(hashtext('{ON_THE_CHANNEL}'), 0)".encode()
            )
        yield connection


def heard(world: World, connection: psycopg.Connection[Any]) -> list[str]:
    """What was told until now."""
    world.rows("SELECT pg_notify(%s, 'enough')", ON_THE_CHANNEL)
    told: list[str] = []
    while "enough" not in told:
        told += [one.payload for one in connection.notifies(timeout=PATIENCE, stop_after=1)]
    return told[:-1]


@pytest.mark.usefixtures("looks_once")
def test_an_end_wakes_whoever_waits_for_it(world: World, worker: Durable, client: Durable) -> None:
    run = client.start("w")
    world.drain(worker)
    waiting = spawn(run.result)
    wait_until_known(client)
    finish(world, worker, run)
    assert waiting.result(PATIENCE) == {"go": 1}


@pytest.mark.usefixtures("looks_once")
def test_the_end_of_a_step_with_its_callers_transaction_wakes_too(
    world: World, worker: Durable, client: Durable
) -> None:
    run = client.start("once")
    waiting = spawn(run.result)
    wait_until_known(client)
    world.drain(worker)
    assert waiting.result(PATIENCE) == {"step": 1}


@pytest.mark.usefixtures("looks_once")
def test_a_cancel_wakes_whoever_waits(world: World, worker: Durable, client: Durable) -> None:
    """Also for a run below the one that is cancelled."""
    run = client.start("parent")
    world.drain(worker)
    (child,) = run.status().children
    waiting = [spawn(client.run(run_id).result) for run_id in (run.id, child.run_id)]
    wait_until_known(client)
    worker.cancel(run.id)
    for one in waiting:
        with pytest.raises(RunCancelled):
            one.result(PATIENCE)


@pytest.mark.usefixtures("looks_once")
def test_threads_and_coroutines_share_one_connection(
    world: World, worker: Durable, client: Durable
) -> None:
    many = 20
    started = client.start_many("w", [None] * many)
    world.drain(worker)
    threads = [spawn(run.result) for run in started]

    async def main() -> None:
        coroutines = [asyncio.create_task(run.aresult()) for run in started]
        await asyncio.to_thread(
            wait_until, lambda: waiting_in(client) == 2 * many, message="all to wait"
        )
        await asyncio.to_thread(wait_until_known, client)
        assert len(world.rows(LISTENING)) == 1
        for n, run in enumerate(started):
            await asyncio.to_thread(finish, world, worker, run, n)
        async with asyncio.timeout(PATIENCE):
            assert await asyncio.gather(*coroutines) == [{"go": n} for n in range(many)]

    asyncio.run(main())
    assert [one.result(PATIENCE) for one in threads] == [{"go": n} for n in range(many)]
    assert waiting_in(client) == 0


@pytest.mark.usefixtures("looks_once")
def test_the_end_of_another_run_wakes_nobody(
    world: World, worker: Durable, client: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = client.start_many("w", [None] * 2)
    world.drain(worker)
    looks: list[Executed] = []
    watch(monkeypatch, lambda one: looks.append(one) if one.statement is outcome._OUTCOME else None)
    waiting = spawn(mine.result)
    wait_until_known(client)
    finish(world, worker, other)
    finish(world, worker, mine)
    assert waiting.result(PATIENCE)
    assert [one.parameters["run_id"] for one in looks] == [mine.id] * 2


@pytest.mark.usefixtures("looks_once")
def test_more_ends_than_a_notification_can_name_wake_everybody(
    world: World, worker: Durable, client: Durable
) -> None:
    run = client.start("w")
    world.drain(worker)
    waiting = spawn(run.result)
    wait_until_known(client)
    world.rows("UPDATE durable_run SET status = 'cancelled', finished_at = now()")
    assert notify.tell(worker.database, [uuid4() for _ in range(1000)])
    with pytest.raises(RunCancelled):
        waiting.result(PATIENCE)


def test_an_end_that_nobody_tells_is_found_all_the_same(
    world: World, worker: Durable, client: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has ended it may die before it tells."""
    monkeypatch.setattr(runs, "PAUSE_OF_THE_TOLD", 0.05)
    monkeypatch.setattr(notify.Notifier, "ended", lambda *_: None)
    run = client.start("w")
    world.drain(worker)
    waiting = spawn(run.result)
    wait_until_known(client)
    finish(world, worker, run)
    assert waiting.result(PATIENCE) == {"go": 1}


@pytest.mark.usefixtures("looks_once")
def test_a_process_that_loses_its_connection_listens_again(
    world: World, worker: Durable, client: Durable, caplog: pytest.LogCaptureFixture
) -> None:
    run = client.start("w")
    world.drain(worker)
    waiting = spawn(run.result)
    wait_until_known(client)
    (session,) = world.rows(LISTENING)
    world.rows("SELECT pg_terminate_backend(%s)", session["pid"])
    wait_until(lambda: world.rows(LISTENING) not in ([], [session]), message="another session")
    wait_until_known(client)
    finish(world, worker, run)
    assert waiting.result(PATIENCE) == {"go": 1}
    assert caplog.text.count("Listening for ends of runs tries again") == 1


def test_the_connection_is_closed_when_nobody_has_waited_for_a_while(
    world: World, worker: Durable, client: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = client.start_many("w", [None] * 2)
    world.drain(worker)
    for run in (first, second):
        monkeypatch.setattr(ends, "KEPT", PATIENCE)
        waiting = spawn(run.result)
        wait_until_known(client)
        finish(world, worker, run)
        assert waiting.result(PATIENCE)
        assert len(world.rows(LISTENING)) == 1, "it is kept for the next that waits"
        monkeypatch.setattr(ends, "KEPT", 0.0)
        wait_until(lambda: not world.rows(LISTENING), message="the connection to be closed")


def test_one_that_lost_its_connection_and_waits_no_more_makes_no_other(
    world: World, worker: Durable, client: Durable, caplog: pytest.LogCaptureFixture
) -> None:
    run = client.start("w")
    world.drain(worker)
    waiting = spawn(run.result)
    wait_until_known(client)
    finish(world, worker, run)
    assert waiting.result(PATIENCE)
    world.rows(LISTENING.replace("SELECT pid", "SELECT pg_terminate_backend(pid)"))
    wait_until(lambda: listening(client)._thread is None, message="the thread to end")
    assert world.rows(LISTENING) == []
    assert "tries again" not in caplog.text


def test_the_result_of_a_run_that_has_ended_needs_no_second_connection(
    world: World, worker: Durable, client: Durable
) -> None:
    run = client.start("w")
    world.drain(worker)
    finish(world, worker, run)
    assert run.result() == {"go": 1}
    assert asyncio.run(run.aresult()) == {"go": 1}
    assert listening(client)._thread is None


def test_nobody_is_told_where_nobody_waits(world: World, worker: Durable) -> None:
    """P11: a NOTIFY makes every relay's session look."""
    started = worker.start_many("once", [None] * 3)
    with hearing(world, says_so=False) as connection:
        for token_id in world.publish():
            worker.notify._last_told = -notify.LOOKS_EVERY
            worker.engine.advance(token_id)
        assert heard(world, connection) == []
    assert [world.status(run) for run in started] == ["completed"] * 3


def test_every_end_is_told_while_somebody_waits(world: World, worker: Durable) -> None:
    """However soon after the one before, and by whomever."""
    started = worker.start_many("once", [None] * 5)
    with hearing(world, says_so=True) as connection:
        world.drain(worker)
        assert sorted(heard(world, connection)) == sorted(run.id.hex for run in started)


def test_who_has_found_that_nobody_waits_looks_no_more_for_a_while(
    world: World, worker: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P11: and then it looks again."""
    looks: list[Executed] = []
    watch(monkeypatch, lambda one: looks.append(one) if one.statement is notify._TELL else None)
    monkeypatch.setattr(notify, "LOOKS_EVERY", 1e6)
    worker.notify._last_told = -1e6
    worker.start_many("once", [None] * 5)
    world.drain(worker)
    assert len(looks) == 1

    monkeypatch.setattr(notify, "LOOKS_EVERY", 0.0)
    with hearing(world, says_so=True) as connection:
        run = worker.start("once")
        world.drain(worker)
        assert heard(world, connection) == [run.id.hex]


def test_a_process_that_has_just_begun_to_listen_does_not_rely_on_being_told(
    world: World, worker: Durable, client: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ends the run may have found a moment ago that nobody waits."""
    monkeypatch.setattr(ends, "KNOWN_AFTER", 1e6)
    monkeypatch.setattr(runs, "LAST_PAUSE", 0.05)
    monkeypatch.setattr(runs, "PAUSE_OF_THE_TOLD", 10 * PATIENCE)
    monkeypatch.setattr(notify.Notifier, "ended", lambda *_: None)
    run = client.start("w")
    world.drain(worker)
    looks: list[Executed] = []
    watch(monkeypatch, lambda one: looks.append(one) if one.statement is outcome._OUTCOME else None)
    waiting = spawn(run.result)
    wait_until(lambda: listening(client)._known_at < inf, message="the client to listen")
    before = len(looks)
    wait_until(lambda: len(looks) > before, message="it to look")
    finish(world, worker, run)
    assert waiting.result(PATIENCE) == {"go": 1}


def test_a_timeout_says_where_the_run_stands_and_leaves_nobody_waiting(
    world: World, worker: Durable, client: Durable
) -> None:
    run = client.start("w")
    world.drain(worker)
    with pytest.raises(ResultTimeout, match="suspended"):
        run.result(timeout=0.05)
    with pytest.raises(ResultTimeout, match="suspended"):
        asyncio.run(run.aresult(timeout=0.05))
    assert waiting_in(client) == 0
    assert listening(client)._thread is not None


@pytest.mark.usefixtures("looks_once")
def test_a_coroutine_that_is_cancelled_waits_no_more(
    world: World, worker: Durable, client: Durable
) -> None:
    run = client.start("w")
    world.drain(worker)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run.aresult(), 0.05)

    asyncio.run(main())
    assert waiting_in(client) == 0


FORK = """
import os, sys, threading, time
from celery import Celery
from celery_durable import Durable
from celery_durable import run as runs

runs.FIRST_PAUSE = runs.LAST_PAUSE = runs.PAUSE_OF_THE_TOLD = 1e6
app = Celery("forks")
app.conf.durable_database_url = sys.argv[1]
durable = Durable(app)
of_parent, of_child = map(durable.run, sys.argv[2:])

def wait_for(run, results):
    results.append(run.result(timeout={patience}))

def begin(run):
    results = []
    thread = threading.Thread(target=wait_for, args=(run, results))
    thread.start()
    while not durable.ends._of_process().is_known:
        time.sleep(0.01)
    print("listens", os.getpid(), flush=True)
    return thread, results

thread, results = begin(of_parent)
if not os.fork():
    thread, results = begin(of_child)
    thread.join()
    print("child", results, flush=True)
    sys.exit(0)
assert os.wait()[1] == 0
print("gone", flush=True)
thread.join()
print("parent", results, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_listens_for_itself_and_leaves_its_parents_connection_alone(
    world: World, worker: Durable
) -> None:
    of_parent, of_child = worker.start_many("w", [None] * 2)
    world.drain(worker)
    script = FORK.format(patience=PATIENCE)
    command = [sys.executable, "-c", script, world.url, str(of_parent.id), str(of_child.id)]
    with (
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process,
        ExitStack() as stack,
    ):
        stack.callback(process.kill)
        deadline = threading.Timer(2 * PATIENCE, process.kill)
        stack.callback(deadline.cancel)
        deadline.start()
        assert process.stdout is not None
        said = process.stdout
        assert said.readline().startswith("listens")
        (before,) = world.rows(LISTENING)
        assert said.readline().startswith("listens")
        assert len(world.rows(LISTENING)) == 2
        finish(world, worker, of_child, "child")
        assert said.readline() == "child [{'go': 'child'}]\n"
        assert said.readline() == "gone\n"
        wait_until(lambda: world.rows(LISTENING) == [before], message="the child's to be gone")
        finish(world, worker, of_parent, "parent")
        assert said.readline() == "parent [{'go': 'parent'}]\n"
        assert process.wait(PATIENCE) == 0

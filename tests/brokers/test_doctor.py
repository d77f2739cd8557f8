"""Doctor, probes, workers, queues and remote control, beside real workers and brokers."""

from __future__ import annotations

import json
import os
import signal

import pytest

from celery_durable import Durable
from celery_durable.core.finding import Severity
from celery_durable.core.fleet import WorkerState
from celery_durable.worker import examination, remote
from tests.brokers.shop import SHOP, Shop, on_redis
from tests.cluster import WorkerNode
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("shift")

SLOW = 60.0


def doctor(shop: Shop, *options: str) -> tuple[int, str]:
    """The exit code of `durable doctor`, and what it says."""
    done = shop.cluster.celery(SHOP, "durable", "doctor", *options)
    return done.returncode, done.stdout + done.stderr


def trouble(shop: Shop) -> set[str]:
    """The codes of what is not in order."""
    return {one.code for one in shop.durable.doctor() if one.severity is not Severity.OK}


def wait_until_ready(shop: Shop) -> None:
    """And then the command says so too."""
    wait_until(
        lambda: {one.severity for one in examination.readiness(shop.durable)} == {Severity.OK},
        timeout=SLOW,
        message="it to be ready",
    )
    assert doctor(shop, "--ready")[0] == 0


def wait_until_in_order(shop: Shop) -> None:
    wait_until(lambda: not trouble(shop), timeout=SLOW, message=lambda: f"{shop.durable.doctor()}")


def host_of(worker: WorkerNode) -> str:
    return str(worker.hostname()).rpartition("@")[2]


def wait_until_registered(shop: Shop, count: int) -> None:
    wait_until(
        lambda: len(shop.durable.workers()) == count, timeout=SLOW, message=f"{count} processes"
    )


def test_nothing_is_wrong_where_a_worker_runs_and_much_where_none_does(shop: Shop) -> None:
    """On each broker: connecting with its own options."""
    run = shop.start(charge="hold")
    assert {"relays", "workers", "queues"} <= trouble(shop)
    worker = shop.worker(concurrency=1)
    shop.wait_for(run, "charge")
    wait_until_in_order(shop)
    code, said = doctor(shop, "--strict")
    assert (code, "error" in said) == (0, False), said
    shop.finish(run)
    assert worker.stop() == 0
    assert {"relays", "workers"} <= trouble(shop)


@pytest.mark.parametrize("shop", ["redis", "rabbitmq"], indirect=True)
def test_who_works_on_what(shop: Shop) -> None:
    worker = shop.worker(concurrency=2)
    wait_until_registered(shop, 2)
    runs = []
    for _ in range(2):
        runs.append(shop.start(charge="hold"))
        shop.wait_for(runs[-1], "charge")
    found = shop.durable.workers()
    assert {one.pid for one in found} == {*worker.children()}
    assert {one.hostname for one in found} == {worker.hostname()}
    executing = {unit.run_id: unit.unit for one in found for unit in one.executing}
    assert executing == {run.id: "charge" for run in runs}
    (queue,) = [one for one in shop.durable.queues() if one.queue == shop.broker.queue()]
    assert (queue.workers, queue.slots, queue.busy) == (2, 2, 2)
    for command in ("workers", "queues"):
        done = shop.cluster.celery(SHOP, "durable", command, "--json")
        assert (done.returncode, len(json.loads(done.stdout)) >= 1) == (0, True), done.stderr
    shop.open_gate(*runs)
    for run in runs:
        run.result(timeout=SLOW)


@on_redis
def test_live_tells_a_process_that_hangs_from_one_that_is_killed(shop: Shop) -> None:
    worker = shop.worker(concurrency=2, conf={"durable_worker_ttl": 3.0})
    wait_until_registered(shop, 2)
    live = ("--live", "--hostname", host_of(worker))
    assert doctor(shop, *live)[0] == 0
    assert doctor(shop, "--live", "--hostname", "elsewhere")[0] == 1

    killed, _ = worker.children()
    os.kill(killed, signal.SIGKILL)
    wait_until(
        lambda: len([one for one in shop.durable.workers() if one.pid != killed]) == 2,
        timeout=SLOW,
        message="another in its place",
    )
    assert doctor(shop, *live)[0] == 0, "Celery has replaced it"

    everybody = [worker.pid, *worker.children()]  # its relay would end what hangs
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(
            lambda: WorkerState.OVERDUE in {one.state for one in shop.durable.workers()},
            timeout=SLOW,
            message="it to be overdue",
        )
        code, said = doctor(shop, *live)
        assert (code, "has not renewed its row in time" in said) == (1, True)
    finally:
        for pid in reversed(everybody):
            os.kill(pid, signal.SIGCONT)
    wait_until(
        lambda: {one.state for one in shop.durable.workers()} == {WorkerState.ALIVE},
        timeout=SLOW,
        message="both to live again",
    )
    assert doctor(shop, *live)[0] == 0


@pytest.mark.parametrize("shop", ["redis", "own_rabbitmq"], indirect=True)
def test_ready_waits_for_a_relay_and_a_broker(shop: Shop) -> None:
    code, said = doctor(shop, "--ready")
    assert (code, "No relay runs" in said) == (1, True)
    shop.worker(concurrency=1)
    wait_until_ready(shop)
    shop.breakable.stop()
    try:
        code, said = doctor(shop, "--ready")
        assert (code, "The broker does not answer" in said) == (1, True)
        assert "broker" in trouble(shop)
    finally:
        shop.breakable.start()
    wait_until_ready(shop)


@pytest.mark.parametrize("shop", ["redis", "own_rabbitmq"], indirect=True)
def test_a_broker_that_hangs_does_not_hang_the_doctor(shop: Shop) -> None:
    shop.breakable.pause()
    try:
        assert "broker" in trouble(shop)
    finally:
        shop.breakable.go_on()


@pytest.mark.parametrize("shop", ["redis", "rabbitmq"], indirect=True)
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_inspect_says_what_a_worker_executes(shop: Shop, pool: str) -> None:
    worker = shop.worker(pool=pool, concurrency=1)
    if pool == "solo":  # which answers between two messages only
        wait_until_registered(shop, 1)
        assert worker.ask(shop.app, "durable")["relay"]["running"]
        return
    run = shop.start(charge="hold")
    pid = shop.wait_for(run, "charge").pid
    found = worker.ask(shop.app, "durable")
    (process,) = found["processes"]
    assert (process["pid"], process["state"], process["busy"]) == (pid, "alive", 1)
    (unit,) = process["executing"]
    assert (unit["run"], unit["workflow"], unit["unit"]) == (str(run.id), "order", "charge")
    assert found["relay"]["running"]
    assert found["relay"]["published"] >= 1
    assert found["settings"]["queue"] == shop.broker.queue()
    assert "database_url" not in found["settings"]
    assert "postgresql" not in json.dumps(found)
    shop.finish(run)


@on_redis
def test_inspect_on_celery_s_own_command_line(shop: Shop) -> None:
    worker = shop.worker(concurrency=1, options=["--no-durable-relay"])
    wait_until_registered(shop, 1)
    options = ("-d", worker.hostname(), "--timeout", "20", "--json")
    done = shop.cluster.celery(SHOP, "inspect", "durable", *options)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)[worker.hostname()]
    assert (len(answer["processes"]), answer["relay"]["running"]) == (1, False)
    assert "durable_pause_workflow" in shop.cluster.celery(SHOP, "control", "--list").stdout


@on_redis
def test_a_worker_answers_though_postgres_does_not(shop: Shop) -> None:
    """Its main process waits for two seconds at most: Celery's own commands are answered too."""
    worker = shop.worker(concurrency=1, options=["--no-durable-relay"])
    wait_until_registered(shop, 1)
    lock = "LOCK TABLE durable_worker IN ACCESS EXCLUSIVE MODE"
    shop.query("BEGIN")
    try:
        shop.query(lock)
        answer = worker.ask(shop.app, "durable")
        assert "error" in answer
        assert f"no answer within {remote.PATIENCE:g} s" in answer["error"]
    finally:
        shop.query("ROLLBACK")
    assert worker.ask(shop.app, "durable")["processes"]


@on_redis
@pytest.mark.skipif(not hasattr(Durable, "pause"), reason="Durable has no pause yet")
def test_a_workflow_is_paused_and_goes_on_by_remote_control(shop: Shop) -> None:
    worker = shop.worker(concurrency=1)
    assert worker.ask(shop.app, "durable_pause_workflow", workflow="order") == {
        "ok": "order is paused"
    }
    run = shop.start()
    wait_until(
        lambda: "paused" in {reason.code for reason in run.why().reasons},
        timeout=SLOW,
        message=lambda: f"it to be paused; {run.why()}",
    )
    assert shop.ledger(run) == []
    words = ("control", "durable_unpause_workflow", "order", "-d", worker.hostname())
    assert shop.cluster.celery(SHOP, *words, "--timeout", "20").returncode == 0
    run.result(timeout=SLOW)

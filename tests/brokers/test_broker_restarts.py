"""Brokers that are killed, emptied and started again while workers work (P2, P4)."""

from collections.abc import Sequence

import pytest

from celery_durable.run import Run
from tests.apps.watched import CHANGED_IN
from tests.brokers.shop import UNITS, Shop
from tests.cluster import WorkerNode
from tests.waiting import wait_until

on_each_broker = pytest.mark.parametrize("shop", ["redis", "own_rabbitmq"], indirect=True)
on_rabbitmq = pytest.mark.parametrize("shop", ["own_rabbitmq"], indirect=True)

WATCHED = "tests.apps.watched:app"
A_MESSAGE_PER_STEP = {"durable_inline_steps": 1}
RUNS = 25
HELD = 2
"""Fewer than one worker executes: the other may still be looking for the broker."""
SLOW = 60.0
"""Seconds: with kombu 5.5 a thread pool acknowledges a dozen messages every ten."""


@pytest.fixture(scope="module")
def workers(shop: Shop) -> list[WorkerNode]:
    pools = {"pool": "prefork"}, {"pool": "threads"}
    return shop.workers(*pools, app=WATCHED, concurrency=HELD + 1, conf=A_MESSAGE_PER_STEP)


def start_some(shop: Shop) -> list[Run]:
    """Runs in full flow, and two whose step is in hand."""
    held = [shop.start(charge="hold") for _ in range(HELD)]
    for run in held:
        shop.wait_for(run, "charge")
    runs = list(shop.durable.start_many("order", [{}] * RUNS, version=1))
    wait_until(lambda: any(shop.ledger(run) for run in runs), message="the first of the runs")
    return [*held, *runs]


def all_end_each_step_having_run_once(shop: Shop, runs: Sequence[Run]) -> None:
    shop.open_gate(*runs)
    for run in runs:
        run.result(timeout=SLOW)
        assert [entry.unit for entry in shop.ledger(run, event="begin")] == UNITS
        assert [entry.unit for entry in shop.ledger(run, event="end")] == UNITS


def hint_what_was_lost(shop: Shop) -> None:
    """As recovery would after a while."""
    shop.let_pass("10 minutes")
    shop.durable.recover()


@on_each_broker
def test_runs_end_though_the_broker_is_killed_and_started_again(
    shop: Shop, workers: list[WorkerNode]
) -> None:
    """Workers that have lost it find it again, and nothing that was in hand is begun twice."""
    broker = shop.breakable
    runs = start_some(shop)
    broker.stop()
    runs += shop.durable.start_many("order", [{}] * 5, version=1)
    broker.start()
    hint_what_was_lost(shop)
    all_end_each_step_having_run_once(shop, runs)
    assert all(worker.is_running for worker in workers)


@on_each_broker
def test_runs_end_though_the_broker_forgets_everything(
    shop: Shop, workers: list[WorkerNode]
) -> None:
    """Queues and all."""
    runs = start_some(shop)
    shop.breakable.forget()
    hint_what_was_lost(shop)
    all_end_each_step_having_run_once(shop, runs)
    assert all(worker.is_running for worker in workers)


@on_rabbitmq
def test_only_the_thread_that_reads_the_connection_changes_the_prefetch_count(
    shop: Shop, workers: list[WorkerNode]
) -> None:
    """Two that read it take each other's answers, and then wait for ever."""
    runs = hold_one_in_each(shop, workers)
    before = [raised(worker) for worker in workers]
    shop.breakable.stop()
    shop.breakable.start()
    shop.open_gate(*runs)

    def have_raised_it() -> bool:
        runs.append(shop.start())
        return all(raised(w) > n for w, n in zip(workers, before, strict=True))

    wait_until(have_raised_it, timeout=SLOW, message="the prefetch count to be raised again")
    for worker in workers:
        changed = [line for line in worker.logs().splitlines() if CHANGED_IN in line]
        assert changed
        assert all(line.endswith(f"{CHANGED_IN}MainThread") for line in changed), changed
    for run in runs:
        run.result(timeout=SLOW)


def hold_one_in_each(shop: Shop, workers: Sequence[WorkerNode]) -> list[Run]:
    """Start runs until each worker executes a unit of one."""
    runs: list[Run] = []

    def are_busy() -> bool:
        held = {entry.pid for run in runs for entry in shop.ledger(run, "charge", "begin")}
        if all(held & {worker.pid, *worker.children()} for worker in workers):
            return True
        runs.append(shop.start(charge="hold"))
        return False

    wait_until(are_busy, timeout=SLOW, message="a unit in each worker")
    return runs


def raised(worker: WorkerNode) -> int:
    """How often the worker has raised its prefetch count again after a reconnect."""
    return str(worker.logs()).count("Prefetch count has been restored")

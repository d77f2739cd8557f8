"""A process that is killed with SIGKILL in a step: the step runs again elsewhere (P2, P3, P5).

How soon is printed, not asserted. That it is soon at all is: the waits end long before a worker's
TTL, after which even a death that nobody noticed is taken for one.
"""

import os
import signal

import pytest

from celery_durable.run import Run
from tests.brokers.shop import Shop
from tests.cluster import WorkerNode


@pytest.fixture(scope="module")
def workers(shop: Shop) -> tuple[WorkerNode, WorkerNode]:
    first, second = shop.workers({}, {})
    return first, second


def test_a_step_whose_child_process_is_killed_runs_again_elsewhere(
    shop: Shop, workers: tuple[WorkerNode, WorkerNode]
) -> None:
    run = shop.start(charge="hold")
    victim = shop.wait_for(run, "charge").pid
    assert any(victim in worker.children() for worker in workers)
    killed_at = shop.now()
    os.kill(victim, signal.SIGKILL)
    again = shop.wait_for(run, "charge", times=2)
    print(f"{shop.broker.name}: taken over in {again.at - killed_at}")  # noqa: T201 - pytest -rP
    assert again.pid != victim
    shop.open_gate(run)
    assert_charged_once(shop, run)


def test_a_step_whose_worker_is_killed_runs_again_on_another(
    shop: Shop, workers: tuple[WorkerNode, WorkerNode]
) -> None:
    run = shop.start(charge="hold")
    pid = shop.wait_for(run, "charge").pid
    (victim,) = (worker for worker in workers if pid in worker.children())
    (survivor,) = (worker for worker in workers if worker is not victim)
    killed_at = shop.now()
    victim.kill()
    again = shop.wait_for(run, "charge", times=2)
    print(f"{shop.broker.name}: taken over in {again.at - killed_at}")  # noqa: T201 - pytest -rP
    assert again.pid in survivor.children()
    shop.open_gate(run)
    assert_charged_once(shop, run)
    victim.start()


def assert_charged_once(shop: Shop, run: Run) -> None:
    """`charge` began twice and ended once; the journal has it once, as its first attempt."""
    run.result(timeout=30)
    charged = [(entry.attempt, entry.failures) for entry in run.history() if entry.unit == "charge"]
    assert charged == [(1, ())]
    assert [entry.event for entry in shop.ledger(run, "charge")] == ["begin", "begin", "end"]
    assert len(shop.ledger(run, "reserve")) == len(shop.ledger(run, "ship")) == 2

"""Workers of several releases at once (P10)."""

import pytest

from celery_durable.run import Run
from tests.apps.shop import EDITED, VERSION
from tests.brokers.shop import UNITS, Shop, on_redis
from tests.cluster import WorkerNode

pytestmark = pytest.mark.usefixtures("shift")

A_MESSAGE_PER_STEP = {"durable_inline_steps": 1}


def test_a_run_of_an_unknown_version_is_left_to_a_worker_that_knows_it(shop: Shop) -> None:
    old = shop.worker()
    known, unknown = shop.start(), shop.durable.start("order", {}, version=2)
    known.result(timeout=30)
    old.wait_for_log("workflow 'order' version 2 is not known to this worker (versions known: 1)")
    assert unknown.status().status == "running"
    assert shop.ledger(unknown) == []
    assert old.logs().count("is left to other workers") <= 2  # each child says it once
    new = shop.worker(env={VERSION: "2"})
    unknown.result(timeout=120)
    assert_done_by(shop, unknown, new)
    assert "Traceback" not in old.logs()


def test_old_and_new_workers_share_a_queue(shop: Shop) -> None:
    """Wherever the messages of a run go first, each of its steps is executed by who knows it."""
    old, new = shop.workers({}, {"env": {VERSION: "2"}}, conf=A_MESSAGE_PER_STEP)
    runs = shop.durable.start_many("order", [{}] * 10, version=2)
    of_both = [shop.start() for _ in range(5)]
    for run in [*runs, *of_both]:
        run.result(timeout=60)
    for run in runs:
        assert_done_by(shop, run, new)
    for run in of_both:
        assert_done_by(shop, run, old, new)
    assert "Traceback" not in old.logs() + new.logs()


def assert_done_by(shop: Shop, run: Run, *workers: WorkerNode) -> None:
    """Each unit was executed once, at its first try, by a process of these workers."""
    pids = {pid for worker in workers for pid in worker.children()}
    assert {entry.pid for entry in shop.ledger(run)} <= pids
    assert [entry.unit for entry in shop.ledger(run, event="end")] == UNITS
    assert [(entry.unit, entry.attempt) for entry in run.history()] == [(u, 1) for u in UNITS]


def test_a_definition_edited_in_place_leaves_runs_to_workers_that_have_it_as_it_was(
    shop: Shop,
) -> None:
    """A step was put before the one where the runs stand."""
    old = shop.worker()
    runs = [shop.start(charge="hold") for _ in range(2)]
    for run in runs:
        shop.wait_for(run, "charge")
    new = shop.worker(env={EDITED: "1"})
    assert "was changed at or before node 'charge', where runs stand" in new.logs()
    old.teardown()
    shop.open_gate(*runs)
    new.wait_for_log("was changed here at or before 'charge', where the run stands")
    old.start()
    for run in runs:
        run.result(timeout=120)
        assert [entry.unit for entry in run.history()] == UNITS
        assert shop.ledger(run, "charge")[-1].pid in old.children()


@on_redis
def test_the_plans_of_a_worker_are_stored_when_it_starts(shop: Shop) -> None:
    """So that a process which imports no workflow can start one."""
    shop.query("DELETE FROM durable_definition")
    shop.worker(env={VERSION: "2"})
    stored = shop.query("SELECT workflow, version FROM durable_definition")
    assert {*stored} == {(known.name, known.version) for known in shop.durable.registry}

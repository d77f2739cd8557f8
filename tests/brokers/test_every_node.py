"""One workflow with every kind of node in it, on two workers."""

import pytest

from celery_durable import RunFailed
from celery_durable.core.status import Status
from celery_durable.run import Run
from tests.brokers import every_node
from tests.brokers.every_node import APP, SHIPPED, UNDONE
from tests.brokers.shop import Shop
from tests.cluster import WorkerNode

CHILDREN = {
    ("customs", "declare"),
    ("customs", "clear"),
    ("fulfilment", "pack"),
    ("fulfilment", "label"),
}
BEFORE_PAYMENT = {
    "reserve",
    "book",
    *("checks#fraud", "checks#price", "checks#customs", "checks"),
    *("lines#0", "lines#1", "lines#2", "lines"),
    "payment#route",
}
AFTER_PAYMENT = {
    "payment",
    *("bank#0", "bank#1", "bank"),
    *("cool_down", "sign_off", "inspect", "fulfil", "weigh"),
}
WITHOUT_WORK = {"checks", "checks#customs", "lines", "payment#route", "bank", "cool_down"}
"""Units in which no handler of the workflow itself does anything, with the two that follow."""
WITHOUT_WORK |= {"sign_off", "fulfil"}

UNDONE_UNITS = {
    *("reserve", "book", "checks#price", "lines#0", "lines#1", "lines#2", "payment"),
    *("inspect", "fulfil", "weigh"),
}


@pytest.fixture(scope="module")
def workers(shop: Shop) -> tuple[WorkerNode, WorkerNode]:
    every_node.prepare(shop)
    first, second = shop.workers({}, {}, app=APP)
    return first, second


def test_runs_complete_with_each_unit_executed_once(
    shop: Shop, workers: tuple[WorkerNode, WorkerNode]
) -> None:
    runs = every_node.start(shop, [SHIPPED] * 6)
    every_node.see_through(shop, runs)
    own = BEFORE_PAYMENT | AFTER_PAYMENT | {"ship"}
    children = CHILDREN | {("invoice", "print"), ("invoice", "post")}
    for run in runs:
        assert run.result(timeout=10) == {"ending": "shipped", "signed_off_by": "the founder"}
        recorded = every_node.units(shop, run)
        assert recorded == {
            *(("every_node", unit, "completed") for unit in own),
            *((*unit, "completed") for unit in children),
        }
        work = {("every_node", unit) for unit in own - WITHOUT_WORK - {"payment"}} | children
        assert sorted(every_node.done(shop, run)) == sorted(work)
    assert_both_worked(shop, workers, runs)


def test_results_are_those_of_the_units(shop: Shop, workers: tuple[WorkerNode, WorkerNode]) -> None:
    (run,) = every_node.start(shop, [SHIPPED])
    every_node.see_through(shop, [run])
    snapshot = run.status()
    results = snapshot.results
    assert results["checks"] == {
        "fraud": {"done": "checks#fraud"},
        "price": {"done": "checks#price"},
        "customs": {"declare": {"done": "declare"}, "clear": {"done": "clear"}},
    }
    assert [line["item"] for line in results["lines"]] == ["anvil", "bellows", "crucible"]
    assert results["payment"] == {"print": {"done": "print"}, "post": {"done": "post"}}
    assert results["bank"] == {"done": "bank#1", "received": 40}
    assert results["cool_down"] is None
    assert results["inspect"] == {"done": "inspect", "photo": "crate.jpg", "verdict": "sound"}
    assert results["fulfil"] == {"pack": {"done": "pack"}, "label": {"done": "label"}}
    assert {child.workflow for child in snapshot.children} == {"customs", "invoice", "fulfilment"}
    (fulfilment,) = shop.query(
        "SELECT input FROM durable_run WHERE parent_run_id = %s AND workflow = 'fulfilment'", run.id
    )
    assert fulfilment == ({"lines": ["anvil", "bellows", "crucible"]},)


def test_runs_that_fail_are_undone_with_each_compensation_executed_once(
    shop: Shop, workers: tuple[WorkerNode, WorkerNode]
) -> None:
    runs = every_node.start(shop, [UNDONE] * 6)
    every_node.see_through(shop, runs)
    own = BEFORE_PAYMENT | AFTER_PAYMENT
    undone = {f"{unit}#compensate" for unit in UNDONE_UNITS}
    undone_children = {("fulfilment", "pack#compensate"), ("fulfilment", "label#compensate")}
    for run in runs:
        with pytest.raises(RunFailed, match="no such address"):
            run.result(timeout=10)
        assert every_node.units(shop, run) == {
            *(("every_node", unit, "completed") for unit in own | undone),
            *((*unit, "completed") for unit in CHILDREN | undone_children),
            ("every_node", "ship", "failed"),
        }
        every_node.assert_undone_in_reverse(shop, run)
        work = (own | undone) - WITHOUT_WORK - {"fulfil#compensate"}
        assert sorted(every_node.done(shop, run)) == sorted(
            {("every_node", unit) for unit in work} | CHILDREN | undone_children
        )
        children = {child.workflow: child.status for child in run.status().children}
        assert children == {"customs": Status.COMPLETED, "fulfilment": Status.CANCELLED}
    assert_both_worked(shop, workers, runs)


def test_signals_that_arrive_before_the_run_waits_for_them_are_taken(
    shop: Shop, workers: tuple[WorkerNode, WorkerNode]
) -> None:
    (run,) = every_node.start(shop, [SHIPPED])
    for signal, data in every_node.ANSWERS.items():
        assert run.resume(signal, data, key="once").outcome == "stored"
        assert run.resume(signal, "again", key="once").outcome == "duplicate"
    assert run.result(timeout=every_node.ENDS_WITHIN)["signed_off_by"] == "the founder"
    assert run.status().results["inspect"]["verdict"] == "sound"


def assert_both_worked(shop: Shop, workers: tuple[WorkerNode, WorkerNode], runs: list[Run]) -> None:
    pids = {pid for run in runs for pid in every_node.pids(shop, run)}
    for worker in workers:
        assert pids & {*worker.children()}

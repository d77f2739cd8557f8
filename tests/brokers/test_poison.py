"""A step that kills its process each time does not go round for ever (durable_max_crashes)."""

from collections import Counter

import pytest

from celery_durable import RunFailed
from celery_durable.errors import ErrorRecord
from celery_durable.run import Run
from tests.apps import poison
from tests.brokers.shop import Shop, need, on_redis
from tests.cluster import WorkerNode
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("shift")

POISON = "tests.apps.poison:app"

ENDS_WITHIN = 90.0


@pytest.fixture(autouse=True, scope="module")
def poisonous(shop: Shop) -> None:
    poison.define(shop.durable)


def test_a_step_that_kills_its_workers_fails_and_is_undone(shop: Shop) -> None:
    worker = shop.worker(conf={"durable_bundle": 1})
    poison = shop.start(charge="die")
    others = shop.durable.start_many("order", [{}] * 10, version=1)
    with pytest.raises(RunFailed) as failed:
        poison.result(timeout=60)
    assert failed.value.error is not None
    assert (failed.value.error.type, failed.value.error.unit) == ("WorkerLost", "charge")
    assert [entry.unit for entry in shop.ledger(poison, event="begin")] == [
        "reserve",
        *["charge"] * 3,
        "reserve#compensate",
    ]
    assert len({entry.pid for entry in shop.ledger(poison, "charge")}) == 3
    for run in others:
        run.result(timeout=30)
        assert len(shop.ledger(run, event="end")) == 3
    assert worker.is_running


@on_redis
def test_poison_of_every_kind_takes_no_other_run_down_with_it(shop: Shop) -> None:
    """A child of the prefork pool has one unit in hand: no other one is tried again."""
    worker = shop.worker(POISON, conf={"durable_bundle": 1})
    deadly = [shop.durable.start("line", {"b": death}) for death in poison.DEATHS]
    others = shop.durable.start_many("line", [{}] * 100)
    for run in deadly:
        assert_poisoned(run, "b")
        assert begun(shop, run) == {"a": 1, "b": 3, "a#compensate": 1}
    for run in others:
        run.result(timeout=ENDS_WITHIN)
        assert begun(shop, run) == {"a": 1, "b": 1}
    assert worker.is_running


@on_redis
def test_poison_in_a_bundle_is_soon_alone(shop: Shop) -> None:
    """Each death counts on all that the process had in hand, and repeats a unit of each at most."""
    worker = shop.worker(POISON)
    deadly = shop.durable.start_many("line", [{"b": "kill"}] * 2)
    others = shop.durable.start_many("line", [{}] * 60)
    for run in deadly:
        assert_poisoned(run, "b")
        times = begun(shop, run)
        assert times["a#compensate"] == 1
        assert 1 <= times["b"] <= 3
    for run in others:
        run.result(timeout=ENDS_WITHIN)
        assert set(begun(shop, run).values()) <= {1, 2}
    assert worker.is_running


PLACES = {
    "fork": "both#bad",
    "list": "each#1",
    "choice": "way#route",
    "round": "until",
}
"""By workflow the unit that kills; the last one does it in its loop's `until`."""


@on_redis
def test_poison_in_any_place_fails_its_node_and_what_completed_is_undone(shop: Shop) -> None:
    shop.worker(POISON)
    runs = {name: shop.durable.start(name, {unit: "kill"}) for name, unit in PLACES.items()}
    for name, run in runs.items():
        assert_poisoned(run, "poll#0" if name == "round" else PLACES[name])
        assert begun(shop, run)["a#compensate"] == 1


@on_redis
def test_a_poisonous_compensator_is_given_up(shop: Shop) -> None:
    shop.worker(POISON)
    run = shop.durable.start("undo", {"a#compensate": "kill"})
    assert error_of(run).type == "GiveUp"
    (found,) = run.status().compensation_errors.values()
    assert (found.type, found.unit) == ("WorkerLost", "a#compensate")
    assert begun(shop, run) == {"a": 1, "a#compensate": 3}


@on_redis
def test_poison_in_a_child_fails_its_parent(shop: Shop) -> None:
    shop.worker(POISON)
    run = shop.durable.start("parent", {"b": "kill"})
    error = error_of(run)
    assert error.type == "ChildFailed"
    assert "WorkerLost" in error.message


@on_redis
@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_poison_that_kills_a_shared_process_takes_no_other_run_down_with_it(
    shop: Shop, pool: str
) -> None:
    """The units beside it are counted as crashed too, but not beside it again."""
    need(pool)
    worker = shop.worker(POISON, pool=pool, concurrency=6)
    deadly = shop.durable.start("line", {"b": "kill"})
    others = shop.durable.start_many("line", [{"slow": True}] * 6)
    supervise(worker, [deadly, *others])
    assert_poisoned(deadly, "b")
    for run in others:
        run.result(timeout=ENDS_WITHIN)
    assert worker.process.lives == 4


def supervise(worker: WorkerNode, runs: list[Run]) -> None:
    """Start the worker again whenever it has died, until the runs have ended."""

    def have_ended() -> bool:
        if not worker.is_running:
            worker.start()
        return all(run.status().finished_at is not None for run in runs)

    wait_until(have_ended, timeout=ENDS_WITHIN, message="the runs to end")


def error_of(run: Run) -> ErrorRecord:
    with pytest.raises(RunFailed) as failed:
        run.result(timeout=ENDS_WITHIN)
    assert failed.value.error is not None
    return failed.value.error


def assert_poisoned(run: Run, unit: str) -> None:
    error = error_of(run)
    assert (error.type, error.unit) == ("WorkerLost", unit)
    assert "3 workers died" in error.message


def begun(shop: Shop, run: Run) -> Counter[str]:
    """How often each unit has begun."""
    return Counter(entry.unit for entry in shop.ledger(run, event="begin"))

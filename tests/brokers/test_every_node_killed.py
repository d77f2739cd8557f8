"""SIGKILL at each commit point of a workflow with every kind of node (P1, P2, P3, P5, P8).

A run that nobody disturbs says which points there are. Then, for each point and each moment there,
a run is started whose worker process is killed as it passes: all of them at the same time. Their
journals equal that of the undisturbed run.

The workers' TTL is longer than the test: only by its lock can a worker be found dead.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
import pytest

from celery_durable.run import Run
from tests.apps.every_node import AFTER, BEFORE, CONFIG, INSIDE, TABLES
from tests.brokers import every_node
from tests.brokers.every_node import APP, ENDS_WITHIN, SHIPPED, UNDO, UNDONE
from tests.brokers.shop import Shop
from tests.services import conninfo

pytestmark = pytest.mark.parametrize("shop", ["redis", "rabbitmq"], indirect=True)

SETTINGS = {"durable_worker_ttl": 3 * ENDS_WITHIN, "durable_max_crashes": 100}


@dataclass(frozen=True, slots=True)
class Death:
    """Where the worker of a run dies."""

    ending: str
    point: str
    moment: str


@pytest.fixture
def _workers(shop: Shop) -> None:
    every_node.prepare(shop, TABLES)
    shop.cluster.env[CONFIG] = json.dumps(SETTINGS)
    for _ in range(2):
        shop.worker(APP, concurrency=3, ready=False)
    shop.cluster.wait_ready()


@pytest.mark.usefixtures("_workers")
def test_a_run_killed_at_any_of_its_commits_ends_like_an_undisturbed_one(shop: Shop) -> None:
    undisturbed = dict(zip(ENDINGS, every_node.start(shop, list(ENDINGS.values())), strict=True))
    every_node.see_through(shop, undisturbed.values())
    expected = {ending: every_node.account(shop, run) for ending, run in undisturbed.items()}
    deaths = deaths_of(shop, undisturbed)
    assert_every_part_is_in(deaths)

    runs = start_doomed(shop, deaths)
    every_node.see_through(shop, runs)

    assert survivors(shop) == []
    for death, run in zip(deaths, runs, strict=True):
        assert every_node.account(shop, run) == expected[death.ending], death
        every_node.assert_undone_in_reverse(shop, run)
        assert_transactional_once(shop, run, death)
    print(f"{shop.broker.name}: {len(deaths)} kills")  # noqa: T201 - pytest -rP


ENDINGS = {"shipped": SHIPPED, "undone": UNDONE}


def deaths_of(shop: Shop, undisturbed: dict[str, Run]) -> list[Death]:
    """Each moment that the undisturbed runs have passed, in the first run that has it."""
    found: dict[tuple[str, str], Death] = {}
    for ending, run in undisturbed.items():
        passed = shop.query("SELECT point, moment FROM passing WHERE root = %s ORDER BY id", run.id)
        assert len(passed) == len(set(passed))
        for point, moment in passed:
            found.setdefault((point, moment), Death(ending, point, moment))
    return list(found.values())


def assert_every_part_is_in(deaths: Sequence[Death]) -> None:
    """The points are those of the whole workflow, and both ends of each transaction are in."""
    moments = {moment: {d.point for d in deaths if d.moment == moment} for moment in MOMENTS}
    assert moments[BEFORE] == moments[AFTER]
    within = {point.partition(",")[0] for point in moments[INSIDE]}
    assert within == {
        "every_node.book",
        f"every_node.book{UNDO}",
        "every_node.checks#customs",
        "every_node.payment",
        "every_node.fulfil",
        f"every_node.fulfil{UNDO}",
    }
    kinds = {point.rpartition(" ")[2] for point in moments[BEFORE]}
    assert kinds == {"Move", "Park", "Fork", "Leave", "End"}


MOMENTS = (BEFORE, INSIDE, AFTER)


def start_doomed(shop: Shop, deaths: Sequence[Death]) -> list[Run]:
    """A run for each death; both are in the database at the same time."""
    with psycopg.connect(conninfo(shop.database_url)) as connection:
        runs = shop.durable.start_many(
            "every_node", [ENDINGS[death.ending] for death in deaths], session=connection
        )
        for death, run in zip(deaths, runs, strict=True):
            connection.execute(
                "INSERT INTO doom (root, point, moment) VALUES (%s, %s, %s)",
                (run.id, death.point, death.moment),
            )
    return runs


def survivors(shop: Shop) -> list[tuple[str, str]]:
    """Where nobody has died."""
    return [(p, m) for p, m in shop.query("SELECT point, moment FROM doom WHERE killed IS NULL")]


def assert_transactional_once(shop: Shop, run: Run, death: Death) -> None:
    """What a transactional step writes is there once, wherever its worker was killed (P6)."""
    done = [unit for workflow, unit in every_node.done(shop, run) if workflow == "every_node"]
    assert done.count("book") == 1, death
    assert done.count(f"book{UNDO}") == (death.ending == "undone"), death

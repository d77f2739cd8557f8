"""SIGKILL at each commit point of a workflow with every kind of node (P1, P2, P3, P5, P8).

Two runs that nobody disturbs say which points there are. Then runs are started, all at the same
time, whose worker processes are killed as they pass these points: a moment of each point is the
death of a process, in the long form each moment, and a run meets a few of them, far apart. In the
end their journals equal those of the undisturbed runs.

The workers' TTL is longer than the test: only by its lock can a worker be found dead.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
import pytest

from celery_durable.run import Run
from tests.addresses import conninfo
from tests.apps.every_node import AFTER, BEFORE, CONFIG, INSIDE, TABLES
from tests.brokers import every_node
from tests.brokers.every_node import APP, ENDS_WITHIN, SHIPPED, UNDO, UNDONE
from tests.brokers.shop import Shop
from tests.forms import short_or_long

pytestmark = pytest.mark.parametrize(
    "shop", short_or_long(["rabbitmq"], ["redis", "rabbitmq"]), indirect=True
)

# Each run is struck at commits of its own.
SETTINGS = {
    "durable_worker_ttl": 3 * ENDS_WITHIN,
    "durable_max_crashes": 100,
    "durable_bundle": 1,
}


DEATHS_OF_A_RUN = 3

Moment = tuple[str, str]
"""A commit point, and whether before, inside or after it."""


@dataclass(frozen=True, slots=True)
class Fate:
    """How a run is to end, and where its workers die."""

    ending: str
    deaths: Sequence[Moment]


@pytest.fixture
def _workers(shop: Shop) -> None:
    every_node.prepare(shop, TABLES)
    shop.cluster.env[CONFIG] = json.dumps(SETTINGS)
    shop.workers({}, {}, app=APP, concurrency=3)


@pytest.mark.usefixtures("_workers")
def test_a_run_killed_at_any_of_its_commits_ends_like_an_undisturbed_one(shop: Shop) -> None:
    undisturbed = dict(zip(ENDINGS, every_node.start(shop, list(ENDINGS.values())), strict=True))
    every_node.see_through(shop, undisturbed.values())
    expected = {ending: every_node.account(shop, run) for ending, run in undisturbed.items()}
    passed = passed_by(shop, undisturbed)
    assert_every_part_is_in([moment for moments in passed.values() for moment in moments])
    fates = fates_of(passed)

    runs = start_doomed(shop, fates)
    every_node.see_through(shop, runs)

    assert survivors(shop) == []
    for fate, run in zip(fates, runs, strict=True):
        assert every_node.account(shop, run) == expected[fate.ending], fate
        every_node.assert_undone_in_reverse(shop, run)
        assert_transactional_once(shop, run, fate)
    deaths = sum(len(fate.deaths) for fate in fates)
    print(f"{shop.broker.name}: {deaths} deaths")  # noqa: T201 - pytest -rP


ENDINGS = {"shipped": SHIPPED, "undone": UNDONE}


def passed_by(shop: Shop, undisturbed: dict[str, Run]) -> dict[str, list[Moment]]:
    """The moments that each undisturbed run has passed, without those of the one before."""
    found: dict[str, list[Moment]] = {}
    known: set[Moment] = set()
    for ending, run in undisturbed.items():
        rows = shop.query("SELECT point, moment FROM passing WHERE root = %s ORDER BY id", run.id)
        passed = [(point, moment) for point, moment in rows]
        assert len(passed) == len(set(passed))
        found[ending] = [moment for moment in passed if moment not in known]
        known.update(passed)
    return found


def fates_of(passed: dict[str, list[Moment]]) -> list[Fate]:
    """Every moment is in one of them, or of every point a moment in the short form."""
    fates: list[Fate] = []
    for ending, moments in passed.items():
        deaths = short_or_long(one_of_each(moments), moments)
        runs = -(-len(deaths) // DEATHS_OF_A_RUN)
        fates += [Fate(ending, deaths[n::runs]) for n in range(runs)]
    return fates


def one_of_each(passed: Sequence[Moment]) -> list[Moment]:
    """One moment of each point, and of points one after the other a different one."""
    moments: dict[str, list[str]] = {}
    for point, moment in passed:
        moments.setdefault(point, []).append(moment)
    return [(point, at[n % len(at)]) for n, (point, at) in enumerate(moments.items())]


def assert_every_part_is_in(passed: Sequence[Moment]) -> None:
    """The points are those of the whole workflow; what takes two statements is cut in between."""
    moments = {at: {point for point, moment in passed if moment == at} for at in MOMENTS}
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


def start_doomed(shop: Shop, fates: Sequence[Fate]) -> list[Run]:
    """A run for each fate; both are in the database at the same time."""
    with psycopg.connect(conninfo(shop.database_url)) as connection:
        inputs = [ENDINGS[fate.ending] for fate in fates]
        runs = shop.durable.start_many("every_node", inputs, session=connection)
        for fate, run in zip(fates, runs, strict=True):
            for point, moment in fate.deaths:
                connection.execute(
                    "INSERT INTO doom (root, point, moment) VALUES (%s, %s, %s)",
                    (run.id, point, moment),
                )
    return runs


def survivors(shop: Shop) -> list[Moment]:
    """Where nobody has died."""
    return [(p, m) for p, m in shop.query("SELECT point, moment FROM doom WHERE killed IS NULL")]


def assert_transactional_once(shop: Shop, run: Run, fate: Fate) -> None:
    """What a transactional step writes is there once, wherever its worker was killed (P6)."""
    done = [unit for workflow, unit in every_node.done(shop, run) if workflow == "every_node"]
    assert done.count("book") == 1, fate
    assert done.count(f"book{UNDO}") == (fate.ending == "undone"), fate

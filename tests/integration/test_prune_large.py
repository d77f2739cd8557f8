"""Trees and runs that are too large for one transaction, and pruners that die or meet."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from celery_durable import Durable
from celery_durable.background import pruning
from celery_durable.background.pruning import Pruner, ages_of
from celery_durable.core.retention import Retention
from celery_durable.errors import DatabaseUnavailable
from tests.integration.driving import World, all_at_once
from tests.integration.pruned import NOTHING, Past

SMALL = 20
"""Rows of a transaction; what has more is large."""


@pytest.fixture
def past(world: World) -> Past:
    return Past(world)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction deletes more than a few rows, however quick it was."""
    for name in ("FEWEST", "FIRST_ROWS", "MOST"):
        monkeypatch.setattr(pruning, name, SMALL)


def pruner(durable: Durable) -> Pruner:
    return Pruner(durable.database, ages_of(Retention()))


def large_trees(past: Past) -> int:
    """Some that are wide, deep, or have long journals; how many runs they have."""
    wide, deep = past.run(), past.chain(40, units=3)
    wide_below = past.runs(30, parent=wide, units=2)
    past.runs(50, parent=wide_below[7], units=3)
    past.runs(30, parent=deep[20])
    past.run(units=500)
    past.run(units=500, parent=past.run(units=5))
    past.runs(10)
    past.note_wholes()
    return len(past.left())


@pytest.mark.usefixtures("small")
def test_trees_of_any_size_go_as_a_whole(world: World, past: Past) -> None:
    runs = large_trees(past)
    durable = world.worker()
    assert durable.prune(dry_run=True) == runs
    assert durable.prune() == runs
    assert past.rows() == NOTHING


@pytest.mark.usefixtures("small")
def test_a_transaction_deletes_only_so_many_rows(world: World, past: Past) -> None:
    large_trees(past)

    def rows() -> int:
        now = past.rows()
        return now["run"] + now["journal"]

    before = rows()
    for _ in pruner(world.worker()).prune():
        now = rows()
        assert before - now <= SMALL
        before = now
    assert before == 0


@pytest.mark.usefixtures("small")
def test_nobody_ever_sees_half_a_run(world: World, past: Past) -> None:
    """Whoever finds a run finds its journal, and all runs below it."""
    large_trees(past)
    steps = 0
    for _ in pruner(world.worker()).prune():
        steps += 1
        assert past.halves() == 0
    assert steps > 100


@pytest.mark.usefixtures("small")
def test_whoever_prunes_next_goes_on_where_another_has_died(world: World, past: Past) -> None:
    """After each transaction that there is."""
    runs = large_trees(past)
    durable, pruned = world.worker(), 0
    while (before := past.rows()) != NOTHING:
        for gone in pruner(durable).prune():
            pruned += gone
            if past.rows() != before:
                break  # it is never asked for more
        else:
            pytest.fail(f"nothing goes of {before}")
    assert pruned == runs


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("table", ["durable_run", "durable_journal"])
def test_a_connection_that_is_lost_in_the_middle_loses_nothing_else(
    world: World, past: Past, table: str
) -> None:
    """What its transaction has deleted is there again."""
    runs = large_trees(past)
    durable, told, deaths = world.worker(), 0, 0
    # A sequence goes on where a transaction is rolled back.
    world.rows("CREATE SEQUENCE of_the_test")
    kill = (
        "IF nextval('of_the_test') % 37 = 0 THEN"
        " PERFORM pg_terminate_backend(pg_backend_pid()); END IF;"
    )
    world.trigger(f"AFTER DELETE ON {table}", kill)
    while past.rows() != NOTHING:
        try:
            for gone in pruner(durable).prune():
                told += gone
        except DatabaseUnavailable:
            assert past.halves() == 0
            deaths += 1
    assert told == runs
    assert deaths > 3


@pytest.mark.usefixtures("small")
def test_any_number_may_prune_at_once(world: World, past: Past) -> None:
    """Together they delete each run once; what one has locked the others leave to it."""
    runs = large_trees(past) + len(past.runs(300, units=3))
    pruners = [world.worker() for _ in range(4)]
    pruned = sum(all_at_once([one.prune for one in pruners]))
    pruned += pruners[0].prune()
    assert pruned == runs
    assert past.rows() == NOTHING


def test_a_run_of_ten_thousand_units(world: World, past: Past) -> None:
    past.run(units=10_000)
    durable = world.worker()
    assert durable.prune() == 1
    assert past.rows() == NOTHING


def test_a_map_of_ten_thousand_child_runs(world: World, past: Past) -> None:
    past.runs(10_000, parent=past.run(), units=2)
    durable = world.worker()
    assert durable.prune(dry_run=True) == 10_001
    assert durable.prune() == 10_001
    assert past.rows() == NOTHING


@pytest.mark.usefixtures("small")
def test_a_large_tree_stays_while_one_of_its_runs_is_unfinished(world: World, past: Past) -> None:
    top = past.run()
    below = past.runs(50, parent=top)
    past.run(parent=below[-1], days=None)
    before = past.rows()
    durable = world.worker()
    assert durable.prune() == durable.prune(dry_run=True) == 0
    assert past.rows() == before


@pytest.mark.usefixtures("small")
def test_a_large_tree_stays_while_a_fork_of_one_of_its_runs_is_there(
    world: World, past: Past
) -> None:
    top = past.run()
    below = past.runs(50, parent=top)
    fork = past.run(forked_from=below[-1], days=1)
    before = past.rows()
    durable = world.worker()
    assert durable.prune() == 0
    assert past.rows() == before
    past.age(fork)
    assert durable.prune() == 52


@pytest.mark.usefixtures("small")
def test_a_child_that_is_forked_after_its_parent_has_gone_stays(world: World, past: Past) -> None:
    """It is whole, and so are the runs below it; they go when the fork has gone."""
    top = past.run()
    child, *_ = past.runs(50, parent=top)
    past.runs(50, parent=child)
    past.note_wholes()
    durable = world.worker()
    pruning_now = pruner(durable).prune()
    while top in past.left():
        next(pruning_now)
    fork = past.run(forked_from=child, days=1)
    past.note_wholes()
    for _ in pruning_now:
        pass

    assert past.halves() == 0
    assert len(past.left()) == 52
    assert past.rows()["leftover"] == 1
    past.age(fork)
    assert durable.prune() == 52
    assert past.rows() == NOTHING


@pytest.mark.usefixtures("small")
def test_large_trees_that_stay_hide_nothing_behind_them(world: World, past: Past) -> None:
    for _ in range(3):
        top = past.run(days=300)
        past.runs(50, parent=top)
        past.run(parent=top, days=None)
        past.run(days=300, forked_from=None, units=1)
    kept = len(past.left()) - 3
    past.runs(5, days=200)
    assert world.worker().prune() == 8
    assert len(past.left()) == kept


def deleted_together(durable: Durable) -> Sequence[int]:
    """How many runs each transaction deletes."""
    return [*pruner(durable).prune()]


def test_small_runs_go_many_at_a_time(world: World, past: Past) -> None:
    past.runs(1000)
    assert len(deleted_together(world.worker())) < 200

"""Which runs are deleted after their end, and which are not."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from celery_durable import Durable, RunNotFound
from celery_durable.errors import ConfigurationError
from tests.integration.driving import World
from tests.integration.pruned import NOTHING, Past


@pytest.fixture
def past(world: World) -> Past:
    return Past(world)


def test_a_run_goes_with_all_that_belongs_to_it(world: World, past: Past) -> None:
    def define(durable: Durable) -> None:
        child = durable.workflow("child").step(lambda _: 1, name="one")
        mapped = durable.workflow("w").map("m", over=lambda _: [1, 2, 3], handler=child)
        mapped.step(lambda _: 2, name="two")

    worker = world.worker(define)
    run, other = worker.start("w", {}), worker.start("w", {})
    world.drain(worker)
    token = uuid4()
    world.rows(
        "INSERT INTO durable_token (id, run_id, node, unit, queue, fence)"
        " VALUES (%s, %s, 'a', 'a', 'durable', %s)",
        *(token, run.id, uuid4()),
    )
    world.rows("INSERT INTO durable_item VALUES (%s, 0, '1')", token)
    world.rows("INSERT INTO durable_inbox (run_id, kind, name) VALUES (%s, 'signal', 'x')", run.id)
    world.rows(
        "INSERT INTO durable_outbox (task, args, options, run_id, token_id, fence)"
        " VALUES ('durable.advance', '[]', '{}', %s, %s, %s)",
        *(run.id, token, token),
    )
    past.age(run.id)

    assert worker.prune() == 4
    with pytest.raises(RunNotFound):
        run.status()
    assert len(other.result()["m"]) == 3
    past.age(other.id)
    assert worker.prune() == 4
    assert past.rows() == NOTHING
    assert world.hints() == 0


def test_a_task_that_a_unit_has_sent_stays_in_the_outbox(world: World, past: Past) -> None:
    """It is due later than its run is kept."""
    world.rows(
        "INSERT INTO durable_outbox (task, args, options, run_id, available_at)"
        " VALUES ('remind', '[]', '{}', %s, now() + interval '1 year')",
        past.run(),
    )
    assert world.worker().prune() == 1
    assert world.hints() == 1


def test_each_status_has_an_age_of_its_own(world: World, past: Past) -> None:
    by_default = {"completed": 30, "failed": 90, "cancelled": 90}
    young = [past.run(status=one, days=days - 1) for one, days in by_default.items()]
    for one, days in by_default.items():
        past.run(status=one, days=days + 1)
    assert world.worker().prune() == 3
    assert past.left() == {*young}


def test_none_keeps_runs_for_ever(world: World, past: Past) -> None:
    failed = past.run(status="failed", days=5000)
    completed = past.run(days=5000)
    assert world.worker(retention=None).prune() == 0
    assert world.worker(retention={"failed": None}).prune() == 1
    assert past.left() == {failed}
    assert completed not in past.left()


def test_an_age_goes_before_the_setting(world: World, past: Past) -> None:
    young = past.run(days=6)
    past.run(days=8)
    past.run(days=8, status="failed")
    durable = world.worker(retention=None)
    assert durable.prune(older_than=timedelta(days=7)) == 2
    assert past.left() == {young}
    assert durable.prune(older_than=0) == 1


def test_only_runs_of_the_status_that_is_asked_for_go(world: World, past: Past) -> None:
    completed = past.run()
    past.run(status="failed")
    assert world.worker().prune(status="failed") == 1
    assert past.left() == {completed}


def test_an_unfinished_run_stays_however_old(world: World, past: Past) -> None:
    run = past.run(days=None)
    durable = world.worker()
    assert durable.prune(older_than=0) == 0
    assert past.left() == {run}


@pytest.mark.parametrize("status", ["running", "pending", "complete"])
def test_a_status_in_which_no_run_has_ended_is_refused(
    world: World, past: Past, status: str
) -> None:
    run = past.run()
    with pytest.raises(ConfigurationError, match="status= takes the status of runs that have"):
        world.worker().prune(older_than=0, status=status)  # type: ignore[arg-type]
    assert past.left() == {run}


@pytest.mark.parametrize("wrong", [{"older_than": -1}, {"older_than": "1d"}, {"dry_run": 1}])
def test_wrong_arguments_are_refused_and_nothing_goes(
    world: World, past: Past, wrong: Mapping[str, float]
) -> None:
    run = past.run()
    with pytest.raises(ConfigurationError):
        world.worker().prune(**wrong)  # type: ignore[arg-type]
    assert past.left() == {run}


def test_a_dry_run_counts_and_deletes_nothing(world: World, past: Past) -> None:
    top = past.run()
    past.runs(3, parent=top)
    past.run(days=1)
    before = past.rows()
    assert world.worker().prune(dry_run=True) == 4
    assert past.rows() == before


def test_a_child_of_an_unfinished_parent_stays(world: World, past: Past) -> None:
    """The parent may yet read its result, or undo it."""
    parent = past.run(days=None)
    child = past.run(parent=parent)
    durable = world.worker()
    assert durable.prune(older_than=0) == durable.prune(older_than=0, dry_run=True) == 0
    assert past.left() == {parent, child}


def test_a_child_of_a_parent_that_is_not_old_enough_stays(world: World, past: Past) -> None:
    """The parent's result is made of it."""
    parent = past.run(days=1)
    child = past.run(parent=parent)
    durable = world.worker()
    assert durable.prune() == durable.prune(dry_run=True) == 0
    assert past.left() == {parent, child}


def test_a_child_goes_with_its_parent_however_young(world: World, past: Past) -> None:
    past.run(parent=past.run(), days=1, status="failed")
    assert world.worker(retention={"failed": None}).prune() == 2
    assert past.rows() == NOTHING


def test_a_parent_stays_while_a_run_far_below_it_is_unfinished(world: World, past: Past) -> None:
    chain = past.chain(5)
    past.run(parent=chain[2])
    last = past.run(parent=chain[-1], days=None)
    durable, before = world.worker(), past.left()
    assert durable.prune() == durable.prune(dry_run=True) == 0
    assert past.left() == before
    world.rows(
        "UPDATE durable_run SET status = 'completed', finished_at = now() WHERE id = %s", last
    )
    assert durable.prune() == len(before)


def test_a_run_that_another_was_forked_from_stays(world: World, past: Past) -> None:
    """The fork reads its results."""
    origin = past.run(status="failed")
    fork = past.run(forked_from=origin, days=1)
    durable = world.worker()
    assert durable.prune() == durable.prune(dry_run=True) == 0
    assert past.left() == {origin, fork}


def test_an_unfinished_fork_keeps_all_that_it_was_forked_from(world: World, past: Past) -> None:
    first = past.run(status="failed")
    second = past.run(status="failed", forked_from=first)
    third = past.run(forked_from=second, days=None)
    assert world.worker().prune(older_than=0) == 0
    assert past.left() == {first, second, third}


def test_the_newest_fork_goes_first_and_then_the_older_ones(world: World, past: Past) -> None:
    """In one call, whichever ended first."""
    first = past.run(status="failed", days=400)
    second = past.run(status="failed", forked_from=first, days=300)
    third = past.run(forked_from=second, days=200)
    past.run(forked_from=third, days=500)
    durable = world.worker()
    assert durable.prune(dry_run=True) == 4
    assert durable.prune() == 4
    assert past.rows() == NOTHING


def test_the_fork_of_a_child_keeps_the_whole_tree(world: World, past: Past) -> None:
    chain = past.chain(3)
    fork = past.run(forked_from=chain[2], days=1)
    durable, before = world.worker(), past.left()
    assert durable.prune() == durable.prune(dry_run=True) == 0
    past.age(fork)
    assert durable.prune(dry_run=True) == len(before)
    assert durable.prune() == len(before)


def test_a_fork_in_its_own_tree_goes_with_it(world: World, past: Past) -> None:
    top = past.run()
    child = past.run(parent=top, status="failed")
    past.run(parent=top, forked_from=child)
    past.run(parent=child, forked_from=top)
    assert world.worker().prune() == 4
    assert past.rows() == NOTHING


@dataclass
class Node:
    """A run of a random forest, as a test knows it."""

    id: UUID
    is_finished: bool
    is_old: bool
    below: list[Node] = field(default_factory=list)
    forks: list[Node] = field(default_factory=list)
    is_top: bool = True

    def may_go(self) -> bool:
        """The rule, of a run at the top of a tree."""
        return self.is_old and all(
            one.is_finished and all(fork.may_go() for fork in one.forks) for one in self.tree()
        )

    def tree(self) -> list[Node]:
        return [self, *(one for child in self.below for one in child.tree())]


def forest(past: Past, chance: random.Random) -> list[Node]:
    """Trees at random, of old and young runs, some of which were forked from others."""
    nodes: list[Node] = []
    for _ in range(25):
        parent = chance.choice(nodes) if nodes and chance.random() < 0.6 else None
        origin = chance.choice(nodes) if nodes and not parent and chance.random() < 0.6 else None
        is_finished, is_old = chance.random() < 0.93, chance.random() < 0.8
        days = (100 if is_old else 1) + chance.random() if is_finished else None
        run = past.run(
            days=days,
            parent=parent.id if parent else None,
            forked_from=origin.id if origin else None,
        )
        made = Node(run, is_finished, is_finished and is_old, is_top=parent is None)
        if parent:
            parent.below.append(made)
        if origin:
            origin.forks.append(made)
        nodes.append(made)
    return nodes


@pytest.mark.parametrize("seed", range(20))
def test_what_goes_is_what_the_rule_says_in_any_forest(world: World, past: Past, seed: int) -> None:
    nodes = forest(past, random.Random(seed))
    gone = {one.id for top in nodes if top.is_top and top.may_go() for one in top.tree()}
    durable = world.worker()
    assert durable.prune(dry_run=True) == len(gone)
    assert durable.prune() == len(gone)
    assert past.left() == {one.id for one in nodes} - gone

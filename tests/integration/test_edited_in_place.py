"""P10: under one version, runs of the definition as it was and as it is; each goes its way."""

from __future__ import annotations

import time
from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.engine.compatibility import LOOK_AGAIN_AFTER
from celery_durable.worker.bootsteps import store_plans
from tests.integration.driving import World, defining, noting
from tests.integration.test_definitions import at
from tests.integration.test_definitions_deploys import every_node
from tests.integration.test_reordered_nodes import ordered
from tests.timekeeping import Clock


@pytest.mark.parametrize("old_run", ["is there", "has ended"])
def test_runs_of_the_new_definition_pass_where_old_ones_were_left_alone(
    world: World, old_run: str
) -> None:
    """P10: by a process that has met an old run there before."""
    log: list[str] = []
    stranded = at(world, defining(log, "a", "b"), 1)
    new = world.worker(defining(log, "a", "x", "b"))
    world.drain(new)
    assert stranded.status().current == ("b",)
    if old_run == "has ended":
        world.let_time_pass(100)
        world.drain(world.worker(defining(log, "a", "b")))
        assert stranded.status().status == "completed"
        assert log == ["a", "b"]
    log.clear()

    run = new.start("w", {})
    world.drain(new)

    assert log == ["a", "x", "b"]
    assert run.status().status == "completed"
    world.let_time_pass(100)
    world.drain(new)
    assert stranded.status().status == ("running" if old_run == "is there" else "completed")


def test_a_node_of_another_kind_is_passed_once_no_run_stands_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P10: nor does a process have to be restarted for it."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    log: list[str] = []
    stranded = at(world, lambda d: d.workflow("w").step(noting(log, "a")).sleep("b", 60), 1)
    new = world.worker(defining(log, "a", "b"))
    world.let_time_pass(100)
    world.drain(new)
    assert log == ["a"]
    stranded.cancel()
    world.drain(new)

    client = world.worker()  # who knows the definition stores it
    first = client.start("w", {})
    world.drain(new)
    assert first.status().current == ("b",), "whether it is an old one's sleep nobody can tell"
    first.cancel()
    world.let_time_pass(100)
    world.drain(new)
    clock.now += LOOK_AGAIN_AFTER
    second = client.start("w", {})
    world.drain(new)
    assert second.status().status == "completed"


def test_new_runs_pass_where_one_of_another_order_was_met(world: World) -> None:
    """P10, P3"""
    log: list[str] = []
    old = world.worker(ordered(log, "abcd", transactional=False), inline_steps=1)
    new = world.worker(ordered(log, "acbd", transactional=False), inline_steps=1)
    met = old.start("w", {})
    store_plans(old)
    new.engine.offers()
    token_id = world.token_id(met)
    for worker in (old, old, new, new):
        worker.engine.advance(token_id)
        world.let_time_pass(60)
    world.lose_hints()
    log.clear()

    run = new.start("w", {})
    world.drain(new)

    assert log == ["a", "c", "b", "d"]
    assert run.status().status == "completed"
    assert met.status().status == "running"


def test_a_run_has_come_its_own_way_wherever_it_stands(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward and back, through every kind of node."""
    durable = world.worker(every_node, inline_steps=1)
    seen = everything_parked(durable, monkeypatch)
    run = durable.start("w", {})
    run.resume("signal", 1)
    for _ in range(20):
        world.drain(durable)
        world.let_time_pass(100)
    assert run.status().status == "failed"
    assert world.one("SELECT count(*) FROM durable_token") == 0
    assert {"map", "route", "loop", "cascade", "last", "#rollback"} <= seen


def everything_parked(durable: Durable, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Have every place be one that some run cannot go on from; where tokens stood then."""
    knowledge = durable.engine._compatibility
    seen: set[str] = set()

    def unfit_nodes_of(_: Any) -> Any:
        class Everything:
            def __contains__(self, node: str) -> bool:
                seen.add(node)
                return True

        return Everything()

    monkeypatch.setattr(knowledge, "_unfit_nodes_of", unfit_nodes_of)
    return seen

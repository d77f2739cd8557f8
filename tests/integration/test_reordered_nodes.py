"""Nodes that stand in another order under the same version, in workers that work side by side."""

from __future__ import annotations

import logging

import pytest

from celery_durable import Durable
from celery_durable.worker.bootsteps import store_plans
from tests.integration.driving import Define, World, noting


def ordered(log: list[str], names: str, *, transactional: bool) -> Define:
    def define(durable: Durable) -> None:
        workflow = durable.workflow("w")
        for name in names:
            workflow.step(noting(log, name), transactional=transactional and name == "b")

    return define


@pytest.mark.parametrize("transactional", [False, True])
def test_a_recorded_unit_is_met_once_and_then_left_alone(
    world: World, caplog: pytest.LogCaptureFixture, *, transactional: bool
) -> None:
    """P3, P10: who has the other order cannot know, until the journal tells it."""
    log: list[str] = []
    old = world.worker(ordered(log, "abcd", transactional=transactional), inline_steps=1)
    new = world.worker(ordered(log, "acbd", transactional=transactional), inline_steps=1)
    run = old.start("w", {})
    for worker in (old, new):
        store_plans(worker)
        worker.engine.offers()  # as a worker does that registers: nothing stands in the way yet
    token_id = world.token_id(run)
    for worker in (old, old, new):
        worker.engine.advance(token_id)
        world.let_time_pass(60)
    assert world.units(run) == ["a completed", "b completed", "c completed"]

    for _ in range(5):
        new.engine.advance(token_id)
        world.let_time_pass(60)

    assert log == ["a", "b", "c", "b"]
    assert world.units(run) == ["a completed", "b completed", "c completed"]
    assert world.status(run) == "running"
    (error,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert "give the changed workflow a version of its own" in error.getMessage()

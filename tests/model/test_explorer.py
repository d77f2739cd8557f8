"""All schedules of small runs, on the real decide, engine and store."""

from __future__ import annotations

import logging
import math
import time

import pytest

from celery_durable.core.status import TRANSITIONS, Status
from tests.forms import of_the_long_form
from tests.integration.test_lifecycle import WITHOUT_A_CLAIM
from tests.model.bench import Bench, Scenario, modelled
from tests.model.explorer import Coverage, Explorer
from tests.model.scenarios import SCENARIOS
from tests.model.stage import Stage
from tests.model.world import Limits

LONGEST = 120.0
"""Seconds for one scenario of the longer form, which may be cut short; the ordinary form is not."""


def explore(
    url: str, stage: Stage, scenario: Scenario, limits: Limits, seconds: float = math.inf
) -> Coverage:
    """Walk a scenario."""
    coverage = Coverage(scenario.name)
    began = time.perf_counter()
    stage.open()
    logging.disable(logging.ERROR)
    try:
        with modelled(scenario):
            Explorer(Bench(url, stage, scenario), coverage, seconds).explore(limits)
    finally:
        logging.disable(logging.NOTSET)
        stage.close()
        coverage.seconds = time.perf_counter() - began
    return coverage


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(one, marks=[of_the_long_form()] if one.is_large else [], id=one.name)
        for one in SCENARIOS
    ],
)
def test_every_schedule_keeps_the_promises(
    model_database_url: str,
    stage: Stage,
    explored: list[Coverage],
    request: pytest.FixtureRequest,
    scenario: Scenario,
) -> None:
    is_longer = request.config.getoption("--model-longer")
    limits = scenario.longer if is_longer and scenario.longer else scenario.limits
    seconds = LONGEST if is_longer else math.inf
    coverage = explore(model_database_url, stage, scenario, limits, seconds)
    explored.append(coverage)
    if not is_longer:
        assert coverage.statuses == scenario.ends, "how the runs can end"


SHOWN_BY = (
    "linear: a unit whose workers die as often as is allowed",
    "run timeout: before a delayed run begins",
    "cancel: before a delayed run begins",
    "cancel: in the caller's transaction",
    "sleep: cancelled",
    "child: it completes",
    "child: cascade",
    "pause: a run that goes straight on",
)
"""Scenarios, small ones, in which between them runs change in every way that takes a claim."""


def test_runs_change_in_every_way_that_the_table_has(model_database_url: str, stage: Stage) -> None:
    """And in no other, which every scenario holds them to."""
    seen: set[tuple[str, str]] = set()
    for scenario in SCENARIOS:
        if scenario.name in SHOWN_BY:
            seen |= explore(model_database_url, stage, scenario, scenario.limits).changes
    allowed = {(before, after) for before in Status for after in TRANSITIONS[before]}
    assert seen | WITHOUT_A_CLAIM == allowed

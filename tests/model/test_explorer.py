"""All schedules of small runs, on the real decide, engine and store."""

from __future__ import annotations

import logging
import math
import time

import pytest

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


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
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

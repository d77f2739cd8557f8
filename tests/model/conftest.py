"""The explorer's database, and what it says at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model.explorer import Coverage
from tests.model.stage import Stage
from tests.services import PostgresServer

SCENARIO_SECONDS = 600

_explored = pytest.StashKey[list[Coverage]]()


@pytest.fixture(scope="module")
def model_database_url(postgres: PostgresServer, template_database: str) -> Iterator[str]:
    """One database for the scenarios, none of which commits anything."""
    with postgres.database("durable_test_model", template_database) as name:
        yield postgres.url(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A scenario computes for as long as it has schedules."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(SCENARIO_SECONDS))


@pytest.fixture
def stage(model_database_url: str) -> Iterator[Stage]:
    stage = Stage(model_database_url)
    yield stage
    stage.raw.close()


@pytest.fixture
def explored(request: pytest.FixtureRequest) -> list[Coverage]:
    """Where explorations are noted for the summary."""
    return request.config.stash.setdefault(_explored, [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """How many states and schedules were covered, per scenario and in all."""
    explored = config.stash.get(_explored, [])
    if not explored:
        return
    terminalreporter.section("model")
    for one in explored:
        terminalreporter.write_line(str(one))
    total = Coverage("total")
    for one in explored:
        total.add(one)
    terminalreporter.write_line(str(total))

"""`durable.reset()` lets a test point the app elsewhere."""

import pytest

from celery_durable import ConfigurationError, Durable, ResultTimeout, RetryPolicy
from celery_durable.core.nodes import StepNode
from celery_durable.worker import process
from tests.integration.driving import World, make_durable, noting
from tests.services import PostgresServer
from tests.waiting import wait_until


@pytest.fixture
def durable(world: World) -> Durable:
    durable = world.worker()
    durable.workflow("w").step(noting([], "a"))
    return durable


def test_the_next_call_goes_to_the_database_that_is_set_then(
    world: World, durable: Durable, postgres: PostgresServer, template_database: str
) -> None:
    run = durable.start("w")
    with postgres.database("durable_test", template_database) as name:
        durable.app.conf.durable_database_url = postgres.url(name)
        assert durable.status(run.id).workflow == "w", "settings are read once"
        durable.reset()
        durable.start("w")
        assert [one.run_id for one in durable.list()] != [run.id]
        assert len(durable.list()) == 1
        durable.reset()
    durable.app.conf.durable_database_url = world.url
    assert [one.run_id for one in durable.list()] == [run.id]


def connections(world: World) -> int:
    """How many others are connected to the database."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    return int(world.one(query))


def test_no_connection_is_left(world: World, durable: Durable) -> None:
    run = durable.start("w")
    durable.engine.advance(world.token_id(run))
    with pytest.raises(ResultTimeout):
        durable.start("w").result(timeout=0.1)
    assert connections(world) > 0
    durable.reset()
    wait_until(lambda: connections(world) == 0)
    assert world.one("SELECT count(*) FROM durable_worker WHERE ended_at IS NULL") == 0


def test_defaults_of_steps_are_read_anew(durable: Durable) -> None:
    (workflow,) = durable.registry
    durable.app.conf.durable_default_retry = RetryPolicy(max_attempts=7)
    durable.reset()
    (step,) = workflow.plan.nodes
    assert isinstance(step, StepNode)
    assert step.retry.max_attempts == 7


def test_a_worker_keeps_its_connections(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    durable = make_durable(world.url)
    monkeypatch.setattr(durable.app, process._ATTRIBUTE, object(), raising=False)
    with pytest.raises(ConfigurationError, match="worker that runs in this process"):
        durable.reset()


def test_a_durable_without_an_app_has_nothing_to_forget() -> None:
    Durable().reset()

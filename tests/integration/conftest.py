"""Fixtures of the tests on a real Postgres."""

import threading
from collections.abc import Iterator

import pytest

from celery_durable.store.connection import Statement
from tests.integration.driving import PATIENCE, World
from tests.integration.relaying import Relays
from tests.integration.watching import Meter, watch
from tests.services import PostgresServer


@pytest.fixture(scope="module")
def module_database_url(postgres: PostgresServer, template_database: str) -> Iterator[str]:
    """One database for the tests of a module, which leave it as they found it."""
    with postgres.database("durable_test", template_database) as name:
        yield postgres.url(name)


@pytest.fixture
def world(module_database_url: str) -> Iterator[World]:
    """An empty database, with `World`'s ways to drive workers on it."""
    world = World(module_database_url)
    try:
        yield world
    finally:
        world.close()


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[Statement]:
    """The statements that the library has executed since the test began, in order."""
    seen: list[Statement] = []
    watch(monkeypatch, lambda executed: seen.append(executed.statement))
    return seen


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Meter:
    meter = Meter()
    watch(monkeypatch, meter.count)
    return meter


@pytest.fixture
def relays(world: World) -> Iterator[Relays]:
    relays = Relays()
    before = set(threading.enumerate())
    yield relays
    for one in relays.made:
        one.stop()
    for thread in set(threading.enumerate()) - before:
        if thread.name not in ("durable-liveness", "durable-lock"):
            thread.join(PATIENCE)
    for one in relays.made:
        one.close()

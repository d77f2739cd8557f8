"""Fixtures of the tests on a real Postgres."""

import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest
import sqlalchemy as sa

from celery_durable.background import recovery
from celery_durable.store.connection import Statement
from tests.faults.proxy import Proxy
from tests.integration.commanding import Cli, called
from tests.integration.driving import PATIENCE, World
from tests.integration.relaying import Relays
from tests.integration.sending import Sender
from tests.integration.watching import Meter, watch
from tests.services import PostgresServer
from tests.timekeeping import Clock
from tests.transports import RabbitMQBroker


@pytest.fixture(scope="module")
def module_database_url(postgres: PostgresServer, template_database: str) -> Iterator[str]:
    """One database for the tests of a module, which leave it as they found it."""
    with postgres.database("durable_test", template_database) as name:
        yield postgres.url(name)


@pytest.fixture
def world(module_database_url: str) -> Iterator[World]:
    """An empty database, with `World`'s ways to drive workers on it."""
    with closing(World(module_database_url)) as world:
        yield world


@pytest.fixture
def fresh(database_url: str) -> Iterator[World]:
    """A world whose database no other test has used or uses."""
    with closing(World(database_url)) as world:
        yield world


@pytest.fixture
def engine(empty_database_url: str) -> Iterator[sa.Engine]:
    """An engine of a database without the library's schema."""
    engine = sa.create_engine(empty_database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def proxy(world: World) -> Iterator[Proxy]:
    """A way to the database of `world` that the test can break."""
    with closing(Proxy(world.url)) as proxy:
        yield proxy


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The one that reapers look at."""
    clock = Clock()
    monkeypatch.setattr(recovery, "time", clock)
    return clock


@pytest.fixture(params=["psycopg", "asyncpg"])
def driver(request: pytest.FixtureRequest) -> str:
    """A driver of SQLAlchemy's that has an asynchronous side."""
    name: str = request.param
    pytest.importorskip(name)
    return name


@pytest.fixture
def log() -> list[str]:
    """What the handlers of a test leave."""
    return []


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`called`, of whatever app."""
    return partial(called, capsys, monkeypatch)


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
        if not thread.name.startswith(("durable-liveness", "durable-lock", "durable-async")):
            thread.join(PATIENCE)
    for one in relays.made:
        one.close()


@pytest.fixture
def sender(world: World, relays: Relays, rabbitmq_broker: RabbitMQBroker) -> Iterator[Sender]:
    """A client that sends ordinary tasks, on RabbitMQ."""
    with closing(Sender(world, relays, rabbitmq_broker)) as sender:
        yield sender

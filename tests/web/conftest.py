"""The page over Starlette's test client, on a real Postgres."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from starlette.testclient import TestClient

from celery_durable import Durable
from celery_durable.store.connection import Statement
from celery_durable.web import Viewer, create_app
from tests.integration.driving import World
from tests.integration.watching import watch
from tests.services import PostgresServer
from tests.web.viewing import SomeoneAt


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
def statements(monkeypatch: pytest.MonkeyPatch) -> list[Statement]:
    """The statements that the library has executed since the test began, in order."""
    seen: list[Statement] = []
    watch(monkeypatch, lambda executed: seen.append(executed.statement))
    return seen


Visit = Callable[..., SomeoneAt]


@pytest.fixture
def visit() -> Iterator[Visit]:
    """Opens the page of a `Durable` for an operator called ann; options are `create_app`'s."""
    with ExitStack() as stack:

        def opened(durable: Durable, **options: Any) -> SomeoneAt:
            if "token" not in options:
                options.setdefault("login", lambda _: Viewer("ann"))
            app = create_app(durable, **options)
            client = TestClient(app, base_url="http://localhost", follow_redirects=False)
            return SomeoneAt(stack.enter_context(client))

        yield opened

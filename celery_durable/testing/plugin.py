"""A pytest plugin: each test gets a database of its own, and runs that it executes itself.

    durable_app            the app under test: a setting of pytest, or a fixture of yours
    durable_server         a Postgres server, for the session
    durable_prepare        a fixture of yours may create tables in the template
    durable_database       the template, made once, which each test gets a copy of
    durable_database_url   the URL of the test's copy
    durable                the app's `Durable`, pointed at the copy
    durable_harness        a `Harness` for it

pytest loads this module wherever the library is installed. So it imports nothing of it until a test
asks for one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from celery_durable.durable import Durable
    from celery_durable.testing.databases import PostgresServer
    from celery_durable.testing.harness import Harness
    from celery_durable.testing.pointing import Template

# ruff: noqa: PLC0415 - see above


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings of pytest."""
    parser.addini("durable_app", 'The app under test, as "module:attribute": "shop:app".')
    parser.addini(
        "durable_server_url",
        "URL of the Postgres server on which tests create databases, and drop them again. Without"
        " it the environment's DURABLE_DATABASE_URL, or an embedded server.",
    )


@pytest.fixture(scope="session")
def durable_app(pytestconfig: pytest.Config) -> Any:
    """The Celery app under test, or its `Durable`. To be overridden, or named in pytest's settings.

    Where neither is done it is Celery's current app, as in a Django project; fails if that has no
    `Durable`.
    """
    from celery_durable.testing.pointing import imported

    return imported(pytestconfig.getini("durable_app"))


@pytest.fixture(scope="session")
def durable_server(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    """The Postgres server: `durable_server_url`, DURABLE_DATABASE_URL, or an embedded one."""
    from celery_durable.testing.pointing import server_at

    with server_at(pytestconfig.getini("durable_server_url")) as server:
        yield server


@pytest.fixture(scope="session")
def durable_prepare() -> Callable[[str], object]:
    """A function of the template's URL that creates tables of your own. To be overridden."""
    return lambda _: None


@pytest.fixture(scope="session")
def durable_database(
    durable_app: Any, durable_server: PostgresServer, durable_prepare: Callable[[str], object]
) -> Iterator[Template]:
    """The template: migrated and prepared once in the session."""
    from celery_durable.testing.pointing import template_of

    with template_of(durable_app, durable_server, durable_prepare) as template:
        yield template


@pytest.fixture
def durable_database_url(durable_database: Template) -> Iterator[str]:
    """The SQLAlchemy URL of a database of this test's own: a copy of the template."""
    with durable_database.copy() as url:
        yield url


@pytest.fixture
def durable(durable_app: Any, request: pytest.FixtureRequest) -> Iterator[Durable]:
    """The app's `Durable`, whose settings point at the database of this test.

    In a Django project that is the one that Django has made: mark the test with
    `django_db(transaction=True)`.
    """
    from celery_durable.testing.pointing import durable_of, pointed_at, reset_around

    found = durable_of(durable_app)
    if found.framework is not None:
        with reset_around(found) as durable:
            yield durable
        return
    with pointed_at(durable_app, request.getfixturevalue("durable_database_url")) as durable:
        yield durable


@pytest.fixture
def durable_harness(durable: Durable) -> Iterator[Harness]:
    """A `Harness` that executes the runs of this test."""
    from celery_durable.testing.harness import Harness

    with Harness(durable) as harness:
        yield harness

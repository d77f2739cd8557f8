"""Points an app at databases that are made for tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import psycopg
from celery import current_app

from celery_durable.durable import Durable
from celery_durable.errors import ConfigurationError
from celery_durable.testing.databases import PostgresServer, embedded_postgres, unique

PREFIX = "durable_test"

URLS = ("durable_database_url", "durable_direct_database_url")


def imported(place: str) -> Any:
    """Return the app at "module:attribute"; where nothing is named, Celery's current app.

    Raises `ConfigurationError` if that has no `Durable`.
    """
    module, _, attribute = place.partition(":")
    if not place and hasattr(current_app, "durable"):
        return current_app
    if not (module and attribute):
        raise ConfigurationError(
            "No app to test is named. Set durable_app in the settings of pytest, as"
            ' "module:attribute", such as "shop:app"; or write a fixture durable_app with'
            ' scope="session".'
        )
    return getattr(import_module(module), attribute)


def durable_of(app: Any) -> Durable:
    """Return the `Durable` of a Celery app; one may be passed itself."""
    durable = app if isinstance(app, Durable) else getattr(app, "durable", None)
    if not isinstance(durable, Durable):
        raise ConfigurationError(
            f"durable_app is {app!r:.80}: it takes a Celery app that has a Durable, or the Durable."
        )
    return durable


@contextmanager
def reset_around(durable: Durable) -> Iterator[Durable]:
    """Yield it with neither settings nor connections of another test, and leave none."""
    durable.reset()
    try:
        yield durable
    finally:
        durable.reset()


@contextmanager
def server_at(url: str | None) -> Iterator[PostgresServer]:
    """Yield the server of `url`, by default of the environment's DURABLE_DATABASE_URL, else an
    embedded one.

    Raises `ConfigurationError` where there is none of these.
    """
    url = url or os.environ.get("DURABLE_DATABASE_URL")
    if url:
        yield PostgresServer(url)
        return
    with embedded_postgres() as server:
        yield server


@dataclass(frozen=True, slots=True)
class Template:
    """A migrated database, to which nobody connects: tests get copies of it."""

    server: PostgresServer
    name: str

    @contextmanager
    def copy(self) -> Iterator[str]:
        """Yield the URL of a copy, which is dropped at the end."""
        with self.server.database(PREFIX, self.name) as name:
            yield self.server.url(name)


@contextmanager
def template_of(
    app: Any, server: PostgresServer, prepare: Callable[[str], object]
) -> Iterator[Template]:
    """Yield a template with the tables of the app, and what `prepare` creates; drop it at the end.

    `prepare` leaves no connection open. Raises `ConfigurationError` if no database can be created.
    """
    name = unique(f"{PREFIX}_template")
    try:
        server.create(name)
    except psycopg.Error as error:
        raise ConfigurationError(
            "No database for tests could be created on the server of durable_server_url, or of"
            f" DURABLE_DATABASE_URL; its role needs CREATEDB: {error}"
        ) from error
    try:
        url = server.url(name)
        with pointed_at(app, url) as durable:
            durable.migrate()
        prepare(url)
        yield Template(server, name)
    finally:
        server.drop(name)


@contextmanager
def pointed_at(app: Any, url: str) -> Iterator[Durable]:
    """Yield the `Durable` of an app, with its settings pointing at `url`; they are put back."""
    durable = durable_of(app)
    conf = durable.app.conf
    before = {name: conf.get(name) for name in URLS}
    durable.reset()
    conf.update(dict.fromkeys(URLS) | {URLS[0]: url})
    try:
        yield durable
    finally:
        durable.reset()
        conf.update(before)

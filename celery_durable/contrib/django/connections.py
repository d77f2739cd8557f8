"""The library's own connections to the database of an alias in Django's DATABASES.

The address is read for each new connection, so that passwords may change, and a test's database is
used from the moment when Django has put it in place of the project's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.utils import Error as DjangoError
from django.utils.connection import ConnectionDoesNotExist

from celery_durable.contrib.django.transaction import DjangoTransaction
from celery_durable.database.address import Parameters, libpq_parameters, parameters_of
from celery_durable.database.connections import Database
from celery_durable.database.pool import Pool, is_alive
from celery_durable.errors import ConfigurationError, nearest
from celery_durable.store.connection import NoSession
from celery_durable.store.sqlstates import raise_known

Place = tuple[object, ...]
"""What tells one database from another: its name, host and port."""


def connection_to(alias: str) -> Any:
    """Return Django's connection of this thread. Raises `ConfigurationError` if it is of no use."""
    try:
        connection = connections[alias]
    except ConnectionDoesNotExist:
        raise ConfigurationError(
            f"DATABASES has no {alias!r}.{nearest(alias, [*connections])} durable_django_alias"
            " names the database that has the tables."
        ) from None
    if connection.vendor != "postgresql":
        raise ConfigurationError(
            f"DATABASES[{alias!r}] is {connection.display_name}, and durable runs need PostgreSQL."
            " Name another alias as durable_django_alias."
        )
    return connection


def place_of(alias: str) -> Place:
    """Return the place of the database that the alias leads to now."""
    settings = connection_to(alias).settings_dict
    options = settings["OPTIONS"]
    return settings["NAME"], settings["HOST"], settings["PORT"], options.get("service")


def parameters_of_alias(alias: str) -> Parameters:
    """Return libpq's parameters for a connection to what the alias leads to."""
    connection = connection_to(alias)
    found = connection.get_connection_params()
    known = libpq_parameters()
    # The others are those of psycopg's `connect`, for Django's cursors and types.
    parameters = {name: value for name, value in found.items() if name in known}
    if role := connection.settings_dict["OPTIONS"].get("assume_role"):
        # https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS
        escaped = role.replace("\\", r"\\").replace(" ", r"\ ")
        parameters["options"] = f"{parameters.get('options', '')} -c role={escaped}".strip()
    return parameters


class DjangoDatabase(Database):
    """The library's own connections to an alias; transactional steps use Django's connection.

    `moved` is called when the alias has come to lead to another database.
    """

    def __init__(
        self,
        alias: str = DEFAULT_DB_ALIAS,
        *,
        direct_url: str | None = None,
        schema: str = "public",
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        connection_to(alias)
        self.alias = alias
        self._place = self._first_place = place_of(alias)
        self._moved = moved
        self._direct_url = direct_url
        super().__init__(
            self._parameters,
            direct_address=self._direct_parameters if direct_url else None,
            schema=schema,
        )

    def _parameters(self) -> Parameters:
        return parameters_of_alias(self.alias)

    def _direct_parameters(self) -> Parameters:
        """Return the direct address; in a test, of the test's database on the same server."""
        assert self._direct_url is not None
        found = parameters_of("durable_direct_database_url", self._direct_url)
        name = place_of(self.alias)[0]
        return found if name == project_names.get(self.alias, name) else {**found, "dbname": name}

    def _pool_of_process(self) -> Pool:
        place = place_of(self.alias)
        if place != self._place:
            with self._lock:
                self._place = place
                self._pool.close()
                self._pool = Pool(self._open)
            self._moved()
        return super()._pool_of_process()

    def refusal(self, function: object) -> str | None:
        """Return why a handler cannot be executed in Django's transaction; None if it can."""
        if inspect.iscoroutinefunction(inspect.unwrap(function) if callable(function) else None):
            return (
                "an async handler's ORM works in another thread, and so in another transaction."
                " Write it without async."
            )
        if not connection_to(self.alias).settings_dict["AUTOCOMMIT"]:
            return (
                f"DATABASES[{self.alias!r}] has AUTOCOMMIT False, with which Django commits nothing"
                " by itself."
            )
        return None

    @contextmanager
    def session(self) -> Iterator[tuple[NoSession, DjangoTransaction]]:
        """Lend Django's connection in a transaction of Django's: only `commit` commits it."""
        connection = connection_to(self.alias)
        if connection.connection is not None and not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
            if connection.connection is not None and not is_alive(connection.connection):
                connection.close()
        try:
            own = DjangoTransaction(connection, self.schema)
        except (DjangoError, psycopg.Error) as error:
            cause = error.__cause__ if isinstance(error, DjangoError) else error
            raise_known(cause, self.schema)
            raise
        no_session = NoSession(
            f"The transaction of this step is Django's: use the ORM, or connections[{self.alias!r}]"
            " of django.db, in place of ctx.session."
        )
        try:
            yield no_session, own
        finally:
            own.end()


project_names: dict[str, object] = {}
"""The names of the databases by alias, as the project has them: a test puts its own in place."""
